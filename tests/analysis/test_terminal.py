"""What reaches a terminal: whole paths at every width, and no command in a name."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from mnist_ff.analysis.console import complain, note, out, printable, tell, tell_lines, tell_table
from mnist_ff.training.checkpoint import CHECKPOINT
from tests.runs.test_foreign import WORDS
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.processes import in_a_terminal
from tests.support.runs import stopped_run
from tests.support.sweep_maker import make_sweep, product, write_run

CONFIG = make_config("data=mnist_5k")
RUN = Path("outputs/2026-11-28_14-05-51_ab12 of mine")
WIDE = Path("outputs/日本語の名前")
SWEEP = Path("outputs/sweeps/2026-11-28_14-05-51_cd34")


@pytest.fixture
def outputs() -> None:
    write_run(RUN, replace(CONFIG, name="a name of some length, which says what was tried"), 0.9)
    write_run(WIDE, CONFIG, 0.8)
    make_sweep(SWEEP, list(product(seed=[0, 1], optimizer__lr=[0.1, 0.2])), lambda _: 0.9)


def shown_at(width: int, *words: str) -> list[str]:
    """The lines that a command prints in a terminal of this width."""
    from mnist_ff import cli

    file = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        made = Console(file=file, width=width, force_terminal=True, color_system=None)
        patch.setattr("rich.console.Console", lambda *given, **keys: made)
        assert cli.main(list(words)) == 0
    return file.getvalue().split("\n")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_sentences_below_a_table_are_broken_between_words(width: int, outputs: None) -> None:
    lines = shown_at(width, "compare", str(SWEEP))
    begin = next(place for place, line in enumerate(lines) if line.startswith("Ranked by"))
    prose = [line for line in lines[begin:] if "outputs/" not in line]
    assert max(map(len, prose)) <= width
    assert "Runs that differ only in their seed are one row: mean ± half its 95 % interval (t)" in " ".join(prose)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_score_status_name_and_path_are_seen_at_every_width(width: int, outputs: None) -> None:
    name = "a name of some length, which says what was tried"
    lines = shown_at(width, "runs")
    assert lines[0].split()[:4] == ["began", "status", "test", "(%)"] or lines[0].split()[:3] == [
        "status",
        "test",
        "(%)",
    ]
    for path, status, score in ((RUN, "finished", "90.00"), (WIDE, "finished", "80.00"), (SWEEP, "4 jobs:", "90.00")):
        (place,) = [number for number, line in enumerate(lines) if line.endswith(str(path))]
        row = next(line for line in reversed(lines[: place + 1]) if status in line)
        assert score in row
    assert sum(name in line for line in lines) == 1
    longest = max(width, len(str(RUN)) + 2, len(name) + 2)
    assert all(cell_len(line) <= longest for line in lines if not line.startswith("Without ")), lines
    assert width not in (40, 80) or any(line.startswith("Without seconds, data") for line in lines)
    lines = shown_at(width, "runs", "--all")
    assert sum(line.endswith(f"{SWEEP}/3") for line in lines) == 1


@pytest.mark.parametrize("width", [40, 80, 200])
def test_path_is_whole_and_last_column(width: int, outputs: None) -> None:
    lines = shown_at(width, "compare", str(RUN), str(SWEEP))
    for path in (str(RUN), f"{SWEEP}/{{0,2}}", f"{SWEEP}/{{1,3}}"):  # as a shell reads it
        assert sum(line.endswith(path) for line in lines) == 1, lines
    table = lines[: next(place for place, line in enumerate(lines) if "{1,3}" in line)]
    assert width < 80 or max(map(len, table[1:])) <= width


def test_a_pipe_gets_all_columns_on_one_line(outputs: None, mnist_ff: Command) -> None:
    deep = Path("outputs", *("x" * 80 for _ in range(3)), "run")
    write_run(deep, replace(CONFIG, name="n" * 150), 0.7)
    lines = mnist_ff("runs")[1].splitlines()
    (line,) = [line for line in lines if line.endswith(str(deep))]
    assert "n" * 150 in line
    assert mnist_ff("compare", str(deep), str(RUN))[1].count(str(deep)) >= 1


def test_a_real_terminal_of_80_columns(outputs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    code, seen = in_a_terminal("runs", columns=80)
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert all(f"{path}\r\n" in plain for path in (RUN, WIDE, SWEEP))


HOSTILE = "\x1b[31mr\x9b2J\u202eed\u200b\u2066x\ufeff\x7f [b] :smile: \udcff"
HARMLESS = " [31mr 2J ed  x   [b] :smile:  "


@pytest.mark.parametrize("how", [tell, tell_lines, lambda console, text: tell_table(console, [text], [[text]])])
def test_every_way_to_print_makes_texts_harmless(how: Callable[[Console, str], object]) -> None:
    file = io.StringIO()
    how(Console(file=file, width=10, force_terminal=True, color_system=None), HOSTILE)
    assert file.getvalue().split("\n")[0] in (HARMLESS, HARMLESS.rstrip())


@pytest.mark.parametrize("how", [note, out, complain])
def test_what_goes_to_the_streams_is_harmless_too(
    how: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    how(HOSTILE)
    assert "".join(capsys.readouterr()) == f"{HARMLESS}\n"


def test_spaces_of_other_widths_stay_in_a_path() -> None:
    assert printable("outputs/手書き\u3000数字\u2028\x1b[1m") == "outputs/手書き\u3000数字  [1m"


def test_a_resume_prints_a_directorys_name_harmless(mnist_ff: Command) -> None:
    run = stopped_run(f"outputs/{HOSTILE[:-1]}", 20, "trainer.epochs=2", "model.hidden=[8]")
    content = bytearray(run.file(CHECKPOINT).read_bytes())
    content[len(content) // 2] ^= 1
    run.file(CHECKPOINT).write_bytes(content)
    code, said, err = mnist_ff("train", f"resume={run.path}")
    assert code == 0, err
    assert f"{HARMLESS[:-1]}/checkpoint.pt: is damaged" in said
    assert not [
        letter for letter in said + run.file("train.log").read_text() if letter not in "\n" and not letter.isprintable()
    ]


@pytest.mark.slow
def test_no_command_prints_a_name_raw(mnist_ff: Command) -> None:
    name = "\x1b]0;x\x07\u202e\u200b[b]"
    assert mnist_ff("train", *WORDS, "hydra.run.dir=run", "name='\u202e\u200b'")[0] == 0
    assert mnist_ff("train", "-m", *WORDS, "seed=0,1", "hydra.sweep.dir=sweep")[0] == 0
    run, sweep = f"outputs/{name}", f"outputs/sweeps/{name}"
    Path("outputs/sweeps").mkdir(parents=True)
    Path("run").rename(run)
    Path("sweep").rename(sweep)
    shutil.rmtree(f"{sweep}/1")
    Path(sweep, "1").symlink_to(Path("outputs").absolute())
    Path(run, "wandb").symlink_to("nowhere")
    bad = Path("outputs", f"bad{name}")
    bad.mkdir()
    (bad / "config.yaml").write_text(f"seed: '{name}'")
    hostile = (
        ["evaluate", run],
        ["evaluate", str(bad)],
        ["evaluate", name],
        ["compare", run, sweep],
        ["compare", sweep],
        ["report", run],
        ["report", sweep],
        ["runs"],
        ["runs", "--all"],
        ["runs", "--json"],
        ["predict", run, "--index", "1"],
        ["predict", run, name],
        ["export", run, "--format", "torch", "--out", f"{name}.pt"],
        ["reproduce", name],
        ["data", name],
        ["data", f"data.root='{name}'"],
        ["lr-find", name],
        ["bench", name],
        [name],
        ["train", name],
        ["train", "data=kmnist", f"data.mirrors=['{name}']"],
        ["train", f"resume={run}", "trainer.epochs=2"],
        ["train", f"resume={sweep}"],
        ["train", "-m", f"resume={sweep}"],
        ["train", "--config-of", run],
        ["train", "--config-of", str(bad)],
        ["train", "resume=last"],
        ["train", *WORDS, f"trainer.teacher='{name}'"],
        ["train", *WORDS, f"hydra.run.dir='{name}'"],
    )
    for words in hostile:
        _, out_, err = mnist_ff(*words)
        assert "Traceback" not in err, (words, err)
        raw = [letter for letter in out_ + err if not letter.isprintable() and letter != "\n"]
        assert not raw, (words, raw)
        assert (out_ + err).strip(), words
    os.unlink(Path(run, "wandb"))
    for words in (["train", f"resume={run}", "trainer.epochs=2"], ["train", f"resume={run}"]):
        _, out_, err = mnist_ff(*words)
        assert not [letter for letter in out_ + err if not letter.isprintable() and letter != "\n"], words
    log = Path(run, "train.log").read_text()
    assert not [letter for letter in log if not letter.isprintable() and letter != "\n"]


def test_a_path_gives_its_room_to_the_keys(outputs: None) -> None:
    lines = shown_at(80, "compare", str(SWEEP), str(RUN))
    assert any("lr" in line for line in lines[:3])
    assert not any("optimizer.lr" in line for line in lines if "lack of space" in line)
    assert any(line.strip() == str(RUN) for line in lines), "on a line of its own"

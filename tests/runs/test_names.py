"""Runs by name: every command takes a run's name, its directory's name, or the four hex digits at its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_ff.commands.completion import candidates
from mnist_ff.config.yaml_io import to_yaml
from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import OUTPUTS
from mnist_ff.runs.names import SCANNED_BYTES, ending_of, name_of
from mnist_ff.runs.resolve import resolve_run
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.sweep_maker import make_sweep, product, write_run

CONFIG = make_config("data=mnist_5k")
WORDS = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "model.hidden=[8]"]


def make(folder: str, name: str | None, at: int = 1000) -> Path:
    path = OUTPUTS / folder
    write_run(path, replace(CONFIG, name=name), 0.9)
    os.utime(path / "config.yaml", (at, at))
    return path


def silent(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


NAMES = [
    "small",
    "two words",
    "-leading",
    "null",
    "yes",
    "0.1",
    "1e-3",
    "lr: 0.1 # no comment",
    "a/b",
    "日本 é",
    "quotes ' and \"",
    "a name that is so long that YAML breaks its line in two, as it does from eighty letters on",
    " ".join(["word"] * 39),
    "[x] {y} & *z !a | > % @ `",
    "\U0001f600",
    " spaces around ",
]


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_an_unknown_run_is_reported_before_torch_is_loaded(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mnist_ff import cli

    monkeypatch.setattr(cli, "_imported", lambda name: pytest.fail("loaded"))
    assert cli.main([command, "nope", "--json"]) == 2
    assert "nope: does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_config_can_hold_is_read(name: str) -> None:
    path = make("x", name)
    assert name_of(path) == name == Run(path).config().name
    assert resolve_run(name, silent) == path


def test_a_path_comes_first_then_last_and_best_then_names() -> None:
    run, called_last = make("a", "small", 5), make("b", "last", 1)
    assert resolve_run("small", silent) == run
    said: list[str] = []
    assert resolve_run("last", said.append) == run != called_last
    Path("small").mkdir()
    assert resolve_run("small", silent) == Path("small")
    Path("small").rmdir()
    Path("small").touch()  # a file is no run: it hides none
    assert resolve_run("small", silent) == run


def test_the_newest_of_several_runs_is_taken_with_a_note() -> None:
    make("a", "small", 1)
    newest = make("b", "small", 3)
    make("c", "small", 2)
    make("d", "smaller", 9)
    said: list[str] = []
    assert resolve_run("small", said.append) == newest
    assert said == [f"small is {newest}: the newest of 3 runs with this name"]


def test_a_directorys_own_name_and_its_ending() -> None:
    run = make("2026-11-24_21-02-24_c5a6", "b")
    assert resolve_run("2026-11-24_21-02-24_c5a6", silent) == run
    assert resolve_run("c5a6", silent) == run
    named = make("x", "c5a6")  # a name comes before an ending
    assert resolve_run("c5a6", silent) == named
    make("2026-11-25_00-00-00_aaaa", None)
    make("2026-11-26_00-00-00_aaaa", None)
    with pytest.raises(BadRunError, match=r"aaaa: is the name of 2 directories .*give the path of one"):
        resolve_run("aaaa", silent)
    assert ending_of(Path("c5a6")) is None


def test_commands_for_sweeps_take_the_name_of_its_jobs(mnist_ff: Command) -> None:
    sweep = OUTPUTS / "sweeps" / "2026-11-24_21-03-02_30a5"
    make_sweep(sweep, list(product(seed=[0, 1])), lambda _: 0.9, "name=wide")
    assert resolve_run("wide", silent, sweeps=True) == sweep
    assert resolve_run("30a5", silent) == sweep
    said: list[str] = []
    assert resolve_run("wide", said.append).parent == sweep
    assert "the newest of 2 runs" in said[0]
    code, out, err = mnist_ff("train", "-m", "resume=wide")
    assert code == 0, err
    assert f"2 jobs in {sweep}, 2 of them already finished" in out


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("smal", "did you mean small?"),
        ("my", 'a name with spaces needs quotes: "my run"'),
        ("2026-11-24_21-02-24_c5a7", "did you mean 2026-11-24_21-02-24_c5a6?"),
        ("zzzzzz", "mnist-ff runs lists them"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(word: str, hint: str, mnist_ff: Command) -> None:
    make("2026-11-24_21-02-24_c5a6", "small")
    make("b", "my run")
    for command in (["evaluate", word], ["compare", "small", word], ["report", word], ["train", f"resume={word}"]):
        code, out, err = mnist_ff(*command)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {word}: does not exist, and no run in outputs/ has this name;"), err
        assert hint in err
        assert len(err.splitlines()) == 1
    teacher = [f"trainer.teacher={word}", "trainer.teacher_weight=0.5"]
    assert f"trainer.teacher={word}: does not exist" in mnist_ff("train", *WORDS, *teacher)[2]


def test_a_name_split_by_the_shell_suggests_quotes(mnist_ff: Command) -> None:
    make("a", "my last run")
    for command in (["evaluate"], ["export"], ["report"], ["compare"], ["predict"]):
        more = {"export": ["--format", "torch"], "predict": ["--index", "0"]}.get(command[0], [])
        code, _, err = mnist_ff(*command, "my", "last", "run", *more)
        assert code == 2
        assert '"my last run"' in err, err
        assert "in quotes" in err or "needs quotes" in err


def test_names_work_in_every_command(mnist_ff: Command) -> None:
    assert mnist_ff("train", *WORDS, "name=two words")[0] == 0
    (run,) = OUTPUTS.iterdir()
    name = "two words"
    for command in (
        ["evaluate", name],
        ["compare", name],
        ["report", name],
        ["predict", name, "--index", "3"],
        ["export", name, "--format", "torch"],
        ["train", f"resume={name}", "trainer.epochs=2"],
        ["train", "--config-of", name],
        ["train", *WORDS, f"trainer.teacher={name}", "trainer.teacher_weight=0.5", "name=pupil"],
    ):
        code, _, err = mnist_ff(*command)
        assert code == 0, (command, err)
    others = {path: Run(path).config() for path in OUTPUTS.iterdir() if path != run}
    assert {config.name for config in others.values()} == {None, "pupil"}, "--config-of copies no name"
    teachers = {config.trainer.teacher for config in others.values()}
    assert teachers == {None, str(run.absolute())}


@pytest.mark.parametrize("before", [["evaluate"], ["compare"], ["report"], ["train", "--config-of"]])
def test_tab_completes_names(before: Sequence[str]) -> None:
    make("a", "my run")
    make("b", "my run")
    make("c", "-x")
    make("d", "\x1b[2J")
    words = candidates(before, "", ["train", "evaluate", "compare", "report"])
    assert words.count("my run ") == 1
    assert not [word for word in words if word.startswith("-") or "\x1b" in word]
    assert candidates(["train"], "resume=m", ["train"]) == ["resume=my run "]
    assert candidates(["train"], "trainer.teacher=m", ["train"]) == ["trainer.teacher=my run "]


def test_hostile_directories_have_no_name(tmp_path: Path) -> None:
    text = to_yaml(replace(CONFIG, name="small"))
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "config.yaml").write_text(text)
    OUTPUTS.mkdir()
    (OUTPUTS / "link").symlink_to(secret)
    for number, content in enumerate(
        [
            b"name: &a small\n",
            b"name: !!python/name:os.system x\n",
            b"#" * SCANNED_BYTES + text.encode(),
            b"name: [small]\n",
            b"\xff",
        ]
    ):
        (OUTPUTS / str(number)).mkdir()
        (OUTPUTS / str(number) / "config.yaml").write_bytes(content)
    (OUTPUTS / "pipe").mkdir()
    os.mkfifo(OUTPUTS / "pipe" / "config.yaml")
    (OUTPUTS / "linked").mkdir()
    (OUTPUTS / "linked" / "config.yaml").symlink_to(secret / "config.yaml")
    with pytest.raises(BadRunError, match="small: does not exist"):
        resolve_run("small", silent)

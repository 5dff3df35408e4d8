"""What is in outputs/: the list of runs, and the words last and best."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnist_ff.config.schema import Config
from mnist_ff.errors import BadRunError
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import OUTPUTS, run_start, sweep_start
from mnist_ff.runs.resolve import resolve_run
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.sweep_maker import make_sweep, product, write_run

CONFIG = make_config("data=mnist_5k")
SPLIT = make_config("data=mnist_5k", "data.validation_split=0.2")
OTHER = make_config("data=mnist")


def make(name: str, config: Config = CONFIG, accuracy: float = 0.9, status: str = "finished", at: int = 1000) -> Path:
    path = OUTPUTS / name
    write_run(path, config, accuracy, status, None if status == "finished" else "a reason")
    os.utime(path / "config.yaml", (at, at))
    return path


def start(path: Path, started: object) -> Path:
    """Write when a run began into its directory."""
    (path / "environment.json").write_text(json.dumps({"started": started, "history": []}, indent=2))
    return path


def test_last_is_the_newest_whatever_its_name_says() -> None:
    make("2026-03-02_10-00-00_aaaa", at=5)
    newest = start(make("2026-01-02_00-00-00_bbbb", at=1), "2026-03-02T10:00:00+00:00")
    make("2026-02-02_00-00-00_cccc", at=9, status="failed")
    said: list[str] = []
    assert resolve_run("last", said.append) == newest
    assert said == [f"last is {newest}: the newest of 3"]
    job = make("sweeps/2026-01-01_00-00-00_dddd/0", at=int(run_start(newest)[0]) + 60)
    assert resolve_run("last", said.append) == job


def test_the_newest_does_not_depend_on_time_zones(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on an hour that a clock shows twice; real runs and sweeps, each begun under another zone."""
    words = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "model.hidden=[8]"]
    for zone in ("Asia/Tokyo", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert mnist_ff("train", *words, "data.validation_split=0")[0] == 0
        assert (
            mnist_ff("train", "-m", *words, "seed=0", f"hydra.sweep.dir=outputs/sweeps/{datetime.now():%Y%m%d-%H}")[0]
            == 0
        )
        time.sleep(1)
    monkeypatch.delenv("TZ")
    time.tzset()
    listed = [value["path"] for value in json.loads(mnist_ff("runs", "--json")[1])]
    names = [path for path in listed if "sweeps" not in path]
    assert names[0] == min(names), "begun last, where clocks show the earliest hour"
    assert len(listed) == 4
    assert [("sweeps" in path) for path in listed] == [True, False] * 2


@pytest.mark.parametrize(
    "started",
    ["10000-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", "2026-03-02T10:00:00", 7, None, [], "now", "-1", ""],
)
def test_impossible_start_falls_back_to_config_time(started: object) -> None:
    assert run_start(start(make("2026-03-02_10-00-00_bbbb", at=7), started)) == (7, 7)


def test_run_without_environment_file_is_ordered() -> None:
    path = make("a", at=7)
    os.mkfifo(path / "environment.json")
    assert run_start(path) == (7, 7)
    (make("b", at=8) / "environment.json").mkdir()
    assert run_start(OUTPUTS / "b") == (8, 8)


def test_a_sweep_began_when_its_jobs_file_says() -> None:
    sweep = OUTPUTS / "sweeps" / "s"
    make_sweep(sweep, list(product(seed=[0, 1])), lambda _: 0.9)
    now = sweep_start(sweep)[0]
    assert abs(now - time.time()) < 60
    jobs = json.loads((sweep / "jobs.json").read_text())
    del jobs["started"]
    (sweep / "jobs.json").write_text(json.dumps(jobs))
    start(sweep / "1", "2026-03-02T10:00:00+09:00")
    os.utime(sweep / "0" / "config.yaml", (2e9, 2e9))
    assert sweep_start(sweep)[0] == datetime(2026, 3, 2, 1, tzinfo=UTC).timestamp()


def test_best_is_the_most_accurate_finished_run() -> None:
    make("a", accuracy=0.90, at=1)
    best = make("b", accuracy=0.95, at=2)
    make("c", accuracy=0.99, status="interrupted", at=3)
    make("d", accuracy=0.93, at=4)
    said: list[str] = []
    assert resolve_run("best", said.append) == best
    assert said == [f"best is {best}: 95.00 % test accuracy, the best of 3 finished on mnist_5k"]


def test_best_uses_validation_where_all_have_it() -> None:
    first, second = make("a", SPLIT, 0.93, at=1), make("b", SPLIT, 0.90, at=2)
    rows = (second / "epochs.csv").read_text().replace("0.905", "0.98")
    (second / "epochs.csv").write_text(rows)
    said: list[str] = []
    assert resolve_run("best", said.append) == second
    assert "98.00 % validation accuracy" in said[0]
    make("c", CONFIG, 0.5, at=3)
    assert resolve_run("best", said.append) == first
    assert "93.00 % test accuracy" in said[1]


def test_best_considers_the_newest_runs_data() -> None:
    make("a", OTHER, 0.99, at=1)
    mine = make("b", CONFIG, 0.8, at=2)
    assert resolve_run("best", lambda text: None) == mine
    again = make("c", OTHER, 0.7, at=3)
    assert resolve_run("best", lambda text: None) == OUTPUTS / "a"
    assert again.is_dir()


@pytest.mark.parametrize("text", ["[", "[" * 100_000, '{"status": "finished", "score": 3}', '{"score": null}', "\0"])
def test_a_broken_run_is_not_the_best(text: str) -> None:
    good = make("a", accuracy=0.5, at=1)
    (make("b", accuracy=0.9, at=2) / "summary.json").write_text(text)
    bad = json.loads((make("c", at=3) / "summary.json").read_text())
    bad["score"]["accuracy"] = float("nan")
    (OUTPUTS / "c" / "summary.json").write_text(json.dumps(bad))
    (make("d", at=4) / "epochs.csv").write_text("x\n1\n")
    assert resolve_run("best", lambda text: None) == good


def test_a_directory_that_is_called_so_comes_first(mnist_ff: Command) -> None:
    make("a")
    write_run(Path("last"), CONFIG, 0.9)
    write_run(Path("best"), CONFIG, 0.9)
    said: list[str] = []
    assert [resolve_run(word, said.append) for word in ("last", "best", "outputs/a")] == [
        Path("last"),
        Path("best"),
        Path("outputs/a"),
    ]
    assert said == []


def test_no_run_is_one_line_with_advice(mnist_ff: Command) -> None:
    for word in ("last", "best"):
        for words in (["evaluate"], ["compare"], ["predict"], ["export"], ["train", "--config-of"]):
            more = {"predict": ["--index", "1"], "export": ["--format", "torch"]}.get(words[0], [])
            code, out, err = mnist_ff(*words, word, *more)
            assert code == 2
            assert out == ""
            assert (
                err == f"error: {word}: no runs in outputs/; start one with mnist-ff train, or give a run directory\n"
            )
    make("a", status="failed")
    with pytest.raises(BadRunError, match=r"best: no run in outputs/ has finished"):
        resolve_run("best", lambda text: None)


def test_shorthands_where_a_run_is_taken(mnist_ff: Command) -> None:
    """One real run under each word, through every command."""
    words = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "model.hidden=[8]"]
    assert mnist_ff("train", *words)[0] == 0
    (run,) = OUTPUTS.iterdir()
    for word, command in [
        ("last", ["evaluate", "last"]),
        ("best", ["compare", "best"]),
        ("last", ["predict", "last", "--index", "3"]),
        ("best", ["export", "best", "--format", "torch"]),
        ("last", ["train", "--config-of", "last"]),
    ]:
        code, _, err = mnist_ff(*command)
        assert code == 0, err
        assert err.startswith(f"{word} is {run}: "), command
        assert err.count(f"{word} is ") == 1
    assert len(list(OUTPUTS.iterdir())) == 2


def test_runs_lists_newest_first_sweeps_as_one(mnist_ff: Command) -> None:
    first = datetime(2026, 1, 1).timestamp()
    make("2026-01-01_00-00-00_aaaa", replace(CONFIG, name="first try"), 0.91, at=int(first))
    make("2026-02-01_00-00-00_bbbb", CONFIG, 0.0, "failed", at=int(first) + 2)
    sweep = OUTPUTS / "sweeps" / "2026-01-15_00-00-00_cccc"
    make_sweep(sweep, list(product(seed=[0, 1, 2])), lambda _: 0.95)
    jobs = json.loads((sweep / "jobs.json").read_text()) | {
        "started": datetime.fromtimestamp(first + 1, UTC).isoformat()
    }
    (sweep / "jobs.json").write_text(json.dumps(jobs, sort_keys=False))
    (make("2026-03-01_00-00-00_dddd") / "config.yaml").write_text("nonsense: [")
    code, out, err = mnist_ff("runs")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["began", "status", "test", "(%)", "data", "seconds", "name", "path"]
    assert [line.split()[-1].split("_")[-1] for line in lines[:4]] == ["dddd", "bbbb", "cccc", "aaaa"]
    assert "broken" in lines[0]
    assert "failed" in lines[1]
    assert "3 jobs: 3 finished" in lines[2]
    assert "95.00" in lines[2]
    assert "7.5" in lines[2]
    assert lines[3].split()[:3] == ["2026-01-01", "00:00", "finished"]
    assert "first try" in lines[3]
    assert "91.00" in lines[3]
    assert lines[4].startswith("broken  outputs/2026-03-01_00-00-00_dddd/config.yaml")
    _, every, _ = mnist_ff("runs", "--all")
    assert len(every.splitlines()) == 1 + 3 + 3 + 1
    values = json.loads(mnist_ff("runs", "--json")[1])
    assert [value["status"] for value in values] == ["broken", "failed", {"finished": 3}, "finished"]
    assert values[2]["jobs"] == 3
    assert values[3]["name"] == "first try"
    assert values[3]["test_accuracy"] == 0.91
    assert values[3]["seconds"] == 2.5


def test_no_runs_say_what_to_do(mnist_ff: Command) -> None:
    assert mnist_ff("runs") == (0, "No runs in outputs/ yet. mnist-ff train starts one.\n", "")
    OUTPUTS.mkdir()
    assert mnist_ff("runs", "--json") == (0, "[]\n", "")
    code, _, err = mnist_ff("runs", "nowhere")
    assert code == 2
    assert "nowhere: does not exist" in err


def test_running_runs_and_claimed_directories_are_listed(mnist_ff: Command) -> None:
    path = make("a", at=2)
    (path / "summary.json").unlink()
    (OUTPUTS / "b").mkdir()
    (OUTPUTS / "b" / "config.yaml").touch()
    with Run(path).locked():
        values = json.loads(mnist_ff("runs", "--json")[1])
    assert {value["path"]: value["status"] for value in values} == {"outputs/a": "running", "outputs/b": "interrupted"}


def test_a_thousand_runs_are_listed_without_torch() -> None:
    from mnist_ff.config.yaml_io import to_yaml

    first = make("first")
    text, summary, epochs = ((first / name).read_text() for name in ("config.yaml", "summary.json", "epochs.csv"))
    assert text == to_yaml(CONFIG)
    for number in range(999):
        path = OUTPUTS / f"2026-01-01_00-00-{number % 60:02}_{number:04x}"
        path.mkdir()
        (path / "config.yaml").write_text(text.replace("seed: 0", f"seed: {number}"))
        (path / "summary.json").write_text(summary)
        (path / "epochs.csv").write_text(epochs)
    code = (
        "import sys\nfrom mnist_ff.cli import main\n"
        "assert main(['runs']) == 0\nassert main(['compare', 'best']) == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert "and 900 more" in done.stdout


ODD = "lr [0.1] [/b] test"
"""A name that is markup to those who do not look."""


def test_impossible_date_is_listed(mnist_ff: Command) -> None:
    start(make("9999-12-31_23-59-59_aaaa", at=9), "9999-12-31T23:59:59+00:00")
    make("0001-01-01_00-00-00_bbbb", at=5)
    code, out, err = mnist_ff("runs", "--json")
    assert code == 0, err
    assert [datetime.fromisoformat(value["began"]).timestamp() for value in json.loads(out)] == [9, 5]
    assert mnist_ff("runs")[0] == 0


@pytest.mark.parametrize("words", [["report"], ["compare"], ["export", "--format", "torch"], ["evaluate"]])
def test_an_empty_word_is_not_this_folder(words: list[str], mnist_ff: Command) -> None:
    make("a")
    code, out, err = mnist_ff(*words, "")
    assert (code, out) == (2, "")
    assert err == "error: empty run name; give a run directory, its name, last or best\n"


def test_names_are_neither_markup_nor_escape_codes(mnist_ff: Command) -> None:
    make(f"2026-01-01_00-00-00_{ODD}", replace(CONFIG, name=ODD), at=1)
    make("2026-01-02_00-00-00_\x1b[2Jx\x1b]0;y\x07", replace(CONFIG, name="\x9b2J"), at=2)
    (make("2026-01-03_00-00-00_\x1b[1m") / "config.yaml").write_text("nonsense: [")
    code, out, err = mnist_ff("runs")
    assert code == 0, err
    assert out.count(ODD) == 2
    assert "2026-01-02_00-00-00_ [2Jx ]0;y" in out
    assert not [letter for letter in out if not letter.isprintable() and letter != "\n"]
    for command in (["evaluate"], ["export", "--format", "torch"], ["report"], ["compare"]):
        _, out, err = mnist_ff(*command, "last")
        assert "\x1b" not in out + err, command


def test_written_paths_print_without_escape_codes(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "model.hidden=[8]", "hydra.run.dir=run"]
    assert mnist_ff("train", *words)[0] == 0
    Path("run").rename("\x1b[2Jrun [0.1]")
    for command in (
        ["evaluate"],
        ["report"],
        ["export", "--format", "torch"],
        ["train", "--config-of"],
        ["train", "trainer.epochs=1", "resume=\x1b[2Jrun [0.1]"],
    ):
        word = [] if command[-1].startswith("resume=") else ["\x1b[2Jrun [0.1]"]
        code, out, err = mnist_ff(*command, *word)
        assert code == 0, err
        assert "\x1b" not in out + err, command
        assert command == ["train", "--config-of"] or " [2Jrun [0.1]" in out, command

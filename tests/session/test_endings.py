"""How a run ends: the numbers first, pictures and page when there is time; what a kill left out is made later."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mnist_ff.files import remove_leftovers, replacing
from mnist_ff.runs.directory import REPORT, Run
from mnist_ff.runs.jobs import Job
from mnist_ff.sweeps.job_run import SweepJob
from mnist_ff.sweeps.launchers.sequential import SequentialLauncher
from tests.support.commands import Command, only_run
from tests.support.processes import PROMPT_S, Forked, Started

WORDS = ["data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "augment=shift", "trainer.device=cpu"]
LAST = ["model.safetensors", "predictions.safetensors", "augmented.safetensors", "summary.json", "report.html"]
PICTURES = [f"plots/{name}.png" for name in ("loss", "epochs", "confusion", "mistakes", "weights", "augmented")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all its files; tests change copies."""
    run = tmp_path_factory.mktemp("endings") / "run"
    started = Started("train", *WORDS, f"hydra.run.dir='{run}'")
    assert started.end()[0] == 0
    return run


def copy_without(whole: Path, *names: str) -> Path:
    """A copy of the run as a kill may have left it, with temporary files."""
    shutil.copytree(whole, "run")
    for name in names:
        Path("run", name).unlink()
    Path("run/.report.html.abcdefgh.tmp").write_text("half")
    Path("run/plots/.loss.png.abcdefgh.tmp").write_text("half")
    return Path("run")


def assert_whole(run: Path, like: Path) -> None:
    for name in [*LAST, *PICTURES]:
        assert (run / name).is_file(), name
    assert not list(run.rglob(".*.tmp"))
    for name in ("batches.csv", "hidden.safetensors", *LAST[:3]):
        assert (run / name).read_bytes() == (like / name).read_bytes(), name
    first, second = (json.loads((path / "summary.json").read_text()) for path in (run, like))
    assert (first["status"], first["score"]) == (second["status"], second["score"])


@pytest.mark.parametrize("word", ["resume", pytest.param("report", marks=pytest.mark.slow)])
def test_what_a_kill_left_out_is_made(word: str, whole: Path, mnist_ff: Command) -> None:
    run = copy_without(whole, "report.html", *PICTURES[2:])
    code, out, err = mnist_ff("report", "run") if word == "report" else mnist_ff("train", "resume=run")
    assert code == 0, err
    assert ("nothing to do" in out) == (word == "resume")
    assert "run/plots/weights.png" in out
    assert_whole(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAST[:4])
def test_missing_last_file_comes_from_the_checkpoint(name: str, whole: Path, mnist_ff: Command) -> None:
    run = copy_without(whole, name)
    assert mnist_ff("train", "resume=run")[0] == 0
    assert_whole(run, whole)


@pytest.mark.slow
def test_nothing_is_made_for_a_run_without_plots(whole: Path, mnist_ff: Command) -> None:
    assert mnist_ff("train", *WORDS, "trainer.plots=false", "hydra.run.dir=run")[0] == 0
    assert mnist_ff("train", "resume=run")[0] == 0
    assert not Path("run/plots").exists()
    assert not Path("run/report.html").exists()


@pytest.mark.slow
def test_resumed_sweep_completes_its_finished_jobs(mnist_ff: Command) -> None:
    assert mnist_ff("train", "-m", *WORDS, "seed=0,1", "hydra.sweep.dir=sweep")[0] == 0
    for name in ("0/report.html", "0/plots/loss.png", "report.html", "sweep.png", "sweep.csv"):
        Path("sweep", name).unlink()
    Path("sweep/.sweep.csv.abcdefgh.tmp").write_text("half")
    assert mnist_ff("train", "-m", "resume=sweep")[0] == 0
    for name in ("0/report.html", "0/plots/loss.png", "report.html", "sweep.png", "sweep.csv"):
        assert Path("sweep", name).is_file(), name
    assert not list(Path("sweep").rglob(".*.tmp"))


SWEEP = ["train", "-m", "data=mnist_5k", "model.hidden=[8]", "trainer.epochs=1", "hydra.sweep.dir=sweep"]
JOBS_OWN = [f"plots/{name}.png" for name in ("loss", "epochs", "confusion", "mistakes", "weights")] + [REPORT]


def missing_in_jobs() -> list[str]:
    """What the two jobs of a sweep have not, of that which ended runs have."""
    names = [f"{job}/{name}" for job in (0, 1) for name in JOBS_OWN]
    return [name for name in names if not Path("sweep", name).is_file()]


def test_a_sweep_draws_when_its_jobs_are_ranked(mnist_ff: Command) -> None:
    code, out, err = mnist_ff(*SWEEP, "seed=0,1")
    assert code == 0, err
    assert missing_in_jobs() == []
    assert out.count("drawing") == 1
    assert out.index("2 finished") < out.index("drawing the pictures of 2 runs")
    ended = max(Path("sweep", job, "summary.json").stat().st_mtime_ns for job in "01")
    assert all(path.stat().st_mtime_ns > ended for path in Path("sweep").glob("*/plots/*.png"))
    assert '<a href="1/report.html">' in Path("sweep/report.html").read_text()
    assert mnist_ff("train", "-m", "resume=sweep")[0] == 0
    code, out, err = mnist_ff("report", "sweep")
    assert (code, out, err) == (0, "sweep/report.html\n", "")


def test_ctrl_c_ends_a_sweeps_drawing_and_report_goes_on(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots

    def interrupted(run: Run, title: str) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return drawings["loss"](run, title)

    drawings = dict(plots.DRAWINGS)
    monkeypatch.setitem(plots.DRAWINGS, "loss", interrupted)
    code, out, _ = mnist_ff(*SWEEP, "seed=0,1")
    assert code == 130
    assert "2 finished" in out
    assert "mnist-ff report sweep" in out
    assert len(missing_in_jobs()) == 11, "only the picture that was begun is there"
    assert not Path("sweep/report.html").exists()
    assert json.loads(Path("sweep/0/summary.json").read_text())["cause"] is None
    monkeypatch.setattr(plots, "DRAWINGS", drawings)
    code, out, err = mnist_ff("report", "sweep")
    assert (code, out) == (0, "sweep/report.html\n")
    assert err == "drawing the pictures of 2 runs\n"
    assert missing_in_jobs() == []
    assert '<a href="0/report.html">' in Path("sweep/report.html").read_text()


def test_jobs_that_failed_decide_the_exit_code_not_pictures(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots

    def broken(run: Run, title: str) -> Any:
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots, "DRAWINGS", {"loss": broken, "epochs": plots.DRAWINGS["epochs"]})
    code, out, _ = mnist_ff(*SWEEP, "seed=0")
    assert code == 0
    assert "warning: sweep/0: could not draw plots/loss.png; see its train.log" in " ".join(out.split())
    assert "RuntimeError: no ink" in Path("sweep/0/train.log").read_text()
    assert Path("sweep/0/plots/epochs.png").is_file()
    assert Path("sweep/report.html").is_file()
    monkeypatch.setattr(plots, "DRAWINGS", {"epochs": plots.DRAWINGS["epochs"]})
    words = ("optimizer=sgd", "optimizer.lr=0.01,1e30", "sweep.on_error=stop", "hydra.sweep.dir=other")
    code, out, _ = mnist_ff(*SWEEP[:-1], *words)
    assert code == 1
    assert "drawing the pictures of 1 run\n" in out
    assert Path("other/0/plots/epochs.png").is_file()
    assert Path("other/1/report.html").is_file()
    assert not Path("other/1/plots").exists()


def test_jobs_that_outlive_their_launcher_draw_themselves(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = []

    def launch(self: SequentialLauncher, job: SweepJob, jobs: Sequence[Job], *rest: object) -> None:
        draws.append(job.draws)

    monkeypatch.setattr(SequentialLauncher, "launch", launch)
    assert "drawing" not in mnist_ff(*SWEEP, "seed=0,1")[1]
    monkeypatch.setattr(SequentialLauncher, "detached", True)
    monkeypatch.setattr("mnist_ff.sweeps.multirun.check_launcher", lambda *given: None)
    mnist_ff("train", "-m", "resume=sweep")
    assert draws == [False, True]


@pytest.mark.slow
def test_several_processes_draw_each_run_once(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.sweeps import pictures

    monkeypatch.setattr(pictures, "RUNS_PER_HELPER", 1)
    monkeypatch.setattr(pictures, "cores_here", lambda: 2)
    drawn: list[Path] = []

    def complete(run: Run, *given: Any, **more: Any) -> list[str]:
        drawn.append(run.path)
        others = run.path.with_name("10"[int(run.path.name)]) / "plots"
        deadline = time.monotonic() + 120
        while not others.exists() and time.monotonic() < deadline:  # until the other process has started
            time.sleep(0.05)
        return real(run, *given, **more)

    real = pictures.complete
    monkeypatch.setattr(pictures, "complete", complete)
    assert mnist_ff(*SWEEP, "seed=0,1")[0] == 0
    assert len(drawn) == 1, "the other one was drawn by a process of its own"
    assert missing_in_jobs() == []
    pictures_of = [Path("sweep", job, "plots").glob("*") for job in "01"]
    assert [len(list(found)) for found in pictures_of] == [5, 5]
    first, second = (Path("sweep", job, "plots/loss.png").read_bytes() for job in "01")
    assert first.startswith(b"\x89PNG")
    assert second.startswith(b"\x89PNG")


@pytest.mark.parametrize("what", ["Value", "Process", "fork"])
def test_without_other_processes_this_one_draws_all(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.sweeps import pictures

    def refused(*given: Any, **more: Any) -> Any:
        if what == "fork":  # in the process from which the others come, which is gone then
            raise EOFError("unexpected EOF")
        raise OSError(errno.ENOSPC, "No space left on device")

    runs, drawn = [Run(tmp_path / str(number)) for number in range(3)], []
    for run in runs:
        run.path.mkdir()
    context = pictures.multiprocessing.get_context("forkserver")
    if what == "Value":
        monkeypatch.setattr(type(context), "Value", refused)
    else:
        monkeypatch.setattr(context.Process, "start", refused)
    monkeypatch.setattr(pictures, "RUNS_PER_HELPER", 1)
    monkeypatch.setattr(pictures, "cores_here", lambda: 4)
    monkeypatch.setattr(pictures, "saved_config", lambda run: None)
    monkeypatch.setattr(pictures, "complete", lambda run, *given, **more: drawn.append(run))
    begun: list[int] = []
    pictures._draw(runs, lambda: None, begun.append)
    assert drawn == runs
    assert begun == [0, 1, 2]


def test_a_terminal_shows_how_many_runs_are_drawn() -> None:
    from rich.console import Console

    from mnist_ff.sweeps import pictures

    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=40)
        with pictures._bar(console, 12) as begun:
            begun(5)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("drawing" in shown, "run  6/12  ETA        -" in shown) == (terminal, terminal)


def test_what_a_killed_process_was_drawing_is_drawn_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.sweeps import pictures

    runs, drawn = [Run(tmp_path / str(number)) for number in range(3)], list[Run]()
    for run in runs:
        run.path.mkdir()

    @contextmanager
    def killed(context: Any, count: int, shared: Any) -> Iterator[list[Any]]:
        next(iter(shared))
        yield [SimpleNamespace(is_alive=lambda: False, exitcode=-9)]

    monkeypatch.setattr(pictures, "RUNS_PER_HELPER", 1)
    monkeypatch.setattr(pictures, "cores_here", lambda: 2)
    monkeypatch.setattr(pictures.fork_server, "start", lambda preload: None)
    monkeypatch.setattr(pictures, "_helpers", killed)
    monkeypatch.setattr(pictures, "saved_config", lambda run: None)
    monkeypatch.setattr(pictures, "complete", lambda run, *given, **more: drawn.append(run))
    pictures._draw(runs, lambda: None, lambda number: None)
    assert drawn == [*runs[1:], *runs], "it makes only what is left out"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("seconds", [0, 0.2, 0.5])
def test_a_signal_to_all_processes_ends_the_drawing_in_order(name: str, seconds: float, mnist_ff: Command) -> None:
    """As Ctrl-C, a closed terminal and timeout(1) send it, also while the other processes start."""
    assert mnist_ff(*SWEEP, "seed=range(0,11)", "trainer.plots=false")[0] == 0
    for path in Path("sweep").rglob("*"):
        if path.name in ("jobs.json", "config.yaml"):
            path.write_text(re.sub(r"(\"?plots\"?: )false", r"\1true", path.read_text()))
    started = subprocess.Popen(
        [sys.executable, "-m", "mnist_ff", "report", "sweep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    with started:
        assert started.stdout is not None
        first = started.stdout.readline()
        time.sleep(seconds)
        os.killpg(started.pid, getattr(signal, name))
        said = first + started.stdout.read()
    assert started.returncode == 128 + getattr(signal, name).value, said
    assert said == "drawing the pictures of 11 runs\n"


COUNTING = """
import os, signal, sys
from mnist_ff import cli
last, real, calls = int(sys.argv.pop(1)), os.fsync, []
def fsync(number):
    real(number)
    calls.append(number)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
sys.exit(cli.main(sys.argv[1:]))
"""
"""Kills itself at a write: files are flushed before they are renamed, their folder after."""


@pytest.mark.slow
def test_a_kill_at_any_write_leaves_nothing_out(whole: Path, mnist_ff: Command) -> None:
    for write in range(1, 100):
        run = Path(f"run {write}")
        killed = Forked(COUNTING, str(write), "train", *WORDS, f"hydra.run.dir='{run}'")
        killed.communicate()
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        code, _, err = mnist_ff("train", f"resume={run}")
        if code == 0:
            assert_whole(run, whole)
        else:
            assert not (run / "checkpoint.pt").exists()
            early = (run / "config.yaml").stat().st_size == 0
            assert ("killed before it wrote its config" if early else "no checkpoint") in err
    assert write > 25


EARLY: dict[str, Callable[[Path], object]] = {
    "empty config": lambda run: (run / "config.yaml").touch(),
    "nothing": lambda run: None,
    "Hydra's folder": lambda run: (run / ".hydra").mkdir(),
}


@pytest.mark.parametrize("left", EARLY.values(), ids=EARLY.keys())
def test_run_killed_before_its_config_says_so(left: Callable[[Path], object], mnist_ff: Command) -> None:
    Path("run").mkdir()
    left(Path("run"))
    for words in (
        ("train", "resume=run"),
        ("train", "--config-of", "run"),
        ("evaluate", "run"),
        ("predict", "run", "--index", "0"),
        ("report", "run"),
        ("export", "run", "--format", "torch"),
    ):
        _, _, err = mnist_ff(*words)
        assert "the run was killed before it wrote its config" in " ".join(err.split()), words
        assert "is missing" not in err
    code, out, err = mnist_ff("compare", "run")
    assert ("ended before it saved its config" in out) if code == 0 else ("killed before it wrote" in err)


def test_a_signal_leaves_pictures_to_the_report(mnist_ff: Command) -> None:
    script = "import sys\nfrom mnist_ff.cli import main\ncode = main(sys.argv[1:])\n"
    script += "assert 'matplotlib' not in sys.modules\nassert 'jinja2' not in sys.modules\nsys.exit(code)"
    started = Started("--version")
    started.end()
    started.process = Forked(script, "train", *WORDS, "trainer.epochs=100000")
    started.wait_for_rows(20)
    started.process.send_signal(signal.SIGTERM)
    code, out, err = started.end(PROMPT_S)
    assert code == 143, err
    run = only_run()
    assert not (run / "plots").exists()
    assert not (run / "report.html").exists()
    assert f"mnist-ff report {run}" in out
    assert f"resume         mnist-ff train resume={run}\n" in out
    assert mnist_ff("report", str(run))[0] == 0
    assert all((run / name).is_file() for name in [*LAST, *PICTURES])


@pytest.mark.slow
def test_stopped_sweep_leaves_plots_to_the_report(mnist_ff: Command) -> None:
    words = ("data=mnist_5k", "model.hidden=[8]", "trainer.plots=false", "trainer.epochs=1,100000")
    started = Started("train", "-m", *words, "hydra.sweep.dir=sweep")
    started.wait_for_rows(20, "sweep/1")
    started.process.send_signal(signal.SIGINT)
    code, out, err = started.end()
    assert code == 130, err
    assert "mnist-ff report sweep" in out
    assert Path("sweep/sweep.csv").is_file()
    assert not Path("sweep/sweep.png").exists()
    assert not Path("sweep/report.html").exists()
    assert mnist_ff("report", "sweep")[0] == 0
    assert Path("sweep/sweep.png").is_file()
    assert Path("sweep/report.html").is_file()


@pytest.mark.slow
def test_pictures_of_an_earlier_state_are_drawn_again(whole: Path, mnist_ff: Command) -> None:
    run = copy_without(whole)
    earlier = time.time() - 1000
    for name in ("plots/loss.png", "report.html"):
        (run / name).write_text("old")
        os.utime(run / name, (earlier, earlier))
    assert mnist_ff("train", "resume=run")[0] == 0
    assert (run / "report.html").read_text() != "old"
    assert (run / "plots/loss.png").read_bytes().startswith(b"\x89PNG")


def test_leftovers_go_and_files_at_work_stay(tmp_path: Path) -> None:
    (tmp_path / ".x.abcdefgh.tmp").write_text("half")
    outside = tmp_path / "kept"
    outside.write_text("precious")
    with replacing(tmp_path / ("y" * 255)) as temporary:
        temporary.write_text("whole")
        remove_leftovers(tmp_path)
        assert temporary.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "y" * 255]


def test_without_locks_only_old_leftovers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    for name, age in ((".new.tmp", 60), (".old.tmp", 7200)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".new.tmp"]

"""Faults of the machine: one line that says what and what to do, and earlier files intact."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.commands import Command
from tests.support.processes import COMMAND, Forked, limited
from tests.support.runs import assert_seconds_add_up
from tests.support.training import WORDS


def test_closed_stdout_does_not_end_training(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    for sink in ("pipe", "/dev/full"):
        started = Forked(COMMAND, "train", *WORDS, "hydra.run.dir=run", stdout=os.path.abspath(sink))
        if sink == "pipe":
            with open(sink, "rb") as reader:
                reader.read(1)
        _, err = started.communicate()
        assert started.returncode == 0, err
        assert json.loads(Path("run/summary.json").read_text())["status"] == "finished"
        shutil.rmtree("run")


def ended_with_stdout(to: int, words: list[str], unbuffered: str) -> tuple[int, list[str]]:
    """The exit code of a command that writes to an open file, and its errors."""
    command, environment = [sys.executable, "-c", COMMAND, *words], {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=to, stderr=subprocess.PIPE, env=environment, text=True, timeout=120)
    return done.returncode, [line for line in done.stderr.splitlines() if "error" in line]


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("words", [["help"], ["runs", "--json"]], ids=" ".join)
def test_a_reader_that_has_enough_is_no_error(words: list[str], unbuffered: str) -> None:
    end, start = os.pipe()
    os.close(end)
    assert ended_with_stdout(start, words, unbuffered) == (1, [])
    os.close(start)


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("words", [["help"], ["runs", "--json"]], ids=" ".join)
def test_a_result_that_cannot_be_written_is_an_error(words: list[str], unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        code, errors = ended_with_stdout(full.fileno(), words, unbuffered)
    assert (code, len(errors)) == (1, 1)
    assert "No space left on device" in errors[0]


def test_no_room_for_a_file(mnist_ff: Command) -> None:
    assert mnist_ff("train", *WORDS, "hydra.run.dir=first")[0] == 0
    kept = {path: path.read_bytes() for path in Path("first").rglob("*") if path.is_file()}
    words = ["train", *WORDS, "model.hidden=[500]", "hydra.run.dir=second"]
    code, err = limited(words, resource.RLIMIT_FSIZE, 200_000)
    assert code == 1, err
    assert "Traceback" not in err
    assert "File too large" in err
    assert {path: path.read_bytes() for path in kept} == kept
    assert not list(Path("second").glob("*.tmp"))


@contextlib.contextmanager
def mounted(disk: Path, limit: str) -> Iterator[None]:
    """A disk with so much room, or a skip."""
    disk.mkdir()
    found = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(disk)], capture_output=True
    )
    if not found or found.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root), the limit of a file's size is tested above")
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_small_disk(mnist_ff: Command, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=300k"):
        code, _, err = mnist_ff("train", *WORDS, "model.hidden=[500]", f"hydra.run.dir='{disk}/run'")
        assert code == 1
        assert "No space left on device" in err
        assert "Traceback" not in err
        assert (disk / "run" / "batches.csv").read_text().startswith("step,epoch,batch,loss,lr,samples\n")


@pytest.mark.parametrize(
    "limit", ["size=4k", "size=8k", "size=12k", *(f"nr_inodes={number}" for number in (2, 3, 6, 9))]
)
def test_a_tiny_disk_is_one_line(limit: str, mnist_ff: Command, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", limit):
        code, _, err = mnist_ff("train", *WORDS, "model.hidden=[8]", f"hydra.run.dir='{tmp_path}/disk/run'")
        assert code == 1
        assert err.startswith(f"error: {tmp_path}/disk/run")
        assert "No space left on device" in err
        assert err.count("\n") == 1


def test_fifo_as_log_does_not_block(mnist_ff: Command) -> None:
    from tests.support.runs import stopped_run

    run = stopped_run("run", 3, "trainer.epochs=1", "model.hidden=[8]").path
    (run / "train.log").unlink(missing_ok=True)
    os.mkfifo(run / "train.log")
    code, _, err = mnist_ff("train", f"resume={run}")
    assert code == 1
    assert "train.log: is not a regular file" in err


LONG = "/".join(["a" * 100] * 50)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "data=mnist_5k", f"hydra.run.dir={LONG}"],
        ["train", f"resume={LONG}"],
        ["report", LONG],
        ["compare", LONG],
        ["evaluate", LONG],
        ["export", LONG, "--format", "torch"],
        ["runs", LONG],
    ],
    ids=lambda words: words[0],
)
def test_too_long_path_is_one_line(words: list[str], mnist_ff: Command) -> None:
    code, _, err = mnist_ff(*words)
    assert code == 2
    assert "File name too long; give another path" in err
    assert err.count("\n") == 1
    assert len(err) < 600


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "x: No space left on device; make room", 1),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "x: Disk quota exceeded; make room", 1),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only file system", 1),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; raise ulimit -n", 1),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "x"), "give another path", 2),
        (OSError(errno.ENOENT, "No such file or directory"), "the working folder: ", 1),
        (OSError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR to one", 1),
        (MemoryError(), "not enough memory", 1),
        (ImportError("libx.so: failed to map segment from shared object"), "not enough memory", 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_of_the_machine_is_one_line(
    error: BaseException, said: str, code: int, mnist_ff: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_ff.commands import runs

    def fail(*given: object) -> int:
        raise error

    monkeypatch.setattr(runs, "main", fail)
    found, _, err = mnist_ff("runs")
    assert found == code
    assert said in err
    assert err.count("\n") == 1


def test_broken_installation_keeps_its_traceback(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.commands import runs

    def fail(*given: object) -> int:
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr(runs, "main", fail)
    code, _, err = mnist_ff("runs")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.slow
@pytest.mark.parametrize("limit", [200, 400, 600, 1000])
def test_too_little_memory_for_torch_is_one_line(limit: int) -> None:
    command = ["bash", "-c", f'ulimit -v {limit << 10}; exec "$@"', "bash", sys.executable, "-m", "mnist_ff"]
    done = subprocess.run([*command, "train", *WORDS], capture_output=True, text=True)
    assert done.returncode == 1
    assert "not enough memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_removed_working_folder_is_one_line(mnist_ff: Command, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        code, _, err = mnist_ff("train", *WORDS)
    finally:
        os.chdir(tmp_path)
    assert code == 1
    assert "the working folder: " in err
    assert err.count("\n") == 1


def test_too_little_memory(mnist_ff: Command) -> None:
    words = ["train", *WORDS, "model.hidden=[200000,20000]", "hydra.run.dir=big"]
    code, err = limited(words, resource.RLIMIT_AS, 12 << 30)
    assert code == 1, err[-500:]
    assert "not enough memory" in err
    assert "Traceback" not in err
    assert json.loads(Path("big/summary.json").read_text())["status"] == "failed"


def test_unusable_output_folder_is_an_error(mnist_ff: Command) -> None:
    Path("file").write_text("")
    for place, expected in (("file", 2), ("file/below", 2), ("/proc/nothing/run", 1)):
        code, _, err = mnist_ff("train", *WORDS, f"hydra.run.dir={place}")
        assert code == expected, err
        assert place.split("/")[0] in err
        assert "Traceback" not in err


def test_no_home_and_an_unreadable_cache(real_mnist: Path, mnist_ff: Command) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "MNIST_FF_DATA")}
    environment["XDG_CACHE_HOME"] = str(Path("xdg").absolute())
    started = Forked(COMMAND, "train", *WORDS, "hydra.run.dir=run", environment=environment)
    _, err = started.communicate()
    assert started.returncode == 0, err
    Path("cache").mkdir()
    Path("cache/mnist.safetensors").mkdir()
    code, _, err = mnist_ff("train", "data.root=cache", "trainer.epochs=1", "hydra.run.dir=two")
    assert code == 1
    assert "Traceback" not in err
    assert "cache" in err


@pytest.mark.parametrize("name", ["with spaces", "日本 é", "a=b", "a,b", "a[b", "x" * 200])
def test_paths_of_every_kind(name: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *WORDS, f"hydra.run.dir='{name}'")
    assert code == 0, err
    assert mnist_ff("evaluate", name)[0] == 0
    assert mnist_ff("train", f"resume={name}", "trainer.epochs=3")[0] == 0


def test_non_finite_weights_reach_no_checkpoint(mnist_ff: Command) -> None:

    words = ["data=mnist_5k", "model.hidden=[]", "optimizer=sgd", "optimizer.lr=1e36", "trainer.checkpoint_every=1"]
    code, _, err = mnist_ff("train", *words, "hydra.run.dir=run")
    assert code == 1
    assert "optimizer.lr" in err
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["status"] == "diverged"
    assert_seconds_add_up(summary["seconds"])
    for path in Path("run").glob("checkpoint*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())

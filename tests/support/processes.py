"""mnist-ff in processes of its own: forked, fresh, in a terminal."""

from __future__ import annotations

import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def in_a_terminal(*words: str, columns: int = 140) -> tuple[int, str]:
    """mnist-ff in a real pseudo-terminal, read to its end: exit code and all that it wrote."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    command = [sys.executable, "-m", "mnist_ff", *words]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment, close_fds=True)
    os.close(slave)
    seen = b""
    with suppress(OSError):  # the other end was closed
        while block := os.read(master, 65536):
            seen += block
    os.close(master)
    return process.wait(timeout=60), seen.decode("utf-8", "replace")


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["mnist_ff.session.session", "mnist_ff.analysis.plots", "mnist_ff.commands.train"])
COMMAND = "import sys\nfrom mnist_ff.cli import main\nsys.exit(main(sys.argv[1:]))"


class Forked:
    """A script in a new process, as subprocess.Popen has it: forked from one that has loaded torch and computed
    nothing, which takes a tenth of a second instead of three."""

    def __init__(self, script: str, *words: str) -> None:
        self._outputs = [Path(tempfile.mkstemp(suffix=f".{name}")[1]) for name in ("out", "err")]
        places = [str(path) for path in self._outputs]
        given = (script, list(words), os.getcwd(), dict(os.environ), places)
        self._process = FORKS.Process(target=_run_script, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """The exit code; of a signal its number below zero."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """Wait for its end. Returns what it wrote."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        out, err = (path.read_text() for path in self._outputs)
        return out, err


def _run_script(script: str, words: list[str], folder: str, environment: dict[str, str], outputs: list[str]) -> None:
    """In the forked process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, place in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(place, os.O_WRONLY | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    sys.argv = ["mnist-ff", *words]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


def _fresh(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_ff", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


class Started:
    """mnist-ff in a process of its own, for signals and kills; with an environment of its own in a fresh Python."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.process = _fresh(words, environment) if environment else Forked(COMMAND, *words)

    def wait_for_rows(self, count: int, folder: str = "outputs") -> None:
        """Until batches.csv below `folder` has more than `count` lines."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            files = list(Path(folder).rglob("batches.csv"))
            if files and files[0].read_text().count("\n") > count:
                return
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.01)
        raise AssertionError("no rows after a minute")

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

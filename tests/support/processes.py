"""mnist-ff in processes of its own: forked, fresh, in a terminal."""

from __future__ import annotations

import multiprocessing
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["mnist_ff.session.session", "mnist_ff.analysis.plots", "mnist_ff.commands.train"])
T = TypeVar("T")
PROMPT_S = 30
"""Seconds for what takes at most five on a quiet machine, such as the end after a signal: a busy one takes longer."""
COMMAND = "import sys\nfrom mnist_ff.cli import main\nsys.exit(main(sys.argv[1:]))"


class Forked:
    """A script in a new process, as subprocess.Popen has it: forked from one that has loaded torch and computed
    nothing, which takes a tenth of a second instead of three. `stdout` and `stderr` may be other files,
    such as a pipe."""

    def __init__(
        self, script: str, *words: str, environment: Mapping[str, str] | None = None, stdout: str = "", stderr: str = ""
    ) -> None:
        self._outputs = [Path(tempfile.mkstemp(suffix=f".{name}")[1]) for name in ("out", "err")]
        places = [stdout or str(self._outputs[0]), stderr or str(self._outputs[1])]
        given = (script, list(words), os.getcwd(), dict(os.environ if environment is None else environment), places)
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

    def first_line(self, timeout: float = 60) -> str:
        """Wait for the first line on stdout."""
        deadline = time.monotonic() + timeout
        while "\n" not in (text := self._outputs[0].read_text()):
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return text.splitlines()[0]

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
        os.dup2(os.open(place, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    sys.argv = ["mnist-ff", *words]
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


def in_a_terminal(*words: str, columns: int = 140, script: str = COMMAND) -> tuple[int, str]:
    """mnist-ff, or a script, in a real pseudo-terminal, read to its end: exit code and all that it wrote."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    terminal = os.ttyname(slave)
    started = Forked(script, *words, environment=environment, stdout=terminal, stderr=terminal)
    seen, deadline = b"", time.monotonic() + 120
    while (code := started.poll()) is None or select.select([master], [], [], 0)[0]:
        assert time.monotonic() < deadline
        if select.select([master], [], [], 0.05)[0]:
            seen += os.read(master, 65536)
    os.close(slave)
    os.close(master)
    return code, seen.decode("utf-8", "replace")


def limited(words: Sequence[str], kind: int, value: int) -> tuple[int | None, str]:
    """mnist-ff under a resource limit: exit code and stderr."""
    started = Forked(f"import resource\nresource.setrlimit({kind}, ({value}, {value}))\n{COMMAND}", *words)
    _, err = started.communicate(timeout=120)
    return started.returncode, err


def _fresh(words: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


class Started:
    """mnist-ff in a process of its own, for signals and kills; with an environment of its own in a fresh Python."""

    running: ClassVar[list[Forked | subprocess.Popen[str]]] = []
    """Those of the present test."""

    script = COMMAND
    fresh: ClassVar[tuple[str, str]] = ("-m", "mnist_ff")

    def __init__(self, *words: str, **environment: str) -> None:
        self.process = _fresh([*self.fresh, *words], environment) if environment else Forked(self.script, *words)
        self.running.append(self.process)

    @classmethod
    def kill_all(cls) -> None:
        """End what a failed test has left running."""
        for process in cls.running:
            if process.poll() is None:
                process.kill()
        cls.running.clear()

    def wait_for_rows(self, count: int, folder: str = "outputs") -> None:
        """Until batches.csv below `folder` has more than `count` lines."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            files = list(Path(folder).rglob("batches.csv"))
            if files and files[0].read_text().count("\n") > count:
                return
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.01)
        raise AssertionError("no rows after three minutes")

    def end(self, within: float = 60) -> tuple[int, str, str]:
        """Exit code, stdout, stderr; an error if it has not ended within so many seconds."""
        out, err = self.process.communicate(timeout=within)
        return self.process.returncode, out, err


SAY_WHAT_IS_HEARD = """
from pathlib import Path
from mnist_ff.runs.signals import Interruption
on_signal = Interruption._on_signal
def say_and_hear(interruption, number, frame):
    Path(f"heard {int(number)}").touch()
    on_signal(interruption, number, frame)
Interruption._on_signal = say_and_hear
"""
"""A file for each signal that training has heard: two that are sent without a wait may be heard in any order."""

HOLD = """
import sys, time
from pathlib import Path
from mnist_ff.training.callbacks import RunWriter
folder, rows, write = Path(sys.argv.pop(1)).absolute(), int(sys.argv.pop(1)), RunWriter.on_chunk_end
def write_and_hold(writer, batch):
    write(writer, batch)
    if batch.step + 1 >= rows and writer._batches.path.parent.absolute() == folder:
        Path("held").touch()
        while not Path("let_go").exists():
            time.sleep(0.01)
RunWriter.on_chunk_end = write_and_hold
"""


class Held(Started):
    """mnist-ff train, once `folder` has so many batches in batches.csv, and a checkpoint: it then waits to be let go
    or killed, so that neither a fast nor a slow machine changes what a test sees."""

    script = SAY_WHAT_IS_HEARD + HOLD + COMMAND
    fresh = ("-c", script)

    def __init__(self, folder: str, rows: int, *words: str, **environment: str) -> None:
        for said in [Path("held"), Path("let_go"), *Path().glob("heard *")]:  # of an earlier one
            said.unlink(missing_ok=True)
        super().__init__(folder, str(rows), *words, **environment)
        wait_for_file("held", self.process)
        wait_for_file(f"{folder}/checkpoint.pt", self.process)

    def hear(self, number: int) -> None:
        """Send a signal, and wait until it is heard."""
        send_and_wait(number, self.process)

    def let_go(self) -> None:
        """Training goes on."""
        Path("let_go").touch()


def send_and_wait(number: int, process: Forked | subprocess.Popen[str]) -> None:
    """Send a signal to a process with SAY_WHAT_IS_HEARD, and wait until it is heard; SIGKILL is not."""
    process.send_signal(number)
    if number != signal.SIGKILL:
        wait_for_file(f"heard {int(number)}", process)


def wait_for_file(name: str, writer: Forked | subprocess.Popen[str]) -> None:
    """Wait until a process has made a file."""

    def is_there() -> bool:
        has_ended, exists = writer.poll() is not None, Path(name).exists()
        assert exists or not has_ended, writer.communicate()
        return exists

    wait_for(is_there, 180)


def wait_for(happened: Callable[[], T], seconds: float = 60) -> T:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"waited in vain for {seconds} s"
        time.sleep(0.02)
    return found

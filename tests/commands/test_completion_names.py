"""The Tab key and names that a shell could run, expand or take apart: Enter gives the program the name itself."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pty
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_ff.cli import COMMANDS
from mnist_ff.commands.completion import candidates, for_bash

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "r$(touch PWNED)x",
    "r`touch PWNED`'\"x",
    "it's $(touch PWNED)",
    '"$(touch PWNED)"',
    "'$(touch PWNED)'",
    "!!",
    "a!b\"c'd!",
    "a  b ",
    "-rf",
    "--html",
    "~",
    "~root",
    "a=~x:~y",
    "*[ab]?{c,d}",
    "*(e:'touch PWNED':)",
    ";touch PWNED;",
    "&|<>()",
    "\\",
    "\\\\n\\$(touch PWNED)\\'",
    "#x",
    "=ls",
    "^a^b",
    "$HOME",
    "é日",
)
"""Names of run directories."""
UNPRINTABLE = ("one\ntwo", "a\ttab", "\x1b[31mred", "\x07bell", "\u202eright", os.fsdecode(b"byte\xff"))
"""Names that no list of words on a terminal can hold."""
QUOTES = ("", '"', "'")
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SETTING_UP = {
    "bash": 'eval "$(mnist-ff completion bash)"',
    "zsh": 'eval "$(mnist-ff completion zsh)"',
    "fish": "mnist-ff completion fish | source",
}


def make_runs(names: tuple[str, ...]) -> dict[str, str]:
    """A run of each name, the only one in its folder: the folder's path, and the name."""
    folders = {f"outputs/{number:02}": name for number, name in enumerate(names)}
    for folder, name in folders.items():
        Path(folder, name).mkdir(parents=True)
        Path(folder, name, "config.yaml").touch()
    return folders


def completed(line: str, replaced: str, closing: str) -> str:
    """The line after bash has inserted the only candidate."""
    (inserted,) = for_bash(line, replaced, COMMANDS)
    if inserted.endswith(closing):  # bash does not close a quote twice
        closing = ""
    return f"{line[: len(line) - len(replaced)]}{inserted}{closing}"


def as_bash_reads(lines: list[str]) -> list[list[str]]:
    """The words of each line, `mnist-ff` left out."""
    script = "mnist-ff() { printf '%s\\0' \"$@\"; printf '\\1'; }\n" + "\n".join(lines)
    done = subprocess.run(["bash", "--norc"], input=os.fsencode(script), capture_output=True, check=True)
    assert not done.stderr
    return [said.split("\0")[:-1] for said in os.fsdecode(done.stdout).split("\1")[:-1]]


def test_what_bash_inserts_reads_as_the_name() -> None:
    chosen = random.Random(0)
    letters = "$`'\"\\!~*?[]{}()<>|&;# =:,^%@-ab"
    drawn = {"".join(chosen.choices(letters, k=chosen.randint(2, 9))) for _ in range(40)}
    folders = make_runs((*NAMES, *sorted(drawn)))
    lines, given = [], []
    for number, (folder, name) in enumerate(folders.items()):
        for quote in (*QUOTES, "$'"):
            head, replaced, word = [
                (f"evaluate {quote}", f"{folder}/", ""),
                (f"train resume={quote}", f"{folder}/", "resume="),
                (f"compare x\\ y 'a\"b' {quote}{folder}/", "", ""),
                (f"evaluate out'pu'\"ts\"{folder[7:]}{quote}", "/", ""),
                (f"train {quote}resume=", f"{folder}/", "resume="),
            ][number % 5]
            lines.append(completed(f"mnist-ff {head}{replaced}", replaced, quote[-1:]))
            given.append(f"{word}{folder}/{name}")
    assert [words[-1] for words in as_bash_reads(lines)] == given
    assert not Path("PWNED").exists()


def test_bash_goes_on_from_what_is_half_typed() -> None:
    make_runs(('it\'s $(touch PWNED) "x" \\y',))
    lines = []
    for typed, closing in (
        ("outputs/00/it\\'s\\ \\$\\(t", ""),
        ("outputs/00/it\\'s\\", ""),
        ('"outputs/00/it\'s \\$(touch PWNED) \\"', '"'),
        ("'outputs/00/it'\\''s $(", "'"),
    ):
        replaced = typed[1:] if closing else typed
        if "'\\''" in typed:
            replaced = "s $("
        lines.append(completed(f"mnist-ff evaluate {typed}", replaced, closing))
    assert [words[-1] for words in as_bash_reads(lines)] == ['outputs/00/it\'s $(touch PWNED) "x" \\y'] * 4


@pytest.mark.parametrize(
    "typed", ["$HOME/", '"$HOME/', "~/", "resume=~/", "`pwd`/", '"$(pwd)/', "$'\\x2f", "a|b/", "*/"]
)
def test_bash_is_offered_nothing_where_it_would_expand(typed: str) -> None:
    for folder in ("$HOME", "~", "`pwd`", "$(pwd)", "\\x2f", "a|b", "*"):
        Path(folder, "run").mkdir(parents=True)
        Path(folder, "run/config.yaml").touch()
    command = "train" if "=" in typed else "evaluate"
    assert for_bash(f"mnist-ff {command} {typed}", typed.lstrip("\"'"), COMMANDS) == []


def test_names_that_do_not_show_are_not_offered() -> None:
    make_runs(("plain",))
    for name in UNPRINTABLE:
        Path("outputs", name).mkdir()
        Path("outputs", name, "config.yaml").touch()
    assert candidates(["evaluate"], "outputs/", COMMANDS) == ["outputs/00/"]
    assert candidates(["train"], "resume=outputs/", COMMANDS) == ["resume=outputs/00/"]


def test_no_offer_reads_as_an_option() -> None:
    for name in ("-rf", "--html", "run"):
        Path(name).mkdir()
        Path(name, "config.yaml").touch()
    assert candidates(["train", "--config-of"], "-", COMMANDS) == []
    assert "--html " not in candidates(["evaluate"], "--h", COMMANDS)
    assert candidates(["evaluate"], "./-", COMMANDS) == ["./--html ", "./-rf "]


class Terminal:
    """A shell in a pseudo-terminal with the real completion; all else that `mnist-ff` is asked goes to a file."""

    def __init__(self, shell: str, folder: Path) -> None:
        program = folder / "bin" / "mnist-ff"
        self._ran = folder / "ran"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = completion ]; then exec "{sys.executable}" -m mnist_ff "$@"; fi\n'
            f"printf '%s\\0' \"$@\" > '{self._ran}.part'; mv '{self._ran}.part' '{self._ran}'\n"
        )
        program.chmod(0o755)
        settings = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
        }
        unwanted = ("EDITOR", "VISUAL", "INPUTRC", "ZDOTDIR", "FPATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
        environment = {key: value for key, value in os.environ.items() if key not in unwanted} | settings
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.execvpe(START[shell][0], START[shell], environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 250, 0, 0))
        self.seen = b""
        self.enter(f"{SETTING_UP[shell]}; mnist-ff ready", ["ready"])

    def enter(self, keys: str, words: list[str], seconds: float = 60) -> None:
        """Type these keys and Enter; `mnist-ff` must then be given these words. Errors: AssertionError."""
        os.write(self._terminal, os.fsencode(f"{keys}\r"))
        end = time.monotonic() + seconds
        self.seen = b""
        while not self._ran.exists():
            assert time.monotonic() < end, (keys, self.seen)
            self._read(0.05)
        given = os.fsdecode(self._ran.read_bytes()).split("\0")[:-1]
        self._ran.unlink()
        assert given == words, (keys, self.seen)
        assert not Path("PWNED").exists(), (keys, self.seen)

    def attempt(self, keys: str) -> None:
        """Type these keys and Enter, whatever comes of it, then give the line up. Errors: AssertionError."""
        os.write(self._terminal, os.fsencode(f"{keys}\r"))
        self._wait(1)
        for _ in range(20):
            os.write(self._terminal, b"\x03")
            self._wait(0.2)
            self._ran.unlink(missing_ok=True)
            os.write(self._terminal, b"mnist-ff ready\r")
            end = time.monotonic() + 2
            while time.monotonic() < end and not self._ran.exists():
                self._read(0.05)
            if self._ran.exists() and self._ran.read_bytes() == b"ready\0":
                self._ran.unlink()
                return
        raise AssertionError((keys, self.seen))

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.05)

    def press(self, keys: str, until: bytes, seconds: float = 60) -> bytes:
        """Type these keys, and read what the shell shows until this is there. Errors: AssertionError."""
        os.write(self._terminal, os.fsencode(keys))
        end = time.monotonic() + seconds
        self.seen = b""
        while until not in self.seen:
            assert time.monotonic() < end, self.seen
            self._read(0.05)
        return self.seen

    def _read(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            self.seen += os.read(self._terminal, 65536)

    def close(self) -> None:
        """End the shell."""
        os.kill(self._process, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._process, 0)


@contextlib.contextmanager
def opened(shell: str, folder: Path) -> Iterator[Terminal]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    terminal = Terminal(shell, folder)
    try:
        yield terminal
    finally:
        terminal.close()


SHELL = pytest.mark.parametrize("shell", START)


@SHELL
def test_tab_and_enter_give_the_name_itself(shell: str, tmp_path: Path) -> None:
    names = (NAMES[0], NAMES[1], "it's!!\"x", "-a *[b]{c,d} ~")
    with opened(shell, tmp_path) as terminal:
        for (folder, name), quote in zip(make_runs(names).items(), ('"', "'", '"', ""), strict=True):
            terminal.enter(f"mnist-ff evaluate {quote}{folder}/\t", ["evaluate", f"{folder}/{name}"])


@SHELL
@pytest.mark.slow
def test_every_name_in_every_quote(shell: str, tmp_path: Path) -> None:
    quotes = QUOTES if shell == "fish" else (*QUOTES, "$'")
    with opened(shell, tmp_path) as terminal:
        for number, ((folder, name), quote) in enumerate(itertools.product(make_runs(NAMES).items(), quotes)):
            head, words = [
                (f"evaluate {quote}{folder}/", ["evaluate", f"{folder}/{name}"]),
                (f"train resume={quote}{folder}/", ["train", f"resume={folder}/{name}"]),
                (f"train {quote}resume={folder}/", ["train", f"resume={folder}/{name}"]),
                (f"train --config-of outputs{quote}{folder[7:]}/", ["train", "--config-of", f"{folder}/{name}"]),
            ][number // len(quotes) % 4]
            terminal.enter(f"mnist-ff {head}\t", words)


@SHELL
@pytest.mark.slow
def test_the_shells_own_file_names_are_as_safe(shell: str, tmp_path: Path) -> None:
    """Where there is nothing to offer, for a picture say, the shell completes names of files."""
    others = {"bash": UNPRINTABLE, "zsh": UNPRINTABLE[:-1], "fish": UNPRINTABLE}[shell]  # zsh: not the byte in quotes
    names = [*NAMES, *(name for name in others if name != "\u202eright")]
    with opened(shell, tmp_path) as terminal:
        for (number, name), quote in itertools.product(enumerate(names), QUOTES):
            if (shell == "zsh" and quote == "'" and "'" in name) or (shell == "fish" and "\t" in name):
                continue  # zsh leaves its quote open, and fish takes what follows a tab for a description
            file = Path(f"pictures{number}", f"{name}.png")
            file.parent.mkdir(exist_ok=True)
            file.touch()
            terminal.enter(f"mnist-ff predict last {quote}{file.parent}/\t", ["predict", "last", str(file)])


@pytest.mark.parametrize("shell", ["bash", "zsh"])  # fish draws no list on a dumb terminal
@pytest.mark.slow
def test_a_list_of_names_shows_no_escape_codes(shell: str, tmp_path: Path) -> None:
    make_runs(("a",))
    for name in (*UNPRINTABLE, "bb$(touch PWNED)", "cc`touch PWNED`"):
        Path("outputs/00", name).mkdir()
        Path("outputs/00", name, "config.yaml").touch()
    with opened(shell, tmp_path) as terminal:
        seen = terminal.press('mnist-ff evaluate "outputs/00/\t\t', b"touch PWNED")
        terminal.press("\x03", b"")
    assert b"\x1b[31mred" not in seen
    assert not Path("PWNED").exists()


@SHELL
@pytest.mark.slow
def test_incomplete_export_arguments_run_nothing(shell: str, tmp_path: Path) -> None:
    """What two names share is inserted, and what stands after the cursor stays: either may leave a quote open."""
    pairs = (
        ("r$(touch PWNED)a", "r$(touch PWNED)b"),
        ("'!$(touch PWNED)", "''`touch PWNED`"),
        ('"!`touch PWNED`', '"!!'),
    )
    for (number, pair), place in itertools.product(enumerate(pairs), (0, 1)):
        Path(f"outputs/{number}", pair[place]).mkdir(parents=True)
        Path(f"outputs/{number}", pair[place], "config.yaml").touch()
    with opened(shell, tmp_path) as terminal:
        for number, quote in itertools.product(range(len(pairs)), QUOTES):
            for keys in ("\t", "\t\t", "r\x02\t", "$(\x02\x02\t"):
                terminal.attempt(f"mnist-ff evaluate {quote}outputs/{number}/{keys}")
                assert not Path("PWNED").exists(), (keys, quote)

"""Files of a user's own parts: --parts and MNIST_FF_PARTS. Each is imported once, and what it registers is in use
inside a block.

Whatever goes wrong in a user's file is told with the user's own lines: the frames of other files are left out.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shlex
import stat
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mnist_ff.config import own_part, registry
from mnist_ff.config.paths import absolute, display_path
from mnist_ff.config.registry import Part
from mnist_ff.errors import ConfigError, Stopped, first_line

FLAG = "--parts"
VARIABLE = "MNIST_FF_PARTS"
MAX_PARTS_BYTES = 1 << 20
"""Maximum size of a parts file. Each run keeps a copy."""
PACKAGE = Path(__file__).resolve().parents[1]
OTHERS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Folders of installed code, which is nobody's own part."""


@dataclass(frozen=True)
class PartsFile:
    """A file that was imported for its parts."""

    path: str
    """Absolute."""
    sha256: str
    module: str | None = None
    """The name by which it was given, in place of its path."""

    @property
    def word(self) -> str:
        """What --parts takes for it."""
        return self.module or self.path


_imported: dict[PartsFile, tuple[Part, ...]] = {}
"""What each file registered when it was imported in this process."""
_contents: dict[PartsFile, bytes] = {}
_in_use: list[PartsFile] = []


def taken(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of --parts on a command line, and its other words. Errors: ConfigError for one without a value."""
    found, others = [], list(words)
    while FLAG in others or any(word.startswith(f"{FLAG}=") for word in others):
        place = next(at for at, word in enumerate(others) if word == FLAG or word.startswith(f"{FLAG}="))
        word = others.pop(place)
        if word == FLAG and place == len(others):
            raise ConfigError(f"{FLAG}: needs a value: FILE.py or a module's name")
        found.append(others.pop(place) if word == FLAG else word.partition("=")[2])
    return found, others


def with_variable(words: Sequence[str]) -> list[str]:
    """The values of --parts, then those of MNIST_FF_PARTS."""
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [*words, *(word for word in named if word)]


def in_use() -> tuple[PartsFile, ...]:
    """The files whose parts can be chosen now."""
    return tuple(_in_use)


def flag_words() -> list[str]:
    """The words by which a command in any folder gets the same files."""
    return [word for file in _in_use for word in (FLAG, file.word)]


def flags() -> str:
    """The words by which a command gets the same files, after a space; empty where there are none."""
    words = [word for file in _in_use for word in (FLAG, file.module or str(display_path(Path(file.path))))]
    return f" {shlex.join(words)}" if words else ""


def content_of(file: PartsFile) -> bytes:
    """The bytes of a file in use, as they were imported."""
    return _contents[file]


@contextmanager
def loaded(files: Sequence[str | PartsFile]) -> Iterator[None]:
    """Inside the block the parts of these files and modules are registered.

    A PartsFile is one of a sweep's: its content must be what it was, unless it is in use already.
    Errors: ConfigError naming file and line, from the user's own error.
    """
    before = list(_in_use)
    try:
        for file in files:
            if isinstance(file, str):
                _use(file)
            elif file not in _in_use:
                _use(file.word, file)
        yield
    finally:
        for file in _in_use[len(before) :]:
            for part in _imported[file]:
                registry.unregister(part)
        _in_use[:] = before


def _use(word: str, expected: PartsFile | None = None) -> None:
    """Import a file, or register again what it registered. Errors: ConfigError."""
    what = f"{FLAG} {word}"
    is_file = word.endswith(".py") or os.sep in word
    if expected is not None and expected.module is not None:
        _find_below(str(Path(expected.path).parents[expected.module.count(".")]))
    path = os.path.abspath(absolute(FLAG, word)) if is_file else _module_file(word, what)
    content = _content(path, what)
    file = PartsFile(path, hashlib.sha256(content).hexdigest(), None if is_file else word)
    if expected is not None and file.sha256 != expected.sha256:
        raise ConfigError(
            f"{path}: has SHA-256 {file.sha256}, but the sweep was started with {expected.sha256}; put that one back, "
            "or start a new sweep"
        )
    if any(other.path == file.path for other in _in_use):
        return
    if file in _imported:
        for part in _imported[file]:
            registry.register(part)
    else:
        _contents[file] = content
        _imported[file] = _import(file)
    _in_use.append(file)


def _module_file(name: str, what: str) -> str:
    """The file of a module that is named as in an import. Errors: ConfigError."""
    _find_below(os.getcwd())
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{what}: is neither a file's name, which ends with .py, nor a module's")
    with _told(what):
        try:
            spec = importlib.util.find_spec(name)
        except (ModuleNotFoundError, ValueError):  # the latter: a module without a spec
            spec = None
    if spec is None:
        raise ConfigError(f"{what}: there is no such module in the working folder or on sys.path; a file ends with .py")
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(f"{what}: the module has no Python file; give the module that registers the parts")
    return os.path.abspath(spec.origin)


def _find_below(folder: str) -> None:
    """Let imports find modules in a folder too, after all others: none of ours is hidden."""
    if folder not in sys.path:
        sys.path.append(folder)


def _content(path: str, what: str) -> bytes:
    """The bytes of a regular file. Errors: ConfigError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(f"{what}: is not a file")
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_PARTS_BYTES + 1)
    except OSError as error:
        said = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ConfigError(f"{what}: {said}; give a Python file, or a module's name") from None
    if len(content) > MAX_PARTS_BYTES:
        raise ConfigError(f"{what}: is larger than {MAX_PARTS_BYTES:,} bytes; keep data out of it")
    return content


def _import(file: PartsFile) -> tuple[Part, ...]:
    """Run the file's code, and return what it registered. Errors: ConfigError."""
    start = len(own_part.registered)
    own_part.files.add(file.path)
    _find_below(os.path.dirname(file.path))
    try:
        with _told(str(display_path(Path(file.path))), file.path):
            if file.module is None:
                _run(file)
            else:
                importlib.import_module(file.module)
        parts = tuple(own_part.registered[start:])
        if not parts:
            raise ConfigError(
                f"{display_path(Path(file.path))}: registers no part; decorate a class with "
                "@mnist_ff.register(GROUP, NAME)"
            )
    except BaseException:
        for part in own_part.registered[start:]:
            registry.unregister(part)
        raise
    return parts


def _run(file: PartsFile) -> None:
    """Run exactly the bytes that were hashed, as a module that is found by its name afterwards."""
    stem = Path(file.path).stem
    name = f"own_parts_{stem}" if f"own_parts_{stem}" not in sys.modules else f"own_parts_{stem}_{file.sha256[:8]}"
    module = types.ModuleType(name)
    module.__file__ = file.path
    sys.modules[name] = module
    try:
        exec(compile(_contents[file], file.path, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise


@contextmanager
def _told(what: str, path: str = "") -> Iterator[None]:
    """Errors: ConfigError for all that an import can raise, but Ctrl-C."""
    try:
        yield
    except ConfigError:
        raise
    except SyntaxError as error:
        where = f"{display_path(Path(error.filename))}:{error.lineno}" if error.filename else what
        raise ConfigError(f"{where}: {type(error).__name__}: {error.msg}; correct the file") from None
    except (KeyboardInterrupt, Stopped):
        raise
    except BaseException as error:
        frames = frames_of(error)
        line = f":{frames[-1].lineno}" if frames and frames[-1].filename == path else ""
        kind = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"{what}{line}: {kind}; the file cannot be imported") from error


def is_own_code(filename: str) -> bool:
    """Whether a file is one of the user's own parts, or lies beside one."""
    path = os.path.abspath(filename)
    if path.startswith((f"{PACKAGE}{os.sep}", *(f"{folder}{os.sep}" for folder in OTHERS if folder))):
        return path in own_part.files
    return any(path.startswith(f"{os.path.dirname(file)}{os.sep}") for file in own_part.files)


def frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the user's own parts in an error's traceback, the innermost last; none where it is not theirs."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if is_own_code(frame.filename)]


def told(error: BaseException) -> str | None:
    """One line for an error in a user's part, or in what other packages made of one; None where neither can be."""
    frames = frames_of(error)
    kind = f"{type(error).__name__}: {first_line(error)}"
    if frames:
        return f"{kind}; in your own part, {display_path(Path(frames[-1].filename))}:{frames[-1].lineno}"
    last = traceback.extract_tb(error.__traceback__)[-1:]
    if own_part.registered and last and not last[0].filename.startswith(f"{PACKAGE}{os.sep}"):
        files = sorted({part.source for part in own_part.registered})
        return f"{kind}; raised in {last[0].filename} while your own parts were in use ({', '.join(files)})"
    return None


def own_traceback(error: BaseException) -> str:
    """The traceback of an error in a user's part, only their frames; empty where none of them is in it."""
    frames = frames_of(error)
    if not frames:
        return "" if error.__cause__ is None else own_traceback(error.__cause__)
    lines = ["Traceback (most recent call last, your files only):\n", *traceback.format_list(frames)]
    return "".join([*lines, *traceback.format_exception_only(error)])

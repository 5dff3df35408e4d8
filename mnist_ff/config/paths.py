"""Paths given by users: ~ expanded as in a shell, and checked to be storable text."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Literal

from mnist_ff.errors import ConfigError

if os.name == "posix":
    import pwd

USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""The environment variables that Python's getpass.getuser() looks at before it asks the system."""
NAME_MAX_BYTES = 255
"""Maximum length of a file name on Linux and macOS, in bytes."""
HOME_REMEDY = "give the full path, or set HOME"


def check_text(key: str, text: str) -> None:
    """See that a file can hold a text in UTF-8 and give it back. Errors: ConfigError naming the key."""
    if "\0" in text:
        raise ConfigError(f"{key}: must be text without NUL")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{key}={printed(text)}: its character {error.start + 1} is not valid UTF-8, the encoding of the "
            "run's files; give it in UTF-8"
        ) from None


def printed(text: str) -> str:
    """A text for a message: what cannot be printed is written as Python writes it, such as \\udce9 for the byte E9."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def expanded(key: str, text: str) -> str:
    """A path with ~ and ~USER at its beginning as a shell has them. `key` names it in errors, if it has one.

    A shell also makes words of the names that it finds: one that begins with ~ and is there stays as it is.
    Errors: ConfigError where there is no such home; ./~ is a folder that is called ~.
    """
    if not text.startswith("~"):
        return text
    what = f"{key}={text}" if key else text
    user, slash, rest = text[1:].partition("/")
    if user and os.path.lexists(text):
        return text
    home = os.path.expanduser(f"~{user}") if user else os.fspath(home_folder(what))
    if home.startswith("~"):
        raise ConfigError(f"{what}: no such user {user}; use ./{text} for a name that starts with ~")
    return f"{home.rstrip('/')}{slash}{rest}" or "/"


def argument(text: str) -> str:
    """A path as an argument of a command. Errors: ConfigError."""
    return expanded("", text)


def path_argument(text: str) -> Path:
    """The same as a Path. Errors: ConfigError."""
    return Path(argument(text))


def absolute(key: str, text: str) -> str:
    """A path as it is from any working folder, to be kept in files. Errors: ConfigError naming the key."""
    path = os.fspath(Path(expanded(key, text)).absolute())
    check_text(key, path)
    return path


def output_directory(key: str, text: str) -> Path:
    """Where the value of hydra.run.dir or hydra.sweep.dir means, as an absolute path.

    An absolute one may be anywhere, since someone wrote it out; a relative one stays below the working folder.
    Errors: ConfigError for what would be another place, or a name that other programs misread.
    """
    if not text:
        raise ConfigError(f"{key}=: is empty; give a folder, or leave it out")
    check_text(key, text)
    path = Path(expanded(key, text))
    if ".." in path.parts:
        raise ConfigError(f"{key}={text}: is outside the working folder; give an absolute path if you mean that")
    if any(part.startswith("-") for part in path.parts):
        raise ConfigError(f"{key}={text}: a name in it starts with -, which commands would read as an option")
    if not text.isprintable():
        raise ConfigError(f"{key}={printed(text)}: contains a character that cannot be printed")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > NAME_MAX_BYTES:
        raise ConfigError(f"{key}: a name in it has {longest} bytes; at most {NAME_MAX_BYTES} are allowed")
    return path.absolute()


def display_path(path: Path) -> Path:
    """A path for display: relative if it is inside the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def home_folder(what: str, remedy: str = HOME_REMEDY) -> Path:
    """The user's own folder, as a shell finds it: HOME, or what the system says. Errors: ConfigError."""
    named = os.environ.get("HOME", "")
    if os.path.isabs(named):
        return Path(named)
    if os.name == "posix":
        try:
            return Path(pwd.getpwuid(os.getuid()).pw_dir)
        except KeyError:
            raise ConfigError(f"{what}: this user has no home folder; {remedy}") from None
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigError(f"{what}: this user has no home folder; {remedy}") from None


USER_FOLDERS = {
    ("cache", "win32"): ("LOCALAPPDATA", "AppData/Local"),
    ("cache", "darwin"): ("", "Library/Caches"),
    ("cache", ""): ("XDG_CACHE_HOME", ".cache"),
    ("state", "win32"): ("LOCALAPPDATA", "AppData/Local"),
    ("state", "darwin"): ("", "Library/Application Support"),
    ("state", ""): ("XDG_STATE_HOME", ".local/state"),
}
"""By kind and platform: the environment variable that names the folder, and its place below the user's home."""


def user_folder(kind: Literal["cache", "state"], what: str, remedy: str = HOME_REMEDY) -> Path:
    """This program's folder for caches or for state that is kept. Errors: ConfigError for a user without a home."""
    variable, below = USER_FOLDERS.get((kind, sys.platform), USER_FOLDERS[kind, ""])
    base = os.environ.get(variable)
    return (Path(base) if base else home_folder(what, remedy) / below) / "mnist-ff"


def give_user_a_name() -> None:
    """Set LOGNAME for a user without a name, as containers have them: torch, MLflow and others ask for one and fail."""
    if os.name != "posix" or any(os.environ.get(name) for name in USER_NAMES):
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


@functools.cache
def conf_dir() -> Path:
    """The folder of YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"

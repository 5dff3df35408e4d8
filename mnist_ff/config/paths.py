"""Paths as people type them: ~ means what it means in a shell, and the whole is a text that files can hold."""

from __future__ import annotations

import os
from pathlib import Path

from mnist_ff.errors import ConfigError

if os.name == "posix":
    import pwd

USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""The environment variables that Python's getpass.getuser() looks at before it asks the system."""


def check_text(key: str, text: str) -> None:
    """See that a file can hold a text in UTF-8 and give it back. Errors: ConfigError naming the key."""
    if "\0" in text:
        raise ConfigError(f"{key}: must be a text without NUL")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{key}={printed(text)}: its character {error.start + 1} is no character of UTF-8, the encoding of the "
            "files that would hold it; write it in UTF-8"
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
        raise ConfigError(f"{what}: there is no user {user}; write ./{text} for a name that begins with ~")
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


def home_folder(what: str, remedy: str = "write the whole path, or set HOME") -> Path:
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


def give_user_a_name() -> None:
    """Set LOGNAME for a user without a name, as containers have them: torch, MLflow and others ask for one and fail."""
    if os.name != "posix" or any(os.environ.get(name) for name in USER_NAMES):
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


def conf_dir() -> Path:
    """The folder of YAML files: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"

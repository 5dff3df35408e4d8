"""Paths and URLs in a config: where data comes from, and the locations of trackers.

A run directory may come from anybody. Its places are asked and written to only where this user chose them: they carry a
seal, made with a key in the user's home folder and in no run directory.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_ff.config.convert import config_to_dict
from mnist_ff.config.paths import user_folder
from mnist_ff.config.schema import Config, LoggerConfig
from mnist_ff.errors import ConfigError

KEY_BYTES = 32
DATA_PLACES = ("root", "mirrors", "path")


def seal(content: Config | Sequence[str]) -> str | None:
    """The seal of a config's places, or of words: 64 hex digits; None where this user has no folder for the key."""
    key = _key()
    text = _places(content) if isinstance(content, Config) else json.dumps(list(content))
    return None if key is None else hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def is_own(content: Config | Sequence[str], found: Any) -> bool:
    """Whether `found` is the seal that this user put on the same places or words."""
    if not isinstance(found, str):
        return False
    expected = seal(content)
    return expected is not None and hmac.compare_digest(expected.encode(), found.encode("utf-8", "replace"))


def elsewhere(logger: LoggerConfig) -> dict[str, str]:
    """The trackers that write outside the run's own directory or ask a server, with the place of each."""
    return {name: tracker.place for name, tracker in logger if not tracker.inside_run}


def _places(config: Config) -> str:
    plain = config_to_dict(config)
    data = {key: plain["data"].get(key) for key in DATA_PLACES}
    if "path" not in plain["data"]:  # older seals know of none
        del data["path"]
    callbacks = {"callbacks": plain["callbacks"]} if "callbacks" in plain else {}  # older seals know of none
    return json.dumps({"data": data, "logger": plain.get("logger", {}), **callbacks}, sort_keys=True)


def _key() -> bytes | None:
    """This user's key, made at its first use. Two processes that make it at once get the same one."""
    with suppress(OSError, ConfigError):  # the latter: nobody's home is known
        path = user_folder("state", "the key") / "key"
        return _read(path) or _made(path)
    return None


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content if len(content) == KEY_BYTES else None


def _made(path: Path) -> bytes | None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".key.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    try:
        os.link(temporary, path)  # fails where another process was first
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return _read(path)

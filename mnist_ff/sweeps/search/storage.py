"""Where a study lives: a journal file, or a database whose password no file and no list of processes shows."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from filelock import FileLock

from mnist_ff.config import passwords
from mnist_ff.config.passwords import without_password
from mnist_ff.errors import ConfigError, MissingFileError, RunError
from mnist_ff.runs.reading import check_file

if TYPE_CHECKING:
    import optuna

PASSWORD = "MNIST_FF_STORAGE_PASSWORD"
"""The environment variable with the password of a database storage."""
LARGEST_JOURNAL_BYTES = 1 << 30
"""Maximum size of a journal that is opened. Optuna reads it line by line."""
PIECE_BYTES = 1 << 16
EXTRA = "hydra/sweeper=optuna: needs optuna, which is not installed: pip install 'mnist-ff[search]'"


def require_optuna() -> None:
    """Errors: ConfigError that names the extra."""
    try:
        import optuna
    except ImportError:
        raise ConfigError(EXTRA) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def check_no_password(storage: str) -> None:
    """A password in a URL would stand in the shell's history, in ps, and in files of the sweep. Errors: ConfigError."""
    passwords.check_no_password("hydra.sweeper.storage", storage, f"set the environment variable {PASSWORD}")


def _with_password(url: str) -> str:
    """A database's URL with the password of the environment, if there is one."""
    password = os.environ.get(PASSWORD)
    if password is None or url.startswith("sqlite"):
        return url
    from sqlalchemy import make_url

    return make_url(url).set(password=password).render_as_string(hide_password=False)


def open_storage(storage: str) -> optuna.storages.BaseStorage:
    """The storage behind a journal file's path or an Optuna URL. Errors: ConfigError, without the URL's password."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    try:
        if "://" not in storage:
            _mend(Path(storage))
            return optuna.storages.JournalStorage(JournalFileBackend(storage))
        patient = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
        opened = optuna.storages.RDBStorage(_with_password(storage), engine_kwargs=patient)
        weakref.finalize(opened, opened.engine.dispose)  # for one that nobody closes
        return opened
    except Exception as error:  # SQLAlchemy's and the drivers' own families
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(storage, without_password(storage))
        password = os.environ.get(PASSWORD)
        for secret in (password, quote_plus(password)) if password else ():
            reason = reason.replace(secret, "...")
        raise ConfigError(f"hydra.sweeper.storage={without_password(storage)}: cannot be opened ({reason})") from None


def close_storage(storage: optuna.storages.BaseStorage) -> None:
    """Close a storage's connections: a database's, as a journal is opened for each access alone."""
    storage.remove_session()
    engine = getattr(storage, "engine", None)
    if engine is not None:
        engine.dispose()


@contextmanager
def storage_failures(storage: str) -> Iterator[None]:
    """A storage or a disk that fails within the block is one line. Errors: RunError."""
    import optuna

    try:
        yield
    except OSError as error:
        raise RunError(f"{error.filename or without_password(storage)}: {error.strerror or error}") from error
    except (optuna.exceptions.StorageInternalError, json.JSONDecodeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise RunError(f"{without_password(storage)}: the study can no longer be read or written ({first})") from error


def _mend(path: Path) -> None:
    """Cut a last line that a power cut tore: with another one behind it Optuna could not read the journal again."""
    from optuna.storages.journal import JournalFileSymlinkLock

    try:
        check_file(path, LARGEST_JOURNAL_BYTES)
    except MissingFileError:
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            if end == 0:
                return
            while end > 0:  # from its end on: a journal may be long
                start = max(0, end - PIECE_BYTES)
                file.seek(start)
                place = file.read(end - start).rfind(b"\n") + 1
                if place:
                    file.truncate(start + place)
                    return
                end = start
            file.truncate(0)
    finally:
        lock.release()


def claims_lock(storage: str) -> AbstractContextManager[Any]:
    """Held while trials are counted and claimed, where the storage is a file; a database server has none.

    Without it a race can leave a waiting record too many behind, which is never run.
    """
    if "://" not in storage:
        return _FileClaims(storage, storage)
    if storage.startswith("sqlite:///") and ":memory:" not in storage:
        return _FileClaims(storage, storage.removeprefix("sqlite:///").split("?")[0])
    return nullcontext()


class _FileClaims:
    """A lock beside a storage's file. Errors: ConfigError where there can be none."""

    def __init__(self, storage: str, file: str) -> None:
        self._storage, self._lock = storage, FileLock(f"{file}.claims")

    def __enter__(self) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            raise ConfigError(
                f"hydra.sweeper.storage={self._storage}: cannot be locked ({self._lock.lock_file}: {error.strerror})"
            ) from None

    def __exit__(self, *error: object) -> None:
        self._lock.release()

"""data=folder: PNG and JPEG files in a folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from mnist_ff.config.registry import register
from mnist_ff.config.schema import FileDataConfig
from mnist_ff.data.formats.own_files import OwnFiles, build, describe, path_of
from mnist_ff.errors import ConfigError
from mnist_ff.runs.records import MAX_SIDE

if TYPE_CHECKING:
    from mnist_ff.data.formats.contents import Contents
    from mnist_ff.data.formats.folder import Reading


@dataclass(frozen=True)
class FolderConfig(FileDataConfig):
    """A folder of pictures."""

    test_split: Annotated[Annotated[float, Meta(gt=0, lt=1)] | None, "fraction to test, if there is no test/"]
    size: Annotated[Annotated[int, Meta(ge=1, le=MAX_SIDE)] | None, "rows and columns to resize to; null: as they are"]
    color: Annotated[bool | None, "read colours; null: if the pictures have any"]
    prepare: Annotated[Literal["none", "digit"], "digit: as predict prepares photographs, 28 x 28"]

    def check(self, path: str) -> None:
        if self.prepare == "digit":
            for key in ("size", "color"):
                if getattr(self, key) is not None:
                    raise ConfigError(f"{path}.{key}={getattr(self, key)}: has no effect with {path}.prepare=digit")


def reading(config: FolderConfig) -> Reading:
    """The keys that say how pictures are read."""
    from mnist_ff.data.formats.folder import Reading

    return Reading(config.test_split, config.size, config.color, config.prepare == "digit")


def files(config: FolderConfig) -> Sequence[Path]:
    """Every picture. Errors: ConfigError, OwnDataError."""
    from mnist_ff.data.formats.folder import list_pictures

    return list_pictures(path_of(config), reading(config)).files


def watched(config: FolderConfig) -> Sequence[Path]:
    """The folder and those in it, down to the classes. Errors: ConfigError."""
    root = path_of(config)
    return [root, *sorted(path for pattern in ("*/", "*/*/") for path in root.glob(pattern) if path.is_dir())]


def read(config: FolderConfig) -> Contents:
    """The pictures, checked; decoded once as long as they stay as they are. Errors: OwnDataError."""
    from mnist_ff.data.formats.decoded import decoded_folder

    return decoded_folder(path_of(config), reading(config), config)


register(
    OwnFiles(
        "data",
        "folder",
        FolderConfig,
        build,
        title="folder of pictures",
        describe=describe,
        read=read,
        sources=files,
        watched=watched,
    )
)

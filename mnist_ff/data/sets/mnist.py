"""data=mnist: handwritten digits (LeCun, Cortes, Burges)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mnist_ff.config.registry import register
from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.catalog import DataSet
from mnist_ff.data.idx import build, idx_files

SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)

CONTENTS = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


@dataclass(frozen=True)
class MNISTConfig(DownloadConfig):
    """MNIST."""

    fallback: Annotated[Literal["mnist_5k"] | None, "used if MNIST cannot be downloaded; null: error"]


register(
    DataSet(
        "data",
        "mnist",
        MNISTConfig,
        build,
        title="MNIST",
        train_images=60_000,
        test_images=10_000,
        digits=True,
        torchvision_class="MNIST",
        files=idx_files(SHA256),
        contents=CONTENTS,
    )
)

"""data=qmnist: MNIST rebuilt with its lost 50,000 test digits (Yadav, Bottou 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from mnist_ff.config.registry import register
from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.catalog import DataSet, SourceFile
from mnist_ff.runs.records import SIDE

if TYPE_CHECKING:
    import torch

FILES = (
    SourceFile(
        "qmnist-train-images-idx3-ubyte.gz",
        0x0803,
        (60_000, SIDE, SIDE),
        "9e26a7bf1683614e065d7b76460ccd52807165b3f22561fb782bd9f38c52b51d",
    ),
    SourceFile(
        "qmnist-train-labels-idx2-int.gz",
        0x0C02,
        (60_000, 8),
        "2c05dc77f6b916b38e455e97ab129a42a444f3dbef09b278a366f82904e0dd9f",
    ),
    SourceFile(
        "qmnist-test-images-idx3-ubyte.gz",
        0x0803,
        (60_000, SIDE, SIDE),
        "43fc22bf7498b8fc98de98369d72f752d0deabc280a43a7bcc364ab19e57b375",
    ),
    SourceFile(
        "qmnist-test-labels-idx2-int.gz",
        0x0C02,
        (60_000, 8),
        "9fbcbe594c3766fdf4f0b15c5165dc0d1e57ac604e01422608bb72c906030d06",
    ),
)
"""The sums are those of tensorflow/datasets, url_checksums/qmnist.txt."""


@dataclass(frozen=True)
class QMNISTConfig(DownloadConfig):
    """QMNIST."""

    test_part: Annotated[Literal["all", "extra"], "test images: all 60,000 or the extra 50,000"]


def build(config: QMNISTConfig) -> dict[str, torch.Tensor]:
    """From the cache, downloaded if need be; the extra digits begin at row 10,000."""
    from mnist_ff.data.download import downloaded

    tensors = downloaded(config)
    if config.test_part == "all":
        return tensors
    return {name: rows[10_000:] if name.startswith("test") else rows for name, rows in tensors.items()}


register(
    DataSet(
        "data",
        "qmnist",
        QMNISTConfig,
        build,
        title="QMNIST",
        train_images=60_000,
        test_images=60_000,
        digits=True,
        torchvision_class="QMNIST",
        files=FILES,
    )
)

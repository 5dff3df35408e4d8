"""data=fashion_mnist: ten kinds of clothing in MNIST's format (Xiao, Rasul, Vollgraf 2017)."""

from __future__ import annotations

from mnist_ff.config.registry import register
from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.catalog import DataSet
from mnist_ff.data.idx import build, idx_files
from mnist_ff.runs.records import MNIST_SPEC, DataSpec

CONTENTS = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
"""SHA-256 of the decompressed files. Debian's package dataset-fashion-mnist compresses the same bytes differently."""
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


register(
    DataSet(
        "data",
        "fashion_mnist",
        DownloadConfig,
        build,
        title="Fashion-MNIST",
        train_images=60_000,
        test_images=10_000,
        spec=DataSpec(MNIST_SPEC.shape, CLASSES),
        torchvision_class="FashionMNIST",
        files=idx_files(contents=CONTENTS),
        contents=CONTENTS,
    )
)

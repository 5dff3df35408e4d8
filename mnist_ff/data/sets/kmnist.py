"""data=kmnist: ten cursive Japanese characters in MNIST's format (Clanuwat et al. 2018)."""

from __future__ import annotations

from mnist_ff.config.registry import register
from mnist_ff.config.schema import DownloadConfig
from mnist_ff.data.catalog import DataSet
from mnist_ff.data.idx import build, idx_files
from mnist_ff.runs.records import MNIST_SPEC, DataSpec

SHA256 = (
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
)
"""As tensorflow/datasets has them in url_checksums/kmnist.txt."""
CLASSES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
"""The characters as they sound."""


register(
    DataSet(
        "data",
        "kmnist",
        DownloadConfig,
        build,
        title="Kuzushiji-MNIST",
        train_images=60_000,
        test_images=10_000,
        spec=DataSpec(MNIST_SPEC.shape, CLASSES),
        torchvision_class="KMNIST",
        files=idx_files(SHA256),
    )
)

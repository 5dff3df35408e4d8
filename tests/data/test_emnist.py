"""EMNIST from a stand-in for its archive: layout, orientation, labels, sums, one download for all splits."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_ff.config.compose import compose
from mnist_ff.data import catalog
from mnist_ff.data.load import load_data
from mnist_ff.data.sets import emnist
from mnist_ff.errors import DataError
from tests.support.commands import Command
from tests.support.own_data import idx_bytes, patterns

SMALL = {
    "letters": emnist.SPLITS["letters"]._replace(train=104, test=52),
    "balanced": emnist.SPLITS["balanced"]._replace(train=94, test=47),
}


def write_archive(path: Path) -> None:
    """An archive in EMNIST's layout: images by columns, letters numbered from 1."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, split in SMALL.items():
            for seed, (part, count) in enumerate((("train", split.train), ("test", split.test))):
                images, labels = patterns(count, len(split.classes), (28, 28), seed)
                for what, values in (
                    ("images-idx3", images.transpose(0, 2, 1)),
                    ("labels-idx1", labels + split.first_label),
                ):
                    packed = gzip.compress(idx_bytes(values), mtime=0)
                    archive.writestr(f"gzip/emnist-{name}-{part}-{what}-ubyte.gz", packed)
        archive.writestr("gzip/emnist-letters-mapping.txt", "1 65 97\n")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with the stand-in, whose sum is taken for EMNIST's; nothing at torchvision's address; an empty cache."""
    from torchvision import datasets

    folder = tmp_path / "mirror"
    folder.mkdir()
    write_archive(folder / "gzip.zip")
    monkeypatch.setattr(emnist, "SPLITS", {**emnist.SPLITS, **SMALL})
    monkeypatch.setattr(datasets.EMNIST, "url", f"{tmp_path}/nothing/gzip.zip")
    monkeypatch.setattr(datasets.EMNIST, "md5", hashlib.md5((folder / "gzip.zip").read_bytes()).hexdigest())
    monkeypatch.setenv("MNIST_FF_DATA", str(tmp_path / "cache"))
    return folder


def test_letters_are_upright_and_numbered_from_zero(mirror: Path) -> None:
    data = load_data(compose(["data=emnist", f"data.mirrors=['{mirror}']"]).data, seed=0)
    images, labels = patterns(104, 26, (28, 28), 0)
    assert np.array_equal(data.train.images.numpy(), images)
    assert np.array_equal(data.train.labels.numpy(), labels)
    assert data.spec.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert data.title == "EMNIST letters"


def test_the_archive_serves_every_split(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_FF_MIRROR", str(mirror))
    load_data(compose(["data=emnist"]).data, seed=0)
    (mirror / "gzip.zip").unlink()
    data = load_data(compose(["data=emnist", "data.split=balanced"]).data, seed=0)
    assert len(data.spec.classes) == 47
    assert data.spec.classes[10:13] == ("A", "B", "C")
    assert data.spec.classes[-2:] == ("r", "t")
    assert torch.bincount(data.test.labels).tolist() == [1] * 47
    kept = sorted(path.name for path in catalog.cache_root(compose([]).data).iterdir() if path.suffix != ".lock")
    assert kept == ["emnist.zip", "emnist_balanced.safetensors", "emnist_letters.safetensors"]


def test_another_archive_is_refused(mirror: Path) -> None:
    with (mirror / "gzip.zip").open("ab") as file:
        file.write(b"\0")
    config = compose(["data=emnist", f"data.mirrors=['{mirror}']"]).data
    with pytest.raises(DataError, match=r"gzip\.zip: wrong content \(MD5 ") as caught:
        load_data(config, seed=0)
    assert "EMNIST letters could not be downloaded" in str(caught.value)
    assert "put gzip.zip in a folder" in str(caught.value)
    assert not list(catalog.cache_root(config).glob("emnist*.s*"))


def test_an_archive_without_the_split_is_refused(mirror: Path) -> None:
    with pytest.raises(DataError, match=r"no item named 'gzip/emnist-digits-train-images"):
        load_data(compose(["data=emnist", "data.split=digits", f"data.mirrors=['{mirror}']"]).data, seed=0)


def test_a_split_of_other_counts_is_refused(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emnist, "SPLITS", {"letters": SMALL["letters"]._replace(train=105)})
    with pytest.raises(DataError, match="its IDX header is not for 105x28x28 items"):
        load_data(compose(["data=emnist", f"data.mirrors=['{mirror}']"]).data, seed=0)


def test_the_real_sums_and_address_are_torchvisions() -> None:
    from torchvision import datasets

    from mnist_ff.data.fetch import _md5, _own_mirrors

    found = catalog.data_set("emnist")
    assert found.archive is not None
    for split in emnist.SPLITS:
        config = compose(["data=emnist", f"data.split={split}"]).data
        archive, known = found.archive(config), catalog.description(config)
        assert f"{_own_mirrors(found)[0]}{archive.name}" == datasets.EMNIST.url
        assert list(known.spec.classes) == [name for name in datasets.EMNIST.classes_split_dict[split] if name != "N/A"]
        assert archive.files[0].name == f"emnist-{split}-train-images-idx3-ubyte.gz"
        assert archive.files[3].shape == (known.test_images,)
    assert _md5(found) == datasets.EMNIST.md5
    assert len(datasets.EMNIST.md5) == 32


def test_the_command_fetches_a_split(mirror: Path, mnist_ff: Command) -> None:
    code, out, err = mnist_ff("data", "emnist", f"data.mirrors=['{mirror}']")
    assert code == 0, err
    digest = hashlib.sha256((mirror / "gzip.zip").read_bytes()).hexdigest()
    assert f"{digest}  gzip.zip" in out
    assert "104" in out
    assert io.StringIO(out).readline().startswith("cache: ")

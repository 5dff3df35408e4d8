"""Own data: what each format gives, and what each broken file is refused for, in one line."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_ff.config.compose import compose
from mnist_ff.config.schema import DataConfig
from mnist_ff.data import catalog
from mnist_ff.data.formats import checks, decoded, own_files
from mnist_ff.data.formats.folder import natural
from mnist_ff.data.load import Data, load_data
from mnist_ff.errors import MnistError, OwnDataError
from tests.support.commands import Command
from tests.support.own_data import (
    LETTERS,
    idx_bytes,
    keras_arrays,
    medmnist_arrays,
    patterns,
    write_idx_files,
    write_npz,
    write_pictures,
)


def config_of(name: str, *overrides: str) -> DataConfig:
    return compose([f"data={name}", *overrides]).data


def loaded(name: str, *overrides: str) -> Data:
    return load_data(config_of(name, *overrides), seed=0)


def test_keras_archive_of_26_classes() -> None:
    arrays = keras_arrays()
    write_npz(Path("letters.npz"), {**arrays, "classes": LETTERS})
    data = loaded("npz", "data.path=letters.npz")
    assert data.spec.shape == (28, 28)
    assert data.spec.classes == LETTERS
    assert torch.equal(data.train.images, torch.from_numpy(arrays["x_train"]))
    assert torch.equal(data.test.labels, torch.from_numpy(arrays["y_test"]))
    assert data.validation is None
    assert data.title == "letters.npz, a NumPy archive with Keras's keys"
    known = catalog.description(config_of("npz", "data.path=letters.npz"))
    assert (known.train_images, known.test_images, known.validation_images) == (260, 52, 0)


def test_medmnist_archive_in_colour_has_validation_images() -> None:
    arrays = medmnist_arrays()
    write_npz(Path("m.npz"), arrays)
    data = loaded("npz", "data.path=m.npz")
    assert data.spec.shape == (3, 32, 32)
    assert data.spec.classes == tuple("01234")
    assert torch.equal(data.train.images[7, 2], torch.from_numpy(arrays["train_images"][7, :, :, 2]))
    assert data.validation is not None
    assert torch.equal(data.validation.labels, torch.from_numpy(arrays["val_labels"][:, 0].astype(np.int64)))
    assert (len(data.train), len(data.validation), len(data.test)) == (100, 20, 30)
    assert "MedMNIST" in data.title
    assert catalog.validation_images(config_of("npz", "data.path=m.npz")) == 20
    assert catalog.training_images(config_of("npz", "data.path=m.npz")) == 100


def test_own_validation_images_exclude_a_split(mnist_ff: Command) -> None:
    write_npz(Path("m.npz"), medmnist_arrays())
    code, _, err = mnist_ff("train", "data=npz", "data.path=m.npz", "data.validation_split=0.2")
    assert code == 2
    assert "data.validation_split=0.2: the data has 20 validation images of its own; use data.validation_split=0" in err


def test_float_and_channels_first_images() -> None:
    arrays = medmnist_arrays()
    for part in ("train", "val", "test"):
        images = arrays[f"{part}_images"].transpose(0, 3, 1, 2)
        arrays[f"{part}_images"] = np.asfortranarray(images / 255)
    write_npz(Path("f.npz"), arrays)
    data = loaded("npz", "data.path=f.npz")
    assert data.train.images.dtype == torch.float32
    assert data.spec.shape == (3, 32, 32)
    assert data.train.images.numpy() == pytest.approx(arrays["train_images"])


def test_one_channel_is_grey() -> None:
    arrays = keras_arrays(3, (8, 9))
    for part in ("train", "test"):
        arrays[f"x_{part}"] = arrays[f"x_{part}"][..., None]
    write_npz(Path("g.npz"), arrays)
    assert loaded("npz", "data.path=g.npz").spec.shape == (8, 9)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_of_any_size(packed: bool) -> None:
    arrays = keras_arrays(7, (20, 31))
    write_idx_files(Path("idx"), arrays, packed)
    data = loaded("idx", "data.path=idx")
    assert data.spec.shape == (20, 31)
    assert torch.equal(data.test.images, torch.from_numpy(arrays["x_test"]))
    assert torch.equal(data.train.labels, torch.from_numpy(arrays["y_train"]))


def test_idx_names_with_a_dot() -> None:
    write_idx_files(Path("idx"), keras_arrays(3), packed=False)
    for path in Path("idx").iterdir():
        path.rename(str(path).replace("-idx", ".idx"))
    assert loaded("idx", "data.path=idx").spec.shape == (28, 28)


def test_folder_of_three_sizes_is_resized() -> None:
    write_pictures(Path("pets"), ("cat", "dog", "eel"), (20, 32, 40), colour=True)
    data = loaded("folder", "data.path=pets", "data.size=24")
    assert data.spec.shape == (3, 24, 24)
    assert data.spec.classes == ("cat", "dog", "eel")
    assert (len(data.train), len(data.test)) == (18, 18)
    grey = loaded("folder", "data.path=pets", "data.size=24", "data.color=false")
    assert grey.spec.shape == (24, 24)


def test_folder_of_one_size_needs_no_key_and_keeps_pixels() -> None:
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False)
    (Path("pets") / "train" / "a" / ".DS_Store").write_text("hidden")
    (Path("pets") / "train" / ".git").mkdir()
    data = loaded("folder", "data.path=pets")
    assert data.spec.shape == (16, 16)
    first = sorted((Path("pets") / "train" / "a").glob("*.png"), key=lambda path: path.name)[0]
    assert np.array_equal(data.train.images[0].numpy(), np.asarray(Image.open(first)))
    assert loaded("folder", "data.path=pets", "data.color=true").spec.shape == (3, 16, 16)


def test_one_coloured_picture_makes_all_coloured() -> None:
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False)
    Image.new("RGB", (16, 16), (200, 10, 30)).save("pets/test/b/red.png")
    data = loaded("folder", "data.path=pets")
    assert data.spec.shape == (3, 16, 16)
    assert data.test.images[-1, :, 0, 0].tolist() == [200, 10, 30]
    assert bool((data.train.images[0, 0] == data.train.images[0, 2]).all())


def test_classes_are_in_natural_order_and_links_are_followed(tmp_path: Path) -> None:
    write_pictures(Path("real"), ("c10", "c9", "C1"), (16,), colour=False)
    Path("link").symlink_to("real")
    assert loaded("folder", "data.path=link").spec.classes == ("C1", "c9", "c10")
    assert sorted(["b", "a10", "a2", "2", "10", "a", ""], key=natural) == ["", "2", "10", "a", "a2", "a10", "b"]


def test_split_of_one_level_is_by_class_and_stays_when_pictures_are_added() -> None:
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False, per_class=20)
    before = loaded("folder", "data.path=pets/train", "data.test_split=0.25")
    assert torch.bincount(before.test.labels).tolist() == [5, 5]
    assert torch.bincount(before.train.labels).tolist() == [15, 15]
    again = load_data(config_of("folder", "data.path=pets/train", "data.test_split=0.25"), seed=9)
    assert torch.equal(before.test.images, again.test.images)
    Image.fromarray(patterns(1, 1, (16, 16), 99)[0][0]).save("pets/train/a/new.png")
    after = loaded("folder", "data.path=pets/train", "data.test_split=0.25")
    tested = {image.numpy().tobytes() for image in before.test.images}
    moved = sum(image.numpy().tobytes() in tested for image in after.train.images)
    assert moved <= 1


def test_folder_may_have_validation_images() -> None:
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False)
    (Path("pets") / "test").rename("pets/val")
    write_pictures(Path("more"), ("a", "b"), (16,), colour=False)
    (Path("more") / "test").rename("pets/test")
    data = loaded("folder", "data.path=pets")
    assert data.validation is not None
    assert len(data.validation) == 12


def test_photographs_of_digits_are_prepared_as_predict_does() -> None:
    from mnist_ff.images.centre import centred
    from mnist_ff.images.image_io import read_brightness
    from mnist_ff.images.segment import ink_of

    for part in ("train", "test"):
        for name, bar in (("0", np.s_[20:100, 50:62]), ("1", np.s_[50:62, 20:100])):
            folder = Path("photos") / part / name
            folder.mkdir(parents=True)
            for row in range(2):
                page = np.full((120, 120), 220 - row, np.uint8)
                page[bar] = 30
                Image.fromarray(page).save(folder / f"{row}.png")
    data = loaded("folder", "data.path=photos", "data.prepare=digit")
    assert data.spec.shape == (28, 28)
    expected = centred(ink_of(read_brightness(Path("photos/train/0/0.png"))))
    assert np.array_equal(data.train.images[0].numpy(), expected)
    Image.new("L", (120, 120), 200).save("photos/test/1/blank.png")
    with pytest.raises(OwnDataError, match=r"blank\.png: no digit found for data\.prepare=digit"):
        loaded("folder", "data.path=photos", "data.prepare=digit")


def test_decoded_pictures_are_read_again_only_when_a_file_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MNIST_FF_DATA", str(tmp_path / "own cache"))
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False)
    config = config_of("folder", "data.path=pets")
    calls: list[int] = []
    read = decoded.read_folder
    monkeypatch.setattr(decoded, "read_folder", lambda *given: calls.append(1) or read(*given))

    def fresh() -> Data:
        own_files._contents.cache_clear()
        own_files._described.clear()
        return load_data(config, seed=0)

    before, again = fresh(), fresh()
    assert len(calls) == 1
    assert torch.equal(before.train.images, again.train.images)
    assert before.facts.sums == again.facts.sums
    path = next((Path("pets") / "train" / "a").iterdir())
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    os.utime(path, ns=(1, 1))
    changed = fresh()
    assert len(calls) == 2
    assert changed.facts.sums["train_images"] != before.facts.sums["train_images"]
    (kept,) = (tmp_path / "own cache").glob("folder-*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-100] ^= 1
    kept.write_bytes(content)
    assert fresh().facts.sums == changed.facts.sums
    assert len(calls) == 3, "a damaged cache is not used"


def test_changed_archive_is_read_again_in_the_same_process() -> None:
    write_npz(Path("a.npz"), keras_arrays(3))
    assert len(loaded("npz", "data.path=a.npz").spec.classes) == 3
    write_npz(Path("a.npz"), keras_arrays(4))
    assert len(loaded("npz", "data.path=a.npz").spec.classes) == 4


def test_test_images_that_are_trained_on_are_counted() -> None:
    arrays = keras_arrays(3)
    arrays["x_test"][:2] = arrays["x_train"][5:7]
    write_npz(Path("a.npz"), arrays)
    (warning,) = loaded("npz", "data.path=a.npz").facts.warnings
    assert "2 of 6 test images are training images too" in warning


def test_own_data_is_described_without_torch() -> None:
    write_npz(Path("a.npz"), keras_arrays(3))
    code = (
        "import sys\nfrom mnist_ff.config.compose import compose\nfrom mnist_ff.data.catalog import description\n"
        "assert description(compose(['data=npz', 'data.path=a.npz']).data).train_images == 30\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# each of these breaks one file of good data, and names what the one line says
Arrays = dict[str, Any]
Damage = Callable[[Arrays], Any]


def put(key: str, value: Callable[[Any], Any]) -> Damage:
    def damage(arrays: Arrays) -> None:
        arrays[key] = value(arrays[key])

    return damage


def without(key: str) -> Damage:
    return lambda arrays: arrays.pop(key)


def with_nan(arrays: Arrays) -> None:
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key] / 255
    arrays["x_train"][7, 3, 3] = np.nan


def no_class_two(arrays: Arrays) -> None:
    kept = arrays["y_test"] != 2
    arrays["x_test"], arrays["y_test"] = arrays["x_test"][kept], arrays["y_test"][kept]


def gap(arrays: Arrays) -> None:
    for key in ("y_train", "y_test"):
        arrays[key] = np.where(arrays[key] >= 2, arrays[key] + 3, arrays[key])


def from_one(arrays: Arrays) -> None:
    for key in ("y_train", "y_test"):
        arrays[key] = arrays[key] + 1


def both_kinds(arrays: Arrays) -> None:
    arrays |= {f"{part}_{what}": arrays[f"{short}_{part}"] for part in ("train", "test") for what, short in PAIRS}


PAIRS = (("images", "x"), ("labels", "y"))
NPZ_FAULTS: dict[str, tuple[Damage, str]] = {
    "no key": (without("y_test"), "a.npz: holds x_test, x_train, y_train; give x_train, y_train, x_test, y_test or"),
    "both kinds": (both_kinds, "both; leave one of them out"),
    "fewer labels": (put("y_train", lambda y: y[:-1]), "a.npz: y_train: 39 labels for 40 images"),
    "no images": (put("x_test", lambda x: x[:0]), "a.npz: x_test: has no images"),
    "flat images": (put("x_train", lambda x: x.reshape(40, -1)), "a.npz: x_train: has shape (40, 784)"),
    "too large": (put("x_train", lambda x: np.zeros((2, 300, 28), np.uint8)), "up to 256 x 256 pixels and 3 channels"),
    "four channels": (put("x_train", lambda x: np.zeros((2, 8, 8, 4), np.uint8)), "and 3 channels: make them smaller"),
    "int64 images": (put("x_train", lambda x: x.astype(np.int64)), "a.npz: x_train: images are int64; give uint8"),
    "floats to 255": (put("x_train", lambda x: x.astype(np.float32)), "floats from 0 to 255; give uint8, or floats"),
    "zeros and ones": (put("x_train", lambda x: (x > 90).astype(np.uint8)), "uint8 pixels are only 0 and 1"),
    "NaN": (with_nan, "a.npz: x_train: NaN in 1 image, the first at index 7"),
    "another shape": (put("x_test", lambda x: x[:, 1:]), "x_test: images are 27 x 28 uint8, but the training images"),
    "another type": (put("x_test", lambda x: x / 255), "x_test: images are 28 x 28 float32, but the training images"),
    "text labels": (put("y_train", lambda y: y.astype(str)), "a.npz: y_train: is <U21 of shape (40,); give one class"),
    "float labels": (put("y_train", lambda y: y.astype(float)), "a.npz: y_train: labels are float64; give whole"),
    "one-hot labels": (put("y_train", lambda y: np.eye(4, dtype=int)[y]), "a.npz: y_train: is int64 of shape (40, 4)"),
    "negative label": (put("y_train", lambda y: y - 1), "a.npz: y_train: a label is -1; give class numbers from 0"),
    "huge label": (put("y_train", lambda y: y + 5_000), "a.npz: y_train: a label is 5003; give class numbers"),
    "labels from 1": (from_one, "a.npz: y_train: labels go up to 4, but none is 0; subtract 1"),
    "gap": (gap, "a.npz: y_train: labels go up to 6, but none is 2, 3, 4; number the classes without gaps"),
    "class missing": (no_class_two, "a.npz: y_test: no test image of class 2; every part needs"),
    "one class": (lambda arrays: arrays.update(y_train=np.zeros(40, int), y_test=np.zeros(8, int)), "1 classes; there"),
    "few names": (lambda arrays: arrays.update(classes=["a", "b"]), "a label is 3, but there are 2 class names"),
    "name twice": (lambda arrays: arrays.update(classes=list("aabc")), "a.npz: classes: two classes named a"),
    "names of numbers": (lambda arrays: arrays.update(classes=[1, 2]), "a.npz: classes: is int64 of shape (2,); give"),
    "val images alone": (lambda arrays: arrays.update(x_val=arrays["x_test"]), "a.npz: has x_val alone; give"),
    "Python objects": (put("y_train", lambda y: y.astype(object)), "y_train: holds Python objects, which are never"),
}


@pytest.mark.parametrize("fault", NPZ_FAULTS)
def test_broken_archive_is_one_line(fault: str, mnist_ff: Command) -> None:
    damage, said = NPZ_FAULTS[fault]
    arrays: Arrays = keras_arrays(4)
    damage(arrays)
    write_npz(Path("a.npz"), arrays)
    refused(mnist_ff, said, "data=npz", "data.path=a.npz")


def refused(mnist_ff: Command, said: str, *overrides: str) -> None:
    """The command ends with one line and exit code 2, and has written nothing."""
    code, out, err = mnist_ff("train", *overrides)
    assert said in err
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not Path("outputs").exists()


def bomb(path: Path) -> None:
    """An archive of a few kilobytes that declares and holds 2 GB of zeros."""
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (32000, 256, 256), }"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in ("x_train", "y_train", "x_test", "y_test"):
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n")


def liar(path: Path) -> None:
    """An archive whose first array declares more than it has."""
    write_npz(path, keras_arrays(4))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["x_train.npy"] = members["x_train.npy"].replace(b"(40, 28, 28)", b"(90, 28, 28)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def flipped(path: Path) -> None:
    write_npz(path, keras_arrays(4))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def spoilt(path: Path, method: int) -> None:
    """An archive of another compression than numpy's, with wrong bytes in its first array."""
    write_npz(path, keras_arrays(4))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)


ARCHIVE_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("hello"), "a.npz: not a readable NumPy archive (File is not a zip file)"),
    "cut": (lambda path: (flipped(path), path.write_bytes(path.read_bytes()[:-200])), "not a readable NumPy archive"),
    "flipped": (flipped, "a.npz: not a readable NumPy archive"),
    "LZMA": (lambda path: spoilt(path, zipfile.ZIP_LZMA), "not a readable NumPy archive"),
    "bzip2": (lambda path: spoilt(path, zipfile.ZIP_BZIP2), "not a readable NumPy archive"),
    "empty": (lambda path: zipfile.ZipFile(path, "w").close(), "a.npz: holds no arrays; give x_train"),
    "other members": (lambda path: zipped(path, {f"{key}.npy": b"x" for key in "abc"}), "a.npz: holds a, b, c; give"),
    "no array": (
        lambda path: zipped(path, {f"{a}_{b}.npy": b"x" for a in "xy" for b in ("train", "test")}),
        "a.npz: x_train: not an array of NumPy",
    ),
    "declares more": (liar, "a.npz: x_train: declares 70,560 bytes of shape (90, 28, 28) but has 31,360"),
    "folder": (lambda path: path.mkdir(), "a.npz: is not a file; give a NumPy archive"),
    "nothing": (lambda path: None, "data.path=a.npz: does not exist"),
}


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("fault", ARCHIVE_FAULTS)
def test_what_is_no_archive_is_one_line(fault: str, mnist_ff: Command) -> None:
    make, said = ARCHIVE_FAULTS[fault]
    make(Path("a.npz"))
    refused(mnist_ff, said, "data=npz", "data.path=a.npz")


def test_a_bomb_is_refused_by_its_header(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb(Path("a.npz"))
    refused(mnist_ff, "a.npz: x_train: declares 2,097,152,000 bytes", "data=npz", "data.path=a.npz")
    monkeypatch.setattr(checks, "MOST_BYTES", 1 << 30)
    refused(mnist_ff, "take 2,097,152,000 bytes, more than the 1,073,741,824", "data=npz", "data.path=a.npz")


def test_a_path_is_needed(mnist_ff: Command) -> None:
    refused(mnist_ff, "data.path=null: data=npz needs the file or folder to read; give data.path=PATH", "data=npz")


def change(name: str, function: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(function((folder / name).read_bytes()))


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
IDX_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda folder: (folder / LABELS).unlink(), f"idx: has no {LABELS} or {LABELS}.gz"),
    "twice": (lambda folder: (folder / f"{LABELS}.gz").write_bytes(b""), f"has both {LABELS} and {LABELS}.gz"),
    "html": (change(IMAGES, lambda body: b"<html>" * 9), f"{IMAGES}: its IDX header is not for 3 dimensions"),
    "short": (change(IMAGES, lambda body: body[:-1]), f"{IMAGES}: ends 1 bytes early; give an IDX file"),
    "long": (change(IMAGES, lambda body: body + b"\0"), f"{IMAGES}: is longer than its header says"),
    "2^31 images": (change(IMAGES, lambda body: body[:4] + struct.pack(">I", 2**31) + body[8:]), "images take 1,6"),
    "2^31 labels": (change(LABELS, lambda body: body[:4] + struct.pack(">I", 2**31)), "2,147,483,648 labels for 8 im"),
    "no gzip": (
        lambda folder: (folder / LABELS).rename(folder / f"{LABELS}.gz"),
        f"{LABELS}.gz: Not a gzipped file",
    ),
    "label 9": (change(LABELS, lambda body: body[:-1] + b"\x09"), "labels go up to 9, but none is 4, 5, 6, 7, 8"),
    "300 wide": (lambda folder: wide(folder), "up to 256 x 256 pixels"),
}


def wide(folder: Path) -> None:
    (folder / IMAGES).write_bytes(idx_bytes(np.zeros((40, 2, 300), np.uint8)))


@pytest.mark.parametrize("fault", IDX_FAULTS)
def test_broken_idx_files_are_one_line(fault: str, mnist_ff: Command) -> None:
    damage, said = IDX_FAULTS[fault]
    damage(write_idx_files(Path("idx"), keras_arrays(4), packed=False))
    refused(mnist_ff, said, "data=idx", "data.path=idx")


def test_cut_gzip_is_one_line(mnist_ff: Command) -> None:
    folder = write_idx_files(Path("idx"), keras_arrays(4), packed=True)
    change(f"{IMAGES}.gz", lambda body: body[:-20])(folder)
    refused(mnist_ff, f"{IMAGES}.gz: ", "data=idx", "data.path=idx")


def picture_bomb(folder: Path) -> None:
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    (folder / "train/a/bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IEND", b""))


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "two sizes": (lambda folder: Image.new("L", (9, 8), 9).save(folder / "train/b/x.png"), "x.png: is 9 x 8, but"),
    "no picture": (lambda folder: (folder / "train/a/x.png").write_text("hi"), "x.png: is not a PNG or JPEG image"),
    "other file": (lambda folder: (folder / "train/a/x.gif").write_bytes(b""), "x.gif: is not a PNG or JPEG file; a c"),
    "empty class": (lambda folder: (folder / "train/c").mkdir(), "pets/train: no train image of class c"),
    "class only in test": (lambda folder: (folder / "test/a").rename(folder / "test/z"), "no train image of class z"),
    "no test": (
        lambda folder: (folder / "test").rename(folder / "tests"),
        "pets: has no folder test; give both, or one",
    ),
    "bomb": (picture_bomb, "bomb.png: has more than 120,000,000 pixels; make it smaller"),
    "empty test": (lambda folder: emptied(folder / "test"), "pets/test: has no images; give at least one per class"),
    "long name": (lambda folder: (folder / "train/b").rename(folder / f"train/{'b' * 99}"), "the class name 'bbbb"),
}


def emptied(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_broken_folder_is_one_line(fault: str, mnist_ff: Command) -> None:
    damage, said = FOLDER_FAULTS[fault]
    damage(write_pictures(Path("pets"), ("a", "b"), (16,), colour=False))
    refused(mnist_ff, said, "data=folder", "data.path=pets")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.path=pets/train"], "pets/train: has no folder train or test; give both, or one folder for each class"),
        (["data.path=pets", "data.test_split=0.2"], "pets: has test images of its own; leave out data.test_split=0.2"),
        (["data.path=pets", "data.size=300"], "data.size=300: must be"),
        (["data.path=pets", "data.size=8", "data.prepare=digit"], "data.size=8: has no effect with data.prepare=digit"),
        (["data.path=pets/train/a/0.png"], "0.png: is not a folder"),
    ],
)
def test_keys_that_do_not_fit_the_folder_are_refused(overrides: list[str], said: str, mnist_ff: Command) -> None:
    write_pictures(Path("pets"), ("a", "b"), (16,), colour=False)
    refused(mnist_ff, said, "data=folder", *overrides)


def test_errors_of_own_data_are_bad_input() -> None:
    assert OwnDataError.exit_code == 2
    assert issubclass(OwnDataError, MnistError)

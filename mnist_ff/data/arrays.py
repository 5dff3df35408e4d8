"""Arrays of any library to tensors, with clear errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mnist_ff.data.load import Data, Split
from mnist_ff.errors import ConfigError, DataError
from mnist_ff.runs.records import MAX_CHANNELS, MAX_CLASSES, MNIST_SPEC, DataSpec, shape_fault

NUMBERS = "biuf"
"""numpy's kinds of numbers: bool, signed, unsigned, floating."""
KINDS = {
    "c": "complex numbers; take their real part",
    "M": "dates",
    "m": "time spans",
    "V": "records; select one field",
    "O": "Python objects; convert them to a numeric dtype, such as with .astype('float32')",
}
"""What else an array may hold, by numpy's letter."""


def numbers_of(values: Any, where: str) -> list[float]:
    """A line of numbers as floats. Errors: ConfigError."""
    try:
        numbers = _tensor(values, where)
    except DataError as error:
        raise ConfigError(str(error)) from None
    if numbers.ndim != 1:
        raise ConfigError(f"{where}: has shape {tuple(numbers.shape)}; give one number per batch")
    return numbers.double().tolist()


def pixels_of(images: Any, where: str) -> torch.Tensor:
    """uint8 pixels as they are, or floats in [0, 1] as float32. Errors: DataError."""
    pixels = _tensor(images, where)
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise DataError(f"{where}: images are {pixels.dtype}; give uint8, or floats in [0, 1]")
    pixels = pixels.float()
    if pixels.numel() and not (0 <= float(pixels.min()) <= float(pixels.max()) <= 1):  # NaN is outside too
        raise DataError(f"{where}: float images must be in [0, 1]; divide by 255")
    return pixels


def classes_of(labels: Any, where: str) -> torch.Tensor:
    """Labels as (N,) int64, from whole numbers (N,) or (N, 1), or one-hot rows (N, K). Errors: DataError."""
    return counted_classes(labels, where)[0]


def counted_classes(labels: Any, where: str) -> tuple[torch.Tensor, int | None]:
    """classes_of() with K, the number of classes, where one-hot rows say it. Errors: DataError."""
    given = _tensor(labels, where)
    classes = given.double() if given.is_floating_point() else given.long()
    if classes.ndim == 2 and classes.shape[1] == 1:
        classes = classes[:, 0]
    if classes.ndim == 2:
        ones = (classes == 1).sum(1)
        if not bool(((ones == 1) & ((classes != 0).sum(1) == 1)).all()):
            raise DataError(f"{where}: labels of shape {tuple(classes.shape)} are not one-hot rows")
        return classes.argmax(1), classes.shape[1]
    if classes.is_floating_point() and not bool((classes == classes.round()).all()):
        raise DataError(f"{where}: labels must be integers")
    return classes.long(), None


def data_of_arrays(arrays: Sequence[Any]) -> Data:
    """[X_train, X_test, y_train, y_test] as Data: images (N, H, W), (N, C, H, W) or vectors (N, D), labels 0 to K - 1
    or one-hot (N, K).

    Vectors of 784 numbers are images of 28 x 28, and images of that size have at least MNIST's ten classes; else K is
    what one-hot labels say, or the largest label and one. Errors: DataError.
    """
    if not isinstance(arrays, list | tuple) or len(arrays) != 4:
        raise DataError("data: must be from load_data() or [X_train, X_test, y_train, y_test]")
    places = {"train": (0, 2, "X_train, y_train"), "test": (1, 3, "X_test, y_test")}
    pixels, labels, widths = {}, {}, set()
    for part, (images, classes, where) in places.items():
        pixels[part] = _images_of(arrays[images], where)
        labels[part], count = counted_classes(arrays[classes], where)
        _check_rows(pixels[part], labels[part], where)
        widths |= set() if count is None else {count}
    if len(widths) > 1:
        raise DataError(f"y_train, y_test: one-hot rows of {' and '.join(map(str, sorted(widths)))} classes")
    shape = tuple(pixels["train"].shape[1:])
    count = max(widths or (int(part.max()) + 1 for part in labels.values()))
    if shape == MNIST_SPEC.shape and not widths:
        count = max(count, len(MNIST_SPEC.classes))
    if count > MAX_CLASSES:  # before there are as many names
        raise DataError(f"data: {count:,} classes; there must be 2 to {MAX_CLASSES:,}")
    spec = DataSpec(shape, tuple(map(str, range(count))))
    fault = spec.fault()
    if fault is not None:
        raise DataError(f"data: {fault}")
    splits = {part: _split(pixels[part], labels[part], spec, where) for part, (_, _, where) in places.items()}
    return Data("arrays", splits["train"], splits["test"], spec=spec)


def split_of_arrays(images: Any, labels: Any, spec: DataSpec, where: str) -> Split:
    """Images and labels as a split of data with this spec. Errors: DataError."""
    pixels, classes = _images_of(images, where), classes_of(labels, where)
    _check_rows(pixels, classes, where)
    return _split(pixels, classes, spec, where)


def _images_of(images: Any, where: str) -> torch.Tensor:
    """Pixels (N, *shape); MNIST's flat vectors as images. Errors: DataError."""
    pixels = pixels_of(images, where)
    shape = tuple(pixels.shape[1:])
    if shape == (MNIST_SPEC.inputs,):
        return pixels.view(-1, *MNIST_SPEC.shape)
    if len(shape) == 3 and shape[0] > MAX_CHANNELS >= shape[2]:
        raise DataError(
            f"{where}: images of shape {shape} have their channels last; give (N, C, H, W), such as with "
            "X.transpose(0, 3, 1, 2) in NumPy"
        )
    fault = shape_fault(shape)
    if fault is not None:
        raise DataError(f"{where}: {fault}")
    return pixels


def _check_rows(pixels: torch.Tensor, labels: torch.Tensor, where: str) -> None:
    if labels.shape != pixels.shape[:1]:
        raise DataError(f"{where}: shapes {tuple(pixels.shape)} and {tuple(labels.shape)} are not (N, ...) and (N,)")
    if len(labels) == 0 or int(labels.min()) < 0:
        raise DataError(f"{where}: labels must be classes from 0 on, and at least one")


def _split(pixels: torch.Tensor, labels: torch.Tensor, spec: DataSpec, where: str) -> Split:
    if tuple(pixels.shape[1:]) != spec.shape:
        raise DataError(f"{where}: images of shape {tuple(pixels.shape[1:])}, but those to train on have {spec.shape}")
    if int(labels.max()) >= len(spec.classes):
        raise DataError(f"{where}: label {int(labels.max())} is not from 0 to {len(spec.classes) - 1}")
    return Split(pixels, labels, len(spec.classes))


def _tensor(values: Any, where: str) -> torch.Tensor:
    """Numbers of any kind as a tensor on the CPU, with their own precision. Errors: DataError."""
    if isinstance(values, torch.Tensor):
        return _own(values, where)
    if isinstance(values, list | tuple) and values and all(isinstance(value, torch.Tensor) for value in values):
        try:
            return torch.stack([_own(value, where) for value in values])
        except RuntimeError as error:
            raise DataError(f"{where}: {error}") from None
    if hasattr(values, "tocoo") and hasattr(values, "nnz"):  # np.asarray would make one object of it
        raise DataError(f"{where}: is sparse; convert it with .toarray()")
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{where}: is a masked array; convert it with .filled(value)")
    try:
        array = np.asarray(values)
    except Exception as error:  # of whatever library it is
        raise DataError(f"{where}: not numbers ({error})") from None
    if array.dtype.kind not in NUMBERS:
        raise DataError(f"{where}: not numbers but {KINDS.get(array.dtype.kind, 'text')}")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (2, 4, 8):
        array = array.astype(np.float64)  # torch has no longer ones
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.require(array, native, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"]))


def _own(tensor: torch.Tensor, where: str) -> torch.Tensor:
    """A tensor of any kind as an ordinary one on the CPU. Errors: DataError."""
    if tensor.is_nested:
        raise DataError(f"{where}: is a nested tensor; convert it with torch.stack(tensor.unbind())")
    if tensor.layout != torch.strided:
        kind = "in the layout mkldnn" if tensor.is_mkldnn else "sparse"
        raise DataError(f"{where}: is {kind}; convert it with .to_dense()")
    if tensor.is_complex():
        raise DataError(f"{where}: not numbers but {KINDS['c']}")
    if tensor.is_meta:
        raise DataError(f"{where}: is on the meta device, which has no data")
    if torch._C._functorch.is_batchedtensor(tensor):
        raise DataError(f"{where}: is a batched tensor of torch.vmap; call this outside torch.vmap")
    try:
        plain = _plain(tensor)
        plain[(slice(1),) * plain.ndim].double().tolist()  # kinds without readable numbers fail here
    except Exception as error:  # a subclass of the caller's may fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise DataError(
            f"{where}: the numbers of this {type(tensor).__name__} of {tensor.dtype} cannot be read ({reason});"
            " give an ordinary tensor"
        ) from None
    return plain


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    plain = tensor.detach().as_subclass(torch.Tensor).cpu().resolve_neg()
    plain = plain.clone() if plain.is_inference() else plain
    if type(plain) is not torch.Tensor:  # a subclass that wraps tensors stays one
        raise TypeError("it wraps other tensors")
    return plain

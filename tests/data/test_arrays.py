"""Numbers of any library and layout are taken; what is none is refused for what is really wrong with it."""

from __future__ import annotations

import array
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import mnist_ff
from mnist_ff.data.arrays import classes_of, numbers_of, pixels_of
from mnist_ff.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.arange(40) % 10)
FLOATS = RNG.random((40, 784), dtype=np.float32)
BYTES = RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8)
HOT = np.eye(10)[LABELS]


def read_only(values: Any) -> Any:
    values = np.array(values)
    values.setflags(write=False)
    return values


def record_field(values: Any) -> Any:
    records = np.zeros(values.shape, dtype=[("a", "i1"), ("value", values.dtype)])
    records["value"] = values
    return records["value"]


def inference(values: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.tensor(values)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "turned round": lambda values: np.flip(values).copy()[::-1, ...] if values.ndim == 1 else np.flip(np.flip(values)),
    "turned twice": lambda values: values[::-1].copy()[::-1],
    "every second": lambda values: np.repeat(values, 2, 0)[::2],
    "Fortran's order": np.asfortranarray,
    "read-only": read_only,
    "big-endian": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "little-endian": lambda values: values.astype(values.dtype.newbyteorder("<")),
    "a field of records": record_field,
    "lists": lambda values: values.tolist() if values.dtype != np.uint8 else list(values),
    "a list of tensors": lambda values: list(torch.tensor(values)),
    "a list of arrays": list,
    "a buffer": lambda values: memoryview(np.ascontiguousarray(values)),
    "masked, but nothing is": np.ma.array,
    "a parameter": lambda values: torch.nn.Parameter(torch.tensor(values), requires_grad=values.dtype.kind == "f"),
    "a transposed tensor": lambda values: torch.tensor(values.T.copy()).permute(*range(values.ndim)[::-1]),
    "an expanded tensor": lambda values: torch.tensor(values)[:, None].expand(-1, 1, *values.shape[1:])[:, 0],
    "in inference mode": inference,
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_of_numbers_is_taken(layout: Callable[[Any], Any]) -> None:
    for images in (FLOATS, BYTES):
        taken = pixels_of(layout(images), "X")
        assert torch.equal(taken, torch.tensor(images))
        assert not taken.requires_grad
        assert not taken.is_inference()
    assert torch.equal(classes_of(layout(LABELS), "y"), torch.tensor(LABELS))


def test_lazily_negated_tensor_is_accepted() -> None:
    negated = torch.complex(torch.zeros(40, 784), -torch.tensor(FLOATS)).conj().imag
    assert negated.is_neg()
    assert torch.equal(pixels_of(negated, "X"), torch.tensor(FLOATS))


class Named(torch.Tensor):
    """Ordinary numbers under another name."""


def test_subclasses_and_quantised_tensors_are_taken() -> None:
    assert torch.equal(pixels_of(torch.tensor(BYTES).as_subclass(Named), "X"), torch.tensor(BYTES))
    assert torch.equal(classes_of(torch.tensor(LABELS).as_subclass(Named), "y"), torch.tensor(LABELS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has other means by now
        whole, parts = (
            torch.quantize_per_tensor(torch.tensor(values).float(), scale, 0, torch.quint8)
            for values, scale in ((LABELS, 1.0), (FLOATS, 1 / 255))
        )
    assert torch.equal(classes_of(whole, "y"), torch.tensor(LABELS))
    torch.testing.assert_close(pixels_of(parts, "X"), torch.tensor(FLOATS), atol=0.003, rtol=0)


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
WHOLE = (*INTEGERS, "float16", "float32", "float64", "longdouble", ">i4", ">f8")


@pytest.mark.parametrize("dtype", WHOLE)
def test_labels_of_any_type_are_taken(dtype: str) -> None:
    for shape in ((40,), (40, 1)):
        assert torch.equal(classes_of(LABELS.astype(dtype).reshape(shape), "y"), torch.tensor(LABELS))
    for hot in (HOT.astype(dtype), HOT.astype(dtype)[::-1][::-1]):
        assert torch.equal(classes_of(hot, "y"), torch.tensor(LABELS))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.bfloat16, torch.float16, torch.uint16, torch.uint32, torch.uint64, torch.int8]
)
def test_tensors_of_any_type_are_taken_as_labels(dtype: torch.dtype) -> None:
    assert torch.equal(classes_of(torch.tensor(HOT).to(dtype), "y"), torch.tensor(LABELS))
    if dtype != torch.bool:
        assert torch.equal(classes_of(torch.tensor(LABELS).to(dtype), "y"), torch.tensor(LABELS))


def test_boolean_one_hot_labels_are_accepted() -> None:
    assert torch.equal(classes_of(HOT.astype(bool), "y"), torch.tensor(LABELS))
    assert torch.equal(classes_of(HOT.astype(bool).tolist(), "y"), torch.tensor(LABELS))


@pytest.mark.parametrize("dtype", ["float16", "float64", "longdouble", ">f4"])
def test_images_of_any_floating_type_become_float32(dtype: str) -> None:
    taken = pixels_of(FLOATS.astype(dtype), "X")
    assert taken.dtype == torch.float32
    torch.testing.assert_close(taken, torch.tensor(FLOATS), atol=1e-3, rtol=0)
    assert pixels_of(torch.tensor(FLOATS).bfloat16(), "X").dtype == torch.float32


def test_frames_and_series_are_taken() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    dummies = pandas.get_dummies(pandas.Series(LABELS))
    assert set(dummies.dtypes) == {np.dtype(bool)}
    assert torch.equal(classes_of(dummies, "y"), torch.tensor(LABELS))
    assert torch.equal(classes_of(pandas.Series(LABELS), "y"), torch.tensor(LABELS))
    assert torch.equal(pixels_of(pandas.DataFrame(BYTES.reshape(40, 784)), "X"), torch.tensor(BYTES).flatten(1))


def test_a_matrix_is_taken() -> None:
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(LABELS).T
    assert torch.equal(classes_of(matrix, "y"), torch.tensor(LABELS))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls them a prototype
    NESTED = torch.nested.nested_tensor([torch.zeros(40), torch.zeros(40)])


class Sparse:
    """As scipy's."""

    nnz = 3

    def tocoo(self) -> object:
        return self


class Broken:
    def __array__(self, *given: object, **named: object) -> Any:
        raise RuntimeError("no memory on the card")


class Wrapping(torch.Tensor):
    """Holds its numbers where only its own operations find them, as many libraries' tensors do."""

    @staticmethod
    def __new__(cls, like: torch.Tensor) -> Wrapping:
        return torch.Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        if function is torch.ops.aten.alias.default or function is torch.ops.aten.detach.default:
            return cls(given[0])
        raise NotImplementedError("ask its owner\nin vain")


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.zeros(40, 784)


def batched() -> torch.Tensor:
    seen = []

    def keep(row: torch.Tensor) -> torch.Tensor:
        seen.append(row)
        return row

    torch.vmap(keep)(torch.zeros(2, 40))
    return seen[0]


WRONG: dict[str, tuple[Any, str]] = {
    "complex": (FLOATS.astype(complex), "not numbers but complex numbers"),
    "a complex tensor": (torch.tensor(FLOATS).cfloat(), "not numbers but complex numbers"),
    "a conjugated tensor": (torch.tensor(FLOATS).cfloat().conj(), "not numbers but complex numbers"),
    "masked": (np.ma.masked_less(FLOATS, 0.5), "is a masked array"),
    "sparse": (Sparse(), "is sparse"),
    "a sparse tensor": (torch.tensor(FLOATS).to_sparse(), "is sparse"),
    "in another layout": (torch.tensor(FLOATS).to_mkldnn(), "in the layout mkldnn; convert it with .to_dense"),
    "nested": (NESTED, r"is a nested tensor; convert it with torch\.stack\(tensor\.unbind\(\)\)"),
    "a list of nested ones": ([NESTED, NESTED], "is a nested"),
    "fake": (fake, "this FakeTensor of torch.float32 cannot be read.* give an ordinary tensor"),
    "wrapping": (Wrapping(torch.zeros(40)), "this Wrapping of .* cannot be read .*; give an ordinary tensor"),
    "batched": (batched(), "batched tensor of torch.vmap; call this outside torch.vmap"),
    "without a shape": (torch.nn.UninitializedParameter(), "this UninitializedParameter .* cannot be read"),
    "without a type": (torch.empty(40, dtype=torch.bits8), "this Tensor of torch.bits8 cannot be read"),
    "without numbers": (torch.zeros(40, 784, device="meta"), "has no data"),
    "objects": (np.array([1, None, "a"], dtype=object), "Python objects"),
    "whole objects": (LABELS.astype(object), "Python objects"),
    "none": (None, "Python objects"),
    "a generator": ((label for label in LABELS), "Python objects"),
    "a dict": ({"a": 1}, "Python objects"),
    "text": (np.array(["7"] * 40), "not numbers but text"),
    "words": (["seven"] * 40, "not numbers but text"),
    "bytes": (b"7777", "not numbers but text"),
    "days": (np.zeros(40, "M8[D]"), "not numbers but dates"),
    "spans": (np.zeros(40, "m8[s]"), "not numbers but time spans"),
    "records": (np.zeros(40, [("a", int)]), "not numbers but records"),
    "ragged": ([[1, 2], [3]], "not numbers"),
    "ragged tensors": ([torch.zeros(2), torch.zeros(3)], "X: .*equal size"),
    "one's own failure": (Broken(), "no memory on the card"),
}


@pytest.mark.parametrize(("values", "reason"), WRONG.values(), ids=WRONG)
def test_non_numeric_arrays_are_refused_by_kind(values: Any, reason: str) -> None:
    values = fake() if values is fake else values  # it imports torch's compiler
    for read in (pixels_of, classes_of):
        with pytest.raises(DataError, match=reason) as caught:
            read(values, "X")
        assert str(caught.value).startswith("X: ")
        assert "\n" not in str(caught.value)


def test_a_label_beyond_all_classes_is_refused_at_once() -> None:
    labels = LABELS.astype(np.int64)
    labels[3] = 10**15
    with pytest.raises(DataError, match=r"1,000,000,000,000,001 classes; there must be 2 to 1,000"):
        mnist_ff.run_network([FLOATS, FLOATS, labels, LABELS], epochs=1, batch=8, verbose=False)


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf, 0.5])
def test_labels_that_are_no_classes_are_refused(missing: float) -> None:
    labels = LABELS.astype(float)
    labels[3] = missing
    with pytest.raises(DataError, match="y_train"):
        mnist_ff.run_network([FLOATS, FLOATS, labels, LABELS], epochs=1, batch=8, verbose=False)


@pytest.mark.parametrize("shape", [(), (0,), (40,), (40, 1, 1, 1, 10), (2, 20, 784)])
def test_arrays_of_no_use_are_refused(shape: tuple[int, ...]) -> None:
    for data in ([np.zeros(shape), FLOATS, LABELS, LABELS], [FLOATS, FLOATS, np.zeros(shape), LABELS]):
        if data[2] is LABELS or shape != (40,):
            with pytest.raises(DataError, match="X_train, y_train: "):
                mnist_ff.run_network(data, epochs=1, batch=8, verbose=False)


def test_labels_may_come_from_any_library() -> None:
    for losses in ([1, 2.5], (1, 2.5), np.array([1, 2.5])[::-1][::-1], torch.tensor([1, 2.5], requires_grad=True)):
        assert numbers_of(losses, "losses") == [1.0, 2.5]
    assert numbers_of(array.array("d", [1, 2.5]), "losses") == [1.0, 2.5]
    assert numbers_of([], "losses") == []
    assert numbers_of([torch.tensor(1.0), torch.tensor(2.5)], "losses") == [1.0, 2.5]
    for wrong in (3, None, "abc", ["a"], [[1.0]], {"loss": 1}, [None]):
        with pytest.raises(ConfigError, match=r"^losses: "):
            numbers_of(wrong, "losses")

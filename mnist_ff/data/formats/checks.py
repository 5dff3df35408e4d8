"""Checks of own data, whole and before training: counts, types, ranges, labels, classes, duplicates. numpy only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_ff.data.formats.contents import PARTS, Contents, Found
from mnist_ff.errors import OwnDataError
from mnist_ff.runs.records import MAX_CHANNELS, MAX_CLASSES, MAX_SIDE, DataSpec

MOST_BYTES = 8 << 30
"""Maximum size of a split's decoded images: 43,000 of the largest ones."""
NAMED = 8
"""Classes that a message lists."""


def checked(found: Found) -> Contents:
    """What was found, checked: images in one layout, labels as (N,) int64. Errors: OwnDataError, one line."""
    arrays: dict[str, NDArray[Any]] = {}
    for part in PARTS:
        if f"{part}_images" not in found.arrays:
            continue
        of_images, of_labels = found.names[f"{part}_images"], found.names[f"{part}_labels"]
        images = checked_images(found.arrays[f"{part}_images"], of_images)
        labels = checked_labels(found.arrays[f"{part}_labels"], of_labels)
        check_counts(len(images), len(labels), of_labels)
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    _check_alike(arrays, found)
    classes = _checked_classes(arrays, found)
    return Contents(found.title, arrays, classes, duplicates(arrays), sums_of(arrays, classes))


def check_counts(images: int, labels: int, name: str) -> None:
    """See that each image has a label, which are `name`. Errors: OwnDataError."""
    if images != labels:
        raise OwnDataError(f"{name}: {_counted(labels, 'label')} for {_counted(images, 'image')}; give each its label")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def check_size(shape: tuple[int, ...], item_bytes: int, name: str) -> None:
    """See that an array of images can be taken, before there is memory for it. Errors: OwnDataError."""
    if len(shape) not in (3, 4):
        raise OwnDataError(
            f"{name}: has shape {shape}; give images as (N, H, W), (N, H, W, channels) or (N, channels, H, W)"
        )
    if shape[0] == 0:
        raise OwnDataError(f"{name}: has no images; give at least one per class")
    _, channels, height, width = _layout(shape)
    if not (1 <= channels <= MAX_CHANNELS and 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise OwnDataError(
            f"{name}: has shape {shape}; images may have up to {MAX_SIDE} x {MAX_SIDE} pixels and {MAX_CHANNELS} "
            "channels: make them smaller"
        )
    needed, most = item_bytes, min(MOST_BYTES, _memory())
    for length in shape:
        needed *= length
    if needed > most:
        raise OwnDataError(
            f"{name}: its {shape[0]:,} images take {needed:,} bytes, more than the {most:,} that can be used; "
            "give fewer or smaller images"
        )


def _memory() -> int:
    """Bytes of this machine's memory, where it says them."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return MOST_BYTES


def _layout(shape: tuple[int, ...]) -> tuple[bool, int, int, int]:
    """Whether channels come first, then channels, height and width; a last axis of 1 to 3 is taken for channels."""
    if len(shape) == 3:
        return True, 1, shape[1], shape[2]
    if shape[3] <= MAX_CHANNELS or shape[1] > MAX_CHANNELS:
        return False, shape[3], shape[1], shape[2]
    return True, shape[1], shape[2], shape[3]


def checked_images(images: NDArray[Any], name: str) -> NDArray[Any]:
    """Images as (N, H, W) or (N, C, H, W), uint8 or float32 in [0, 1]. Errors: OwnDataError."""
    check_size(images.shape, images.itemsize, name)
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise OwnDataError(f"{name}: images are {images.dtype}; give uint8, or floats in [0, 1]")
    first, channels, _, _ = _layout(images.shape)
    if images.ndim == 4:
        images = images if first else np.moveaxis(images, 3, 1)
        images = images[:, 0] if channels == 1 else images
    low, high = images.min(), images.max()
    if np.isnan(low):
        raise OwnDataError(f"{name}: {_rows_with(np.isnan(images))}; leave them out or repair them")
    if images.dtype != np.uint8:
        if not 0 <= low <= high <= 1:
            raise OwnDataError(
                f"{name}: floats from {low:g} to {high:g}; give uint8, or floats in [0, 1]: divide by 255"
            )
        return np.ascontiguousarray(images, np.float32)
    if high <= 1:
        what = "only 0 and 1" if high else "only 0"
        raise OwnDataError(f"{name}: uint8 pixels are {what}, though 255 is white; multiply by 255, or give floats")
    return np.ascontiguousarray(images)


def _rows_with(wrong: NDArray[np.bool_]) -> str:
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    return f"NaN in {_counted(len(rows), 'image')}, the first at index {rows[0]}"


def checked_labels(labels: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Labels as (N,) int64, from whole numbers (N,) or (N, 1). Errors: OwnDataError."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise OwnDataError(
            f"{name}: has shape {labels.shape}; give one class number per image, (N,) or (N, 1); of one-hot rows "
            "take .argmax(1)"
        )
    if labels.dtype.kind not in "iu":
        raise OwnDataError(
            f"{name}: labels are {labels.dtype}; give whole numbers from 0, such as with .astype('int64')"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < MAX_CLASSES:
        wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise OwnDataError(
            f"{name}: a label is {wrong}; give class numbers from 0 to at most {MAX_CLASSES - 1}: the number of "
            "classes less one"
        )
    return np.ascontiguousarray(labels, np.int64)


def _check_alike(arrays: dict[str, NDArray[Any]], found: Found) -> None:
    """Errors: OwnDataError where the images of two parts differ in shape or type."""
    train = arrays["train_images"]
    for part in PARTS[1:]:
        other = arrays.get(f"{part}_images", train)
        if other.shape[1:] != train.shape[1:] or other.dtype != train.dtype:
            raise OwnDataError(
                f"{found.names[f'{part}_images']}: images are {_said(other)}, but the training images {_said(train)}; "
                "prepare all parts alike"
            )


def _said(images: NDArray[Any]) -> str:
    return f"{' x '.join(map(str, images.shape[1:]))} {images.dtype}"


def _checked_classes(arrays: dict[str, NDArray[Any]], found: Found) -> tuple[str, ...]:
    """The names of the classes, each of which has images in every part. Errors: OwnDataError."""
    parts = {part: np.unique(arrays[f"{part}_labels"]) for part in PARTS if f"{part}_labels" in arrays}
    used = sorted({int(label) for labels in parts.values() for label in labels})
    where = found.names["train_labels"]
    if found.classes is not None and used[-1] >= len(found.classes):
        raise OwnDataError(f"{where}: a label is {used[-1]}, but there are {len(found.classes)} class names; name all")
    count = used[-1] + 1 if found.classes is None else len(found.classes)
    gaps = [number for number in range(count) if number not in used]
    classes = tuple(map(str, range(count))) if found.classes is None else tuple(found.classes)
    if gaps and found.classes is None:
        remedy = "subtract 1" if gaps == [0] else "number the classes without gaps"
        raise OwnDataError(
            f"{where}: labels go up to {used[-1]}, but none is {_listed(list(map(str, gaps)))}; {remedy}"
        )
    fault = DataSpec(arrays["train_images"].shape[1:], classes).fault()
    if fault is not None:
        raise OwnDataError(f"{found.names.get('classes', where)}: {fault}")
    for part, labels in parts.items():
        missing = [classes[number] for number in range(count) if number not in labels]
        if missing:
            raise OwnDataError(
                f"{found.names[f'{part}_labels']}: no {part} image of class {_listed(missing)}; every part needs "
                "images of every class"
            )
    return classes


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def duplicates(arrays: dict[str, NDArray[Any]]) -> dict[str, int]:
    """How many images of each other part are byte for byte among the training images."""
    train = set(_row_sums(arrays["train_images"]))
    others = [part for part in PARTS[1:] if f"{part}_images" in arrays]
    return {part: sum(row in train for row in _row_sums(arrays[f"{part}_images"])) for part in others}


def _row_sums(images: NDArray[Any]) -> Iterator[bytes]:
    return (hashlib.blake2b(image.data, digest_size=16).digest() for image in images)


def sums_of(arrays: Mapping[str, NDArray[Any]], classes: tuple[str, ...]) -> dict[str, str]:
    """The SHA-256 of each array with its type and shape, and of the class names; arrays are C-contiguous."""
    sums = {}
    for name, values in arrays.items():
        digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
        digest.update(values.data)
        sums[name] = digest.hexdigest()
    return {**sums, "classes": hashlib.sha256("\n".join(classes).encode()).hexdigest()}

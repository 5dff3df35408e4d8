"""The IDX format: a header with type and shape, then the values; read with checks. Standard library only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BufferedIOBase

IMAGES, LABELS = 0x0803, 0x0801
"""First words of files with three dimensions and with one, of unsigned bytes."""
BLOCK_BYTES = 1 << 16


def read_header(source: BufferedIOBase, magic: int) -> tuple[int, ...]:
    """The shape that a header declares. Errors: ValueError where it is no header with this first word."""
    dimensions = magic & 0xFF
    header = source.read(4 * (1 + dimensions))
    words = struct.unpack(f">{1 + dimensions}I", header) if len(header) == 4 * (1 + dimensions) else (0,)
    if words[0] != magic:
        raise ValueError(f"its IDX header is not for {dimensions} dimension{'' if dimensions == 1 else 's'}")
    return words[1:]


def content(source: BufferedIOBase, size: int) -> Iterator[bytes]:
    """The `size` bytes that a header declares, in blocks and never past them. Errors: ValueError where there are more
    or fewer."""
    left = size
    while left and (block := source.read(min(BLOCK_BYTES, left))):
        yield block
        left -= len(block)
    if left:
        raise ValueError(f"ends {left} bytes early")
    if source.read(1):
        raise ValueError("is longer than its header says")

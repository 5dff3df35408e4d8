"""Read the history in a .wandb file, which wandb reads only in its Go program.

The file is LevelDB's log format after seven bytes: blocks of 32 KiB that hold parts, each with CRC (4), length (2) and
type (1); a record is one whole part, or a first, middle ones and a last. Each record is one of wandb's own messages.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_ff.errors import BadRunError
from mnist_ff.runs.reading import read_bytes

BLOCK_BYTES, HEADER_BYTES = 32768, 7
MAGIC = b":W&B"
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAX_WANDB_BYTES = 256 << 20
"""Bytes of a file that is read: a million rows."""
MAX_RECORD_BYTES = 64 << 20


def history_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of history that a file has, up to where it was torn. Errors: BadRunError."""
    for record in _messages(path):
        if record.WhichOneof("record_type") == "history":
            try:
                items = {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }
            except (ValueError, RecursionError):
                return
            yield items


def is_whole(path: Path) -> bool:
    """Whether a file holds its run's end, or is too large to look."""
    with suppress(BadRunError):
        return any(record.WhichOneof("record_type") == "exit" for record in _messages(path))
    return True


def _messages(path: Path) -> Iterator[Any]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # made when it is imported
    for content in _records(read_bytes(path, MAX_WANDB_BYTES)):
        record = messages.Record()
        try:
            record.ParseFromString(content)
        except DecodeError:
            return
        yield record


def _records(content: bytes) -> Iterator[bytes]:
    if not content.startswith(MAGIC):
        return
    place, parts = HEADER_BYTES, bytearray()
    while place + HEADER_BYTES <= len(content):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < HEADER_BYTES:  # too little for a part's head: the block's rest is empty
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER_BYTES])
        end = place + HEADER_BYTES + length
        if end > len(content) or kind not in (WHOLE, FIRST, MIDDLE, LAST) or len(parts) > MAX_RECORD_BYTES:
            return
        parts += content[place + HEADER_BYTES : end]
        place = end
        if kind in (WHOLE, LAST):
            yield bytes(parts)
            parts.clear()

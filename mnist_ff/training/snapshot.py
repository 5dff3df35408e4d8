"""A copy on the host of what training changes, taken at one moment: training can go on while the copy is written."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, TypeAlias

import torch

_Buffers: TypeAlias = "dict[tuple[int, int, bool], torch.Tensor]"
"""Memory of one copy, uint8: by the number of the storage that it holds, its bytes, and whether it is pinned."""


class Snapshots:
    """Takes one copy after the other, in the same memory: the one before must not be needed any more.

    On CUDA that memory is pinned, so that all copies are under way before the host waits for them, once.
    """

    def __init__(self) -> None:
        self._buffers: _Buffers = {}

    def take(self, values: Any) -> Any:
        """The same containers with the same numbers, strings and tensors, the tensors on the CPU.

        torch.save() makes the same of both: tensors that share their memory still do, parts of a larger one stay such.
        """
        taking = _Taking(self._buffers)
        taken = taking.copied(values)
        self._buffers = taking.used
        for device in taking.waited_for:
            torch.cuda.current_stream(device).synchronize()
        return taken


class _Taking:
    """The state of one take(): what was copied already, by the identity of the original."""

    def __init__(self, buffers: _Buffers) -> None:
        self._free = buffers
        self.used: _Buffers = {}
        self.waited_for: set[torch.device] = set()
        self._known: dict[int, Any] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}

    def copied(self, value: Any) -> Any:
        """The copy of a value, the same one where the value comes again."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if id(value) not in self._known:
            self._known[id(value)] = self._copy(value)
        return self._known[id(value)]

    def _copy(self, value: Any) -> Any:
        kind = type(value)
        if kind is tuple:
            return tuple(map(self.copied, value))
        if kind is list:
            items: list[Any] = []
            self._known[id(value)] = items  # before its items, one of which may be the list itself
            items.extend(map(self.copied, value))
            return items
        if kind is dict or kind is OrderedDict:
            table: dict[Any, Any] = kind()
            self._known[id(value)] = table
            table.update((key, self.copied(item)) for key, item in value.items())
            if kind is OrderedDict:  # a state_dict() has attributes
                vars(table).update((name, self.copied(item)) for name, item in vars(value).items())
            return table
        return self._tensor(value) if _is_plain(value) else copy.deepcopy(value)

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = self._storage(tensor.untyped_storage())
        taken = torch.empty(0, dtype=tensor.dtype, device="cpu")
        taken.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
        return taken.requires_grad_(tensor.requires_grad)

    def _storage(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        """The copy of all the memory that a tensor may be a part of."""
        if storage._cdata not in self._storages:
            device, on_cuda = storage.device, storage.device.type == "cuda"
            buffer = self._buffer(storage.nbytes(), on_cuda)
            source = torch.empty(0, dtype=torch.uint8, device=device).set_(storage)
            buffer.copy_(source, non_blocking=on_cuda)
            if on_cuda:
                self.waited_for.add(device)
            self._storages[storage._cdata] = buffer.untyped_storage()
        return self._storages[storage._cdata]

    def _buffer(self, size: int, pinned: bool) -> torch.Tensor:
        """Memory for the next storage: the copy before has it where as much was there, as in nearly all trainings."""
        key = len(self.used), size, pinned
        found = self._free.get(key)
        if found is None:
            found = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=pinned)
        self.used[key] = found
        return found


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor that is no more than a view of its memory."""
    if type(value) is not torch.Tensor or value.layout is not torch.strided or value.device.type == "meta":
        return False
    return not (value.is_quantized or value.is_nested or value.is_conj() or value.is_neg())

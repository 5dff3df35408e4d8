"""A CUDA graph of any module's step: can it be captured, and would its replays do all that the step does?

A replay repeats what the device did and none of Python: neither hooks, nor draws on the CPU, nor a counter that the
module keeps. Where one of those is seen, or where the capture fails, the step stays eager.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_modules

from mnist_ff.engine.chance import own_generators
from mnist_ff.engine.graph import GraphSteps
from mnist_ff.errors import first_line

SIMPLE = (bool, int, float, str, bytes, type(None))
"""Types of attributes that are compared by their values."""
FRESH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""


def why_not_captured(model: nn.Module, step: GraphSteps, device: torch.device, images: int) -> str | None:
    """Capture a graph of one batch of so many images; return why that cannot stand for the step, or None.

    Weights, buffers, optimizer and generators are after it as they were, and the graph is thrown away: a resume may
    still give the optimizer other tensors.
    """
    found = _calls_python(model)
    if found is not None:
        return found
    model.train()
    buffers = [(module._buffers, dict(module._buffers)) for module in model.modules()]
    generators = graph_generators(model, device)
    try:
        with _sound_after(generators):
            step.prepare(images)  # a module may make in its first step what it keeps from then on
            step.forget()
            before = _kept_in_python(model)
            with _no_waiting(device):
                step.prepare(images)
    except Exception as error:  # what cannot be captured fails in many ways
        while isinstance(error.__context__, Exception):
            error = error.__context__  # the end of a failed capture fails too
        return f"the step cannot be captured ({first_line(error).rstrip('.')})"
    finally:
        step.forget()
        for own, saved in buffers:
            own.update(saved)
    after = _kept_in_python(model)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return f"a graph would not change {min(changed)}" if changed else None


def graph_generators(model: nn.Module, device: torch.device) -> list[torch.Generator]:
    """What a module's step draws from on the device: generators of its own, and torch's."""
    own = [generator for generator in own_generators(model).values() if generator.device.type == device.type]
    if device.type != "cuda":
        return [*own, torch.default_generator]
    return [*own, torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]]


def _calls_python(model: nn.Module) -> str | None:
    """What of a model calls Python in each step, or None where nothing is seen."""
    for name, value in vars(torch_modules).items():
        if name.startswith("_global_") and name.endswith("_hooks") and value:
            return "a global module hook is registered"
    for path, module in model.named_modules():
        where = path or "the model"
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            return f"{where} is a {type(module).__name__}"
        if any(value for key, value in vars(module).items() if key.endswith("_hooks") and "state_dict" not in key):
            return f"{where} has a hook"
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"{name} has a hook"
    return None


def _kept_in_python(model: nn.Module) -> dict[str, Any]:
    """What a step might change without the device, by names for people. A buffer may change, but not be another."""
    kind, keys, position, *_ = np.random.get_state(legacy=True)
    found: dict[str, Any] = {
        "Python's random numbers": random.getstate(),
        "NumPy's random numbers": (kind, np.asarray(keys).tobytes(), position),
        "torch's random numbers on the CPU": torch.get_rng_state().numpy().tobytes(),
    }
    for path, module in model.named_modules():
        own = {name: value for name, value in vars(module).items() if name not in FRESH}
        found |= {f"{path}.{name}".lstrip("."): _token(value) for name, value in own.items()}
        found |= {f"{path}.{name}".lstrip("."): id(buffer) for name, buffer in module._buffers.items()}
    return found


def _token(value: Any) -> Any:
    """What is seen to differ where an attribute was changed."""
    if isinstance(value, torch.Generator):
        return value.get_state().numpy().tobytes()
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    if isinstance(value, list | tuple | dict | set):
        return id(value), len(value)
    return value if isinstance(value, SIMPLE) else id(value)


@contextmanager
def _sound_after(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """After a capture that failed, the stream is the one before it and no generator believes that it is captured."""
    on_device = [generator for generator in generators if generator.device.type == "cuda"]
    if not on_device:
        yield
        return
    stream, spares = torch.cuda.current_stream(), [generator.clone_state() for generator in on_device]
    try:
        yield
    except Exception:
        torch.cuda.set_stream(stream)
        for generator, spare in zip(on_device, spares, strict=True):
            generator.graphsafe_set_state(spare)
        raise


@contextmanager
def _no_waiting(device: torch.device) -> Iterator[None]:
    """Inside the block what waits for the device is an error already in the warm-up, and not only in a capture."""
    if device.type != "cuda":
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """A stream of its own for a warm-up: autograd would bind a capture to the stream in which it worked before."""
    if device.type != "cuda":
        yield
        return
    stream, usual = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)

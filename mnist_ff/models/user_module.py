"""A module of the user's own, given from Python or built by a part: made trainable, and checked."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mnist_ff.data.load import as_input
from mnist_ff.errors import ConfigError, first_line, type_name
from mnist_ff.models.mlp import MLP, seed_dropout
from mnist_ff.runs.records import DataSpec

SAVED_AS = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The types of numbers that a run's files hold, as safetensors names them."""


def to_train(model: object, seed: int, device: torch.device, spec: DataSpec, what: str = "model") -> nn.Module:
    """The module on the device, its masks drawn from the seed.

    `what` names it in errors. Errors: ConfigError for one that cannot be trained on images of this spec.
    """
    if isinstance(model, type):
        raise ConfigError(f"{what}: is the class {model.__name__}; give an instance of it")
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{what}: is {type_name(model)}, not a torch.nn.Module")
    try:
        network = model.to(device)
    except (NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"{what}: cannot be moved to {device} ({first_line(error)})") from None
    for module in network.modules():
        if isinstance(module, MLP):  # a part of another module too
            seed_dropout(module, seed, device)
    _leave_inference_mode(network)
    give_lazy_shapes(network, device, spec, what)
    for name, parameter in network.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ConfigError(f"{what}: {name} is still uninitialised, because forward() does not use it")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"{what}: has no trainable parameters; see requires_grad_()")
    _check_one_device(network, device, what)
    return network


def to_train_on(model: object, seed: int, device: torch.device, spec: DataSpec) -> tuple[nn.Module, tuple[int, ...]]:
    """to_train() for a module of a caller's, with the shape in which it takes an image: as a flat vector where it
    accepts that, else the data's own.

    Errors: ConfigError, about flat vectors, where it accepts neither.
    """
    first: ConfigError | None = None
    for shape in dict.fromkeys([(spec.inputs,), spec.shape]):
        try:
            return to_train(model, seed, device, DataSpec(shape, spec.classes)), shape
        except ConfigError as error:
            first = first or error
    assert first is not None
    raise first


def taken_by(model: nn.Module, spec: DataSpec) -> DataSpec:
    """The data as a caller's module takes it: its own, or where it refuses that, each image as one flat vector."""
    flat = DataSpec((spec.inputs,), spec.classes)
    return flat if not _takes(model, spec) and _takes(model, flat) else spec


def _takes(model: nn.Module, spec: DataSpec) -> bool:
    """Whether a module maps such images to logits. Nothing of it changes: a lazy one is tried as a copy."""
    tensors = [*model.parameters(), *model.buffers()]
    try:
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            model = copy.deepcopy(model)
        give_lazy_shapes(model, tensors[0].device if tensors else torch.device("cpu"), spec, "model")
    except Exception:  # a module of the user's may fail in any way; the one that trains it says how
        return False
    return True


def check_savable(network: nn.Module, what: str) -> None:
    """See that a run's files can hold all that state_dict() returns. Errors: ConfigError naming what they cannot."""
    for name, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"{what}: state_dict() has {type_name(value)} under {name}, and only tensors can be saved; "
                "see register_buffer()"
            )
        if value.layout is not torch.strided or value.dtype not in SAVED_AS:
            kind = _short(value.dtype) if value.layout is torch.strided else _short(value.layout)
            raise ConfigError(f"{what}: {name} is {kind}, which cannot be saved")


def must_be_finite(network: nn.Module) -> list[str]:
    """The names in state_dict() of what training must keep finite: parameters, and buffers that are so now.

    A mask of minus infinity is a buffer that is not.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    state = network.state_dict().items()
    return [name for name, value in state if name in parameters or bool(value.isfinite().all())]


def _check_one_device(network: nn.Module, device: torch.device, what: str) -> None:
    tensors = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in tensors:
        if tensor.device.type != device.type or tensor.device != tensors[0][1].device:
            raise ConfigError(f"{what}: {name} stays on {tensor.device}; a model must be on one device, here {device}")


def _leave_inference_mode(network: nn.Module) -> None:
    """Put ordinary parameters and buffers in the place of those made in inference mode, which nothing can train."""
    fresh: dict[int, torch.Tensor] = {}
    for module in network.modules():
        places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in places:
            for name, tensor in tensors.items():
                with torch._C.DisableTorchFunctionSubclass():  # lazy ones output no question
                    spoiled = tensor is not None and tensor.is_inference()
                if spoiled:
                    if id(tensor) not in fresh:  # one that stands in two places stays one
                        fresh[id(tensor)] = _ordinary(tensor)
                    tensors[name] = fresh[id(tensor)]


def _ordinary(tensor: torch.Tensor) -> torch.Tensor:
    place: Any = {"device": tensor.device, "dtype": tensor.dtype}
    if isinstance(tensor, nn.UninitializedParameter):
        return nn.UninitializedParameter(requires_grad=tensor.requires_grad, **place)
    if isinstance(tensor, nn.UninitializedBuffer):
        return nn.UninitializedBuffer(requires_grad=tensor.requires_grad, **place)
    clone = tensor.detach().clone()
    return nn.Parameter(clone, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else clone


def give_lazy_shapes(network: nn.Module, device: torch.device, spec: DataSpec, what: str) -> None:
    """Ask for two images' logits, which also gives lazy layers their shapes. Errors: ConfigError."""
    images, classes = as_input(torch.zeros(2, *spec.shape, device=device)), len(spec.classes)
    shape = tuple(images.shape)
    # no_grad, because in inference mode lazy layers would make what cannot be trained; chance belongs to training
    with modes_kept(network), torch.no_grad(), torch.random.fork_rng(devices=[]), buffers_kept(network):
        try:
            output = network.train(False)(images)
        except Exception as error:  # a module of the user's may fail in any way
            raise ConfigError(f"{what}: {_why_it_fails(network, shape, error)}") from error
    if not isinstance(output, torch.Tensor):
        raise ConfigError(f"{what}: returns {type_name(output)}, not a tensor of (B, {classes}) logits")
    if tuple(output.shape) != (2, classes) or not output.is_floating_point():
        raise ConfigError(
            f"{what}: maps {shape} to {tuple(output.shape)} {_short(output.dtype)}, not to (2, {classes}) logits"
        )


def _why_it_fails(network: nn.Module, shape: tuple[int, ...], error: Exception) -> str:
    for name, parameter in network.named_parameters():
        if not nn.parameter.is_lazy(parameter) and parameter.dtype != torch.float32:
            return f"{name} is {_short(parameter.dtype)}, and images are float32; give model.float()"
    return f"fails on {shape} float32 images ({type(error).__name__}: {first_line(error)})"


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """After the block each buffer is what it was; one without a shape yet keeps the one that it has got."""
    buffers = [(module, name, value) for module in network.modules() for name, value in module._buffers.items()]
    known = [place for place in buffers if place[2] is None or not nn.parameter.is_lazy(place[2])]
    copies = [None if value is None else value.clone() for _, _, value in known]
    try:
        yield
    finally:
        with torch.no_grad():
            for (module, name, value), copy in zip(known, copies, strict=True):
                module._buffers[name] = None if value is None or copy is None else value.copy_(copy)


@contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """After the block each module is in training or evaluation mode as it was."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """After the block, however it ends, a module is what it was but for its weights, and has no gradients.

    A fused step moves parameters into one buffer. Their own memory gets the trained values: views of it stay views.
    """
    homes = [(parameter, parameter.data) for parameter in network.parameters()]
    try:
        with modes_kept(network):
            yield
    finally:
        with torch.no_grad():
            for parameter, home in homes:
                parameter.grad = None
                if parameter.data_ptr() != home.data_ptr():
                    whole = home.untyped_storage().nbytes() == home.numel() * home.element_size()
                    parameter.data = home.copy_(parameter) if whole else parameter.detach().clone()


def _short(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")

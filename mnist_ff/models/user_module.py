"""Prepare and check a user's module, given from Python or built by a part, for training."""

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
"""The dtypes that a run's files can hold, and their names in safetensors."""


def to_train(model: object, seed: int, device: torch.device, spec: DataSpec, what: str = "model") -> nn.Module:
    """Move a module to the device, seed its dropout, and check it.

    what: names it in errors. Errors: ConfigError if it cannot be trained on images of this spec.
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
        if isinstance(module, MLP):  # also as a part of another module
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
    """As to_train(), with the shape of an image that the module takes: a flat vector if it accepts that, else the
    data's.

    Errors: ConfigError, about flat vectors, if it accepts neither.
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
    """The spec of the images that a module takes: the data's, or flat vectors if it accepts only those."""
    flat = DataSpec((spec.inputs,), spec.classes)
    return flat if not _accepts(model, spec) and _accepts(model, flat) else spec


def _accepts(model: nn.Module, spec: DataSpec) -> bool:
    """Whether a module maps images of this spec to logits. It is not changed: a lazy one is copied for the check."""
    tensors = [*model.parameters(), *model.buffers()]
    try:
        if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
            model = copy.deepcopy(model)
        give_lazy_shapes(model, tensors[0].device if tensors else torch.device("cpu"), spec, "model")
    except Exception:  # a user's module may fail in any way; to_train() reports it
        return False
    return True


def check_savable(network: nn.Module, what: str) -> None:
    """Check that a run's files can hold all of state_dict(). Errors: ConfigError naming the entry that they cannot."""
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
    """The names in state_dict() of tensors that must stay finite: parameters, and buffers that are finite now.

    A buffer may have infinite values, such as a mask.
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
    """Replace parameters and buffers that were created in inference mode, which cannot be trained."""
    fresh: dict[int, torch.Tensor] = {}
    for module in network.modules():
        places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in places:
            for name, tensor in tensors.items():
                with torch._C.DisableTorchFunctionSubclass():  # lazy ones output no question
                    is_inference = tensor is not None and tensor.is_inference()
                if is_inference:
                    if id(tensor) not in fresh:  # a shared tensor stays shared
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
    """Run two images through the network, which gives lazy layers their shapes, and check the logits.

    Errors: ConfigError.
    """
    images, classes = as_input(torch.zeros(2, *spec.shape, device=device)), len(spec.classes)
    shape = tuple(images.shape)
    # not inference_mode(), in which lazy layers would create tensors that cannot be trained
    with modes_kept(network), torch.no_grad(), torch.random.fork_rng(devices=[]), buffers_kept(network):
        try:
            output = network.train(False)(images)
        except Exception as error:  # a user's module may fail in any way
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
    """Restore all buffers after the block. One that had no shape yet keeps the one it got."""
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
    """Restore the training mode of all modules after the block."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """After the block a module is as before, except that it has trained weights and no gradients.

    The fused step moves parameters into one buffer. The trained values are copied back into the parameters' own memory,
    so that views of it stay views.
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

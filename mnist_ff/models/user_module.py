"""A module of the user's own: made trainable here, checked, and given back as it was but for its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mnist_ff.errors import ConfigError, first_line, type_name
from mnist_ff.models.mlp import MLP, seed_dropout
from mnist_ff.runs.records import DataSpec


def to_train(model: object, seed: int, device: torch.device, spec: DataSpec) -> tuple[nn.Module, tuple[int, ...]]:
    """The module on the device, its masks drawn from the seed, and the shape in which it takes an image: as a flat
    vector where it accepts that, else the data's own.

    Errors: ConfigError for one that cannot be trained.
    """
    if isinstance(model, type):
        raise ConfigError(f"model: is the class {model.__name__}; give an instance of it")
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: is {type_name(model)}, not a torch.nn.Module")
    try:
        network = model.to(device)
    except (NotImplementedError, RuntimeError) as error:
        raise ConfigError(f"model: cannot be moved to {device} ({first_line(error)})") from None
    for module in network.modules():
        if isinstance(module, MLP):  # a part of another module too
            seed_dropout(module, seed, device)
    _leave_inference_mode(network)
    shape = _accepted_shape(network, device, spec)
    for name, parameter in network.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ConfigError(f"model: {name} is still uninitialised, because forward() does not use it")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError("model: has no trainable parameters; see requires_grad_()")
    return network, shape


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


def _accepted_shape(network: nn.Module, device: torch.device, spec: DataSpec) -> tuple[int, ...]:
    """The shape of an image for which the module returns logits; asking gives lazy layers their shapes.

    Errors: ConfigError, about flat vectors, where it returns them for no shape.
    """
    first: ConfigError | None = None
    for shape in dict.fromkeys([(spec.inputs,), spec.shape]):
        try:
            _check_logits(network, torch.zeros(2, *shape, device=device), len(spec.classes))
        except ConfigError as error:
            first = first or error
        else:
            return shape
    assert first is not None
    raise first


def _check_logits(network: nn.Module, images: torch.Tensor, classes: int) -> None:
    """Ask for the logits of two images. Errors: ConfigError."""
    with _modes_kept(network), torch.no_grad():  # in inference mode lazy layers would make what cannot be trained
        try:
            output = network.train(False)(images)
        except Exception as error:  # a module of the user's may fail in any way
            raise ConfigError(f"model: {_why_it_fails(network, images, error)}") from error
    if not isinstance(output, torch.Tensor):
        raise ConfigError(f"model: returns {type_name(output)}, not a tensor of (B, {classes}) logits")
    if tuple(output.shape) != (2, classes) or not output.is_floating_point():
        raise ConfigError(
            f"model: maps {tuple(images.shape)} to {tuple(output.shape)} {_short(output.dtype)}, "
            f"not to (2, {classes}) logits"
        )


def _why_it_fails(network: nn.Module, images: torch.Tensor, error: Exception) -> str:
    for name, parameter in network.named_parameters():
        if not nn.parameter.is_lazy(parameter) and parameter.dtype != torch.float32:
            return f"{name} is {_short(parameter.dtype)}, and images are float32; give model.float()"
    return f"fails on {tuple(images.shape)} float32 images ({type(error).__name__}: {first_line(error)})"


@contextmanager
def _modes_kept(network: nn.Module) -> Iterator[None]:
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
        with _modes_kept(network):
            yield
    finally:
        with torch.no_grad():
            for parameter, home in homes:
                parameter.grad = None
                if parameter.data_ptr() != home.data_ptr():
                    whole = home.untyped_storage().nbytes() == home.numel() * home.element_size()
                    parameter.data = home.copy_(parameter) if whole else parameter.detach().clone()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

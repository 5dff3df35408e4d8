"""Whether a module is exactly the built-in network, which the fused and graph engines need."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_modules

from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.mlp import LEVELS, MLP, Dropout, Noise

CALLED = ("__call__", "_wrapped_call_impl", "_call_impl", "forward", "mask", "draw")
"""What a forward pass calls of a module, by name."""
FUNCTIONS = {
    (kind, name): getattr(kind, name)
    for kind in (nn.Linear, nn.ModuleList, MLP, Dropout, Noise)
    for name in CALLED
    if hasattr(kind, name)
}
"""The same as they were when this was imported."""
LINEAR = F.linear


def why_modified(model: nn.Module) -> str | None:
    """What a module has that the built-in network has not, or None where it has nothing else.

    It looks at all that may change a forward pass, a gradient or an update: types, methods, hooks, parametrizations,
    layers, dropout, parameters and their memory.
    """
    return next(_differences(model), None)


def _differences(model: nn.Module) -> Iterator[str]:
    if type(model) is not MLP:
        yield f"it is a {type(model).__name__}"
        return
    yield from _patches()
    modules = dict(model.named_modules(remove_duplicate=False))
    yield from _layout(model, modules)
    for name, module in modules.items():
        yield from _module(name or "the network", module)
    yield from _layers(model)
    yield from _chance(model)
    yield from _parameters(model)


def _patches() -> Iterator[str]:
    """Functions of classes that are others now, and hooks that hear of every module."""
    for (kind, name), function in FUNCTIONS.items():
        if getattr(kind, name) is not function:
            yield f"{kind.__name__}.{name} was replaced"
    if F.linear is not LINEAR:
        yield "torch.nn.functional.linear was replaced"
    for name, value in vars(torch_modules).items():
        if name.startswith("_global_") and name.endswith("_hooks") and value:
            yield "a global module hook is registered"


def _layout(model: MLP, modules: dict[str, nn.Module]) -> Iterator[str]:
    """Modules that it has not by itself, that it has twice, or that are of another type."""
    if not isinstance(model._modules.get("layers"), nn.ModuleList):
        yield "layers is not a ModuleList"
        return
    expected: dict[str, type[nn.Module]] = {"": MLP, "layers": nn.ModuleList}
    expected |= {f"layers.{number}": nn.Linear for number in range(len(model.layers))}
    expected |= {"dropout": Dropout, "input_dropout": Dropout, "input_noise": Noise}
    for name in modules.keys() ^ expected.keys():
        yield f"{name} was added" if name in modules else f"{name} is gone"
    for name, kind in expected.items():
        if type(modules[name]) is not kind:
            yield f"{name} is a {type(modules[name]).__name__}"
    if len({id(module) for module in modules.values()}) < len(modules):
        yield "a module is used in two places"


def _module(name: str, module: nn.Module) -> Iterator[str]:
    """Methods, hooks, buffers and parameters of a module's own."""
    values = vars(module)
    for method in sorted(values.keys() & set(dir(type(module)))):  # a fresh module has no such name
        yield f"{name} has a {method} of its own"
    if any(value for key, value in values.items() if key.endswith("_hooks")):
        yield f"{name} has a hook"
    if module._buffers:
        yield f"{name} has a buffer"
    names = {"weight", "bias"} if type(module) is nn.Linear else set()
    if module._parameters.keys() != names or None in module._parameters.values():
        yield f"{name} has not just {'weight and bias' if names else 'no parameters'}"


def _layers(model: MLP) -> Iterator[str]:
    if not isinstance(model.activation, str) or model.activation not in ACTIVATIONS:
        yield f"its activation is {model.activation!r}"
    units = None
    for number, layer in enumerate(model.layers):
        assert isinstance(layer, nn.Linear)
        weight, bias = layer.weight.shape, layer.bias.shape
        if len(weight) != 2 or units not in (None, weight[1]) or bias != weight[:1]:
            yield f"layers.{number} has a weight of shape {tuple(weight)} and a bias of shape {tuple(bias)}"
            return
        units = weight[0]
    if units is None:
        yield "it has no layers"


def _chance(model: MLP) -> Iterator[str]:
    """Dropout and noise as their own classes make them, with one generator for all."""
    for name in ("dropout", "input_dropout"):
        dropout = getattr(model, name)
        if any(type(value) not in (int, float) for value in (dropout.dropped, dropout.threshold, dropout.scale)):
            yield f"{name} was changed"
        fresh = Dropout(dropout.dropped / LEVELS)
        if (dropout.dropped, dropout.threshold, dropout.scale) != (fresh.dropped, fresh.threshold, fresh.scale):
            yield f"{name} was changed"
    if type(model.input_noise.std) not in (int, float):
        yield "input_noise was changed"
    if not (model.dropout.rng is model.input_dropout.rng is model.input_noise.rng):
        yield "its dropout masks use several generators"


def _parameters(model: MLP) -> Iterator[str]:
    """Parameters that are frozen, watched, of another kind, or whose memory is not theirs alone."""
    extents = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if type(parameter) is not nn.Parameter or parameter.layout != torch.strided:
            yield f"{name} is not a plain parameter"
            return
        if parameter.dtype != torch.float32:
            yield f"{name} is {parameter.dtype}"
        if not parameter.requires_grad or not parameter.is_leaf or parameter.is_inference():
            yield f"{name} is not trainable"
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            yield f"{name} has a hook"
        if parameter.device != model.layers[0].weight.device:
            yield "its parameters are on several devices"
        extents.append(_extent(parameter))
        if extents[-1][1] - extents[-1][0] < parameter.numel() * parameter.element_size():
            yield f"{name} shares its memory"
    extents.sort()
    if any(end > start for (_, end), (start, _) in zip(extents, extents[1:], strict=False)):
        yield "parameters share their memory"


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """The first byte of a tensor's memory and the one after its last."""
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()

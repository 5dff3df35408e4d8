"""What an optimizer's module declares. Imports torch for types only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from msgspec import Meta

from mnist_ff.config.registry import Part

if TYPE_CHECKING:
    import torch

Optimizer: TypeAlias = "torch.optim.Optimizer"
Parameter: TypeAlias = "torch.nn.Parameter"
Parameters: TypeAlias = "Iterable[torch.nn.Parameter]"
State: TypeAlias = "dict[str, torch.Tensor]"
"""What an optimizer keeps of one parameter."""
Group: TypeAlias = "dict[str, Any]"
"""The options of a group of parameters, as torch has them."""
Rule: TypeAlias = "Callable[[torch.nn.Parameter, State, Group], None]"
"""(parameter with its gradient, its state, its group's options): one update of parameter and state."""


@dataclass(frozen=True)
class Scalar:
    """A number () float32 in an optimizer's state, such as the count of updates."""

    value: float
    on_device: bool
    """Whether it stands on the parameter's device, else on the CPU."""


Decay = Annotated[float, "weight decay", Meta(ge=0)]
Epsilon = Annotated[float, "added to the denominator", Meta(gt=0)]
Average = Annotated[float, "decay of a moving average", Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class OptimizerPart(Part):
    """An optimizer, and what the engines need to know of it; build(config, parameters)."""

    initial_state: Callable[[Group], Mapping[str, float | Scalar]] | None = None
    """What the first update finds or creates: a float fills a tensor of the parameter's shape. None: unknown, and then
    there is no CUDA graph, which must find all of it."""
    tensor_lr: bool = False
    """Whether its learning rate may be a tensor on the device, which a CUDA graph reads anew at each update."""
    elementwise: bool = True
    """Whether all weights may be given as one vector, as the fused and graph steps do; of a user's own nobody knows."""
    triton_rule: Callable[[Any], Rule] | None = None
    """From its config: the update as a Triton kernel."""

"""The table of activation functions, each in all forms that the program needs.

z is a hidden layer's pre-activation and y = f(z) its activation, both (B, units). torch and Triton are imported when a
form is used, because the config reads only the names of this table.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mnist_ff.errors import ConfigError

if TYPE_CHECKING:
    import triton.language as tl
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation function. To add one, pass a row to register()."""

    name: str
    function: Callable[[Tensor], Tensor]
    """z to y, for autograd."""
    forward: Callable[[Tensor, Tensor], None]
    """(z, out): write y to `out`, which may be z itself unless needs_input."""
    backward: Callable[[Tensor, Tensor, Tensor], None]
    """(grad, z, y): multiply `grad`, the gradient of the loss with respect to y, by f'(z) in place."""
    triton_forward: Callable[[Any], Any]
    """z to y in Triton's language, for float32 blocks. Call load_triton() before it is compiled."""
    triton_slope: Callable[[Any, Any], Any]
    """(z, y) to f'(z) in Triton's language."""
    onnx: tuple[tuple[str, str, str], ...]
    """Nodes of opset 13: (operator, names of inputs, name of output). z is "z", the last output is "out"."""
    javascript: str
    """x to f(x) as an arrow function, which may use erfc(x) and sigmoid(x)."""
    javascript_slope: str
    """x to f'(x) as an arrow function."""
    onnx_constants: Mapping[str, float] = field(default_factory=dict)
    """Constants of the nodes by name."""
    needs_input: bool = False
    """Whether the derivative needs z, which the forward form must then keep. Otherwise z and y share their memory."""
    masks_itself: bool = False
    """Whether the derivative is zero wherever y is zero, so that backward applies the dropout mask of y, too."""


_rows: dict[str, Activation] = {}
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(_rows)
"""All activation functions by name."""


def register(row: Activation) -> None:
    """Add an activation function. Errors: ConfigError if its name is taken."""
    if row.name in _rows:
        raise ConfigError(f"model.activation={row.name}: registered twice; rename one of them")
    _rows[row.name] = row


def _torch() -> Any:
    import torch

    return torch


@functools.cache
def _aten(name: str) -> Any:
    """An overload of an operation, such as "gelu.out". The lookup takes as long as an operation on a small tensor."""
    operation, overload = name.split(".")
    return getattr(getattr(_torch().ops.aten, operation), overload)


def load_triton() -> None:
    """Import Triton's language, which the Triton forms use."""
    global tl
    import triton.language as tl


def _relu_triton(z):
    return tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)


def _relu_slope(z, y):
    return tl.where(y > 0, 1.0, 0.0)


register(
    Activation(
        "relu",
        function=lambda z: z.relu(),
        forward=lambda z, out: _torch().clamp_min(z, 0, out=out),
        backward=lambda grad, z, y: _aten("threshold_backward.grad_input")(grad, y, 0, grad_input=grad),
        triton_forward=_relu_triton,
        triton_slope=_relu_slope,
        onnx=(("Relu", "z", "out"),),
        javascript="(x) => Math.max(x, 0)",
        javascript_slope="(x) => (x > 0 ? 1 : 0)",
        masks_itself=True,
    )
)


def _tanh_triton(z):
    return 2 * tl.sigmoid(2 * z) - 1


def _tanh_slope(z, y):
    return 1 - y * y


register(
    Activation(
        "tanh",
        function=lambda z: z.tanh(),
        forward=lambda z, out: _torch().tanh(z, out=out),
        backward=lambda grad, z, y: _aten("tanh_backward.grad_input")(grad, y, grad_input=grad),
        triton_forward=_tanh_triton,
        triton_slope=_tanh_slope,
        onnx=(("Tanh", "z", "out"),),
        javascript="Math.tanh",
        javascript_slope="(x) => 1 - Math.tanh(x) ** 2",
    )
)


def _sigmoid_triton(z):
    return tl.sigmoid(z)


def _sigmoid_slope(z, y):
    return y * (1 - y)


register(
    Activation(
        "sigmoid",
        function=lambda z: z.sigmoid(),
        forward=lambda z, out: _torch().sigmoid(z, out=out),
        backward=lambda grad, z, y: _aten("sigmoid_backward.grad_input")(grad, y, grad_input=grad),
        triton_forward=_sigmoid_triton,
        triton_slope=_sigmoid_slope,
        onnx=(("Sigmoid", "z", "out"),),
        javascript="(x) => sigmoid(x)",
        javascript_slope="(x) => sigmoid(x) * (1 - sigmoid(x))",
    )
)


def _gelu_triton(z):
    return 0.5 * z * (1 + tl.erf(z * 0.7071067811865476))


def _gelu_slope(z, y):
    normal = 0.3989422804014327 * tl.exp(-0.5 * z * z)
    return 0.5 * (1 + tl.erf(z * 0.7071067811865476)) + z * normal


register(
    Activation(
        "gelu",  # z (1 + erf(z / sqrt 2)) / 2
        function=lambda z: _torch().nn.functional.gelu(z),
        forward=lambda z, out: _aten("gelu.out")(z, out=out),
        backward=lambda grad, z, y: _aten("gelu_backward.grad_input")(grad, z, grad_input=grad),
        triton_forward=_gelu_triton,
        triton_slope=_gelu_slope,
        onnx=(
            ("Div", "z root", "scaled"),
            ("Erf", "scaled", "erf"),
            ("Add", "erf one", "plus"),
            ("Mul", "z plus", "twice"),
            ("Mul", "twice half", "out"),
        ),
        onnx_constants={"root": math.sqrt(2), "one": 1.0, "half": 0.5},
        javascript="(x) => (x * erfc(-x / Math.SQRT2)) / 2",
        javascript_slope="(x) => erfc(-x / Math.SQRT2) / 2 + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI)",
        needs_input=True,
    )
)


def _silu_triton(z):
    return z * tl.sigmoid(z)


def _silu_slope(z, y):
    sigmoid = tl.sigmoid(z)
    return sigmoid * (1 + z * (1 - sigmoid))


register(
    Activation(
        "silu",  # z sigmoid(z)
        function=lambda z: _torch().nn.functional.silu(z),
        forward=lambda z, out: _aten("silu.out")(z, out=out),
        backward=lambda grad, z, y: _aten("silu_backward.grad_input")(grad, z, grad_input=grad),
        triton_forward=_silu_triton,
        triton_slope=_silu_slope,
        onnx=(("Sigmoid", "z", "gate"), ("Mul", "z gate", "out")),
        javascript="(x) => x * sigmoid(x)",
        javascript_slope="(x) => sigmoid(x) * (1 + x * (1 - sigmoid(x)))",
        needs_input=True,
    )
)

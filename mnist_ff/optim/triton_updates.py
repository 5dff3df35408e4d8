"""Updates of RMSprop and Adam as Triton kernels: one pass over the weights.

A kernel's numbers are float32, so 1 - rho is computed on the host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 1024
"""Numbers that one program works on."""


@triton.jit
def _read(number, ON_DEVICE: tl.constexpr):
    if ON_DEVICE:
        value = tl.load(number)
    else:
        value = number
    return value


@triton.jit
def _rmsprop(
    weights, gradient, square, rate, rho, rest, rest_of_eps, decay, count, RATE_ON_DEVICE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    lr = _read(rate, RATE_ON_DEVICE)
    g = tl.load(gradient + at, inside)
    v = rho * tl.load(square + at, inside) + rest_of_eps + rest * g * g
    w = tl.load(weights + at, inside, other=0.0)
    tl.store(square + at, v, inside)
    tl.store(weights + at, w - lr * decay * w - lr * g / tl.sqrt_rn(v), inside)


@triton.jit
def _adam(
    weights, gradient, average, square, step, rate, rest1, beta2, rest2, log_beta1, log_beta2, eps, decay, count,
    RATE_ON_DEVICE: tl.constexpr, DECOUPLED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    lr = _read(rate, RATE_ON_DEVICE)
    steps = tl.load(step).to(tl.float64)
    correction1 = (1 - tl.exp(steps * log_beta1)).to(tl.float32)
    correction2 = (1 - tl.exp(steps * log_beta2)).to(tl.float32)
    g, w = tl.load(gradient + at, inside, other=0.0), tl.load(weights + at, inside, other=0.0)
    if DECOUPLED:
        w = w - lr * decay * w
    else:
        g = g + decay * w
    m = tl.load(average + at, inside, other=0.0)
    m = m + rest1 * (g - m)
    v = beta2 * tl.load(square + at, inside, other=0.0) + rest2 * g * g
    tl.store(average + at, m, inside)
    tl.store(square + at, v, inside)
    root = tl.sqrt_rn(v) / tl.sqrt_rn(correction2) + eps
    tl.store(weights + at, w - lr / correction1 * m / root, inside)


def rmsprop(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    square: torch.Tensor,
    group: Mapping[str, Any],
    decay: float,
) -> None:
    """The update of optim/rmsprop.py; all tensors (N,) float32, `square` is the average of squares with eps in it."""
    count, lr, rho = weights.numel(), group["lr"], group["rho"]
    _rmsprop[(triton.cdiv(count, BLOCK),)](
        weights, gradient, square, lr, rho, 1 - rho, (1 - rho) * group["eps"], decay, count,
        RATE_ON_DEVICE=isinstance(lr, torch.Tensor), BLOCK=BLOCK,
    )  # fmt: skip


def adam(
    weights: torch.Tensor,
    gradient: torch.Tensor,
    state: Mapping[str, torch.Tensor],
    group: Mapping[str, Any],
    decoupled: bool,
) -> None:
    """torch's Adam's update of `weights`, or AdamW's where the decay is decoupled; `state` counts this step already.

    torch's own fused kernel gives 65,536 numbers to a block, and most of a GPU has none of a small network.
    """
    count, (beta1, beta2) = weights.numel(), group["betas"]
    _adam[(triton.cdiv(count, BLOCK),)](
        weights, gradient, state["exp_avg"], state["exp_avg_sq"], state["step"], group["lr"], 1 - beta1, beta2,
        1 - beta2, math.log(beta1) if beta1 else -math.inf, math.log(beta2) if beta2 else -math.inf, group["eps"],
        group["weight_decay"], count, RATE_ON_DEVICE=isinstance(group["lr"], torch.Tensor), DECOUPLED=decoupled,
        BLOCK=BLOCK,
    )  # fmt: skip

"""Triton kernels between a step's matrix products: one pass each where PyTorch needs up to seven.

Each is held to its formula in torch by a test, in Triton's interpreter where there is no GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 1024
"""Numbers that one program of an element-by-element kernel works on."""
ROWS = 8
"""Rows of logits that one program works on."""


@triton.jit
def _gather(images, rows, inputs, width, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = column < width
    row = tl.load(rows + tl.program_id(0))
    tl.store(inputs + tl.program_id(0) * width + column, tl.load(images + row * width + column, inside), inside)


@triton.jit
def _activated(z, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        y = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif ACTIVATION == "tanh":
        y = 2 * tl.sigmoid(2 * z) - 1
    elif ACTIVATION == "sigmoid":
        y = tl.sigmoid(z)
    elif ACTIVATION == "gelu":
        y = 0.5 * z * (1 + tl.erf(z * 0.7071067811865476))
    else:
        tl.static_assert(ACTIVATION == "silu")
        y = z * tl.sigmoid(z)
    return y


@triton.jit
def _slope(before, after, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        slope = tl.where(after > 0, 1.0, 0.0)
    elif ACTIVATION == "tanh":
        slope = 1 - after * after
    elif ACTIVATION == "sigmoid":
        slope = after * (1 - after)
    elif ACTIVATION == "gelu":
        normal = 0.3989422804014327 * tl.exp(-0.5 * before * before)
        slope = 0.5 * (1 + tl.erf(before * 0.7071067811865476)) + before * normal
    else:
        tl.static_assert(ACTIVATION == "silu")
        sigmoid = tl.sigmoid(before)
        slope = sigmoid * (1 + before * (1 - sigmoid))
    return slope


@triton.jit
def _hidden(
    before, after, bias, draws, scale, threshold, units, count, ACTIVATION: tl.constexpr, DROPS: tl.constexpr,
    KEEPS_INPUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    z = tl.load(before + at, inside).to(tl.float32) * scale + tl.load(bias + at % units, inside).to(tl.float32)
    if KEEPS_INPUT:
        tl.store(before + at, z, inside)
    y = _activated(z, ACTIVATION)
    if DROPS:
        y = tl.where(tl.load(draws + at, inside) < threshold, y, 0.0)
    tl.store(after + at, y, inside)


@triton.jit
def _through(
    delta, before, after, draws, scale, threshold, count, ACTIVATION: tl.constexpr, DROPS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    slope = _slope(tl.load(before + at, inside).to(tl.float32), tl.load(after + at, inside).to(tl.float32), ACTIVATION)
    value = tl.load(delta + at, inside).to(tl.float32) * scale * slope
    if DROPS and ACTIVATION != "relu":  # whose masked output has no slope
        value = tl.where(tl.load(draws + at, inside) < threshold, value, 0.0)
    tl.store(delta + at, value, inside)


@triton.jit
def _loss(
    logits, bias, labels, logs, delta, scale, share, rows, classes, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < classes)[None, :]
    at = row[:, None] * classes + column[None, :]
    offset = tl.load(bias + column, column < classes, other=0.0).to(tl.float32)
    z = tl.load(logits + at, inside, other=0.0).to(tl.float32) * scale + offset[None, :]
    z = tl.where(inside, z, -float("inf"))
    z = tl.where((row < rows)[:, None], z, 0.0)
    z = z - tl.max(z, 1)[:, None]
    log = z - tl.log(tl.sum(tl.exp(z), 1))[:, None]
    right = tl.load(labels + row, row < rows, other=0)
    tl.store(logs + at, log, inside)
    tl.store(delta + at, (tl.exp(log) - tl.where(column[None, :] == right[:, None], 1.0, 0.0)) * share, inside)


def gather(images: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
    """Rows (B,) of `images` (N, W), converted to the type of `out` (B, W)."""
    width = images.shape[1]
    _gather[(len(rows),)](images, rows, out, width, BLOCK=triton.next_power_of_2(width))


def hidden(
    before: torch.Tensor,
    after: torch.Tensor,
    bias: torch.Tensor,
    draws: torch.Tensor | None,
    scale: float,
    threshold: int,
    activation: str,
) -> None:
    """after = activation(scale x before + bias) where a draw is below the threshold, else zero; all (B, units).

    Where `after` is other memory than `before`, that is left with the activation's input.
    """
    count = before.numel()
    _hidden[(triton.cdiv(count, BLOCK),)](
        before, after, bias, draws, scale, threshold, before.shape[1], count, ACTIVATION=activation,
        DROPS=draws is not None, KEEPS_INPUT=after.data_ptr() != before.data_ptr(), BLOCK=BLOCK,
    )  # fmt: skip


def through(
    delta: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    draws: torch.Tensor | None,
    scale: float,
    threshold: int,
    activation: str,
) -> None:
    """Multiply the gradient by `after`, in place, into that by the activation's input; all (B, units)."""
    count = delta.numel()
    _through[(triton.cdiv(count, BLOCK),)](
        delta, before, after, draws, scale, threshold, count, ACTIVATION=activation, DROPS=draws is not None,
        BLOCK=BLOCK,
    )  # fmt: skip


def cross_entropy(
    logits: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    logs: torch.Tensor,
    delta: torch.Tensor,
    scale: float,
    share: float,
) -> None:
    """Log-probabilities of scale x logits + bias, (B, 10) float32, and `share` times the cross-entropies' gradient."""
    rows, classes = logits.shape
    _loss[(triton.cdiv(rows, ROWS),)](
        logits, bias, labels, logs, delta, scale, share, rows, classes, ROWS=ROWS,
        COLUMNS=triton.next_power_of_2(classes),
    )  # fmt: skip

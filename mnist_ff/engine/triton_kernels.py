"""Triton kernels between a step's matrix products: one pass each where PyTorch needs up to seven.

Each is held to its formula in torch by a test, in Triton's interpreter where there is no GPU.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl

from mnist_ff.engine.workspace import Layer
from mnist_ff.models.activations import Activation, load_triton

BLOCK = 1024
"""Numbers that one program of an element-by-element kernel works on."""
LOGITS = 4096
"""Logits that one program works on at most, and ROWS of them: the wider they are, the fewer rows."""
ROWS = 8


@triton.jit
def _gather(images, rows, inputs, width, BLOCK: tl.constexpr):
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    to = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + to)
    tl.store(inputs + to * width + column, tl.load(images + row * width + column, inside), inside)


@triton.jit
def _hidden(
    pre_act, act, bias, draws, scale, threshold, units, count, FORWARD: tl.constexpr, DROPS: tl.constexpr,
    KEEPS_INPUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    z = tl.load(pre_act + at, inside).to(tl.float32) * scale + tl.load(bias + at % units, inside).to(tl.float32)
    if KEEPS_INPUT:
        tl.store(pre_act + at, z, inside)
    y = FORWARD(z)
    if DROPS:
        y = tl.where(tl.load(draws + at, inside) < threshold, y, 0.0)
    tl.store(act + at, y, inside)


@triton.jit
def _act_backward(
    grad, pre_act, act, draws, scale, threshold, count, SLOPE: tl.constexpr, DROPS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    slope = SLOPE(tl.load(pre_act + at, inside).to(tl.float32), tl.load(act + at, inside).to(tl.float32))
    value = tl.load(grad + at, inside).to(tl.float32) * scale * slope
    if DROPS:
        value = tl.where(tl.load(draws + at, inside) < threshold, value, 0.0)
    tl.store(grad + at, value, inside)


@triton.jit
def _loss(
    logits, bias, labels, log_probs, grad, scale, share, rows, classes, ROWS: tl.constexpr, COLUMNS: tl.constexpr
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
    tl.store(log_probs + at, log, inside)
    tl.store(grad + at, (tl.exp(log) - tl.where(column[None, :] == right[:, None], 1.0, 0.0)) * share, inside)


def gather(images: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
    """Rows (B,) of `images` (N, W), converted to the type of `out` (B, W)."""
    width = images.shape[1]
    block = min(BLOCK, triton.next_power_of_2(width))
    _gather[(len(rows), triton.cdiv(width, block))](images, rows, out, width, BLOCK=block)


@functools.cache
def _forms(activation: Activation) -> tuple[Any, Any]:
    """An activation's forward form and slope as Triton functions."""
    load_triton()
    return triton.jit(activation.triton_forward), triton.jit(activation.triton_slope)


def hidden(layer: Layer, draws: torch.Tensor | None, threshold: int, activation: Activation) -> None:
    """act = f(scale x pre_act + bias), zero where a draw is not below the threshold; draws (B, units) int16.

    Where act has memory of its own, pre_act is left with the activation's input.
    """
    pre_act, act = layer.pre_act, layer.act
    count = pre_act.numel()
    _hidden[(triton.cdiv(count, BLOCK),)](
        pre_act, act, layer.bias, draws, layer.scale, threshold, pre_act.shape[1], count, FORWARD=_forms(activation)[0],
        DROPS=draws is not None, KEEPS_INPUT=act.data_ptr() != pre_act.data_ptr(), BLOCK=BLOCK,
    )  # fmt: skip


def act_backward(
    layer: Layer, draws: torch.Tensor | None, scale: float, threshold: int, activation: Activation
) -> None:
    """Multiply grad, but for `scale` the loss's gradient by act, into that by pre_act, in place."""
    count = layer.grad.numel()
    draws = None if activation.masks_itself else draws
    _act_backward[(triton.cdiv(count, BLOCK),)](
        layer.grad, layer.pre_act, layer.act, draws, scale, threshold, count, SLOPE=_forms(activation)[1],
        DROPS=draws is not None, BLOCK=BLOCK,
    )  # fmt: skip


def cross_entropy(layer: Layer, labels: torch.Tensor, log_probs: torch.Tensor, share: float) -> None:
    """Log-probabilities of scale x pre_act + bias (B, K) float32; grad is `share` times the cross-entropies' one."""
    rows, classes = layer.pre_act.shape
    columns = triton.next_power_of_2(classes)
    together = min(ROWS, LOGITS // columns)
    _loss[(triton.cdiv(rows, together),)](
        layer.pre_act, layer.bias, labels, log_probs, layer.grad, layer.scale, share, rows, classes, ROWS=together,
        COLUMNS=columns,
    )  # fmt: skip

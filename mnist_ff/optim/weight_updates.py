"""Gradient clipping before an update; max-norm and EMA after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from mnist_ff.config.schema import TrainerConfig
from mnist_ff.errors import ConfigError


class EMA:
    """An exponential moving average of a model's trainable parameters, each weighed by `decay` to the power of its age.

    It is divided by the sum of those weights, Adam's correction (Kingma, Ba 2015): the initial parameters have no part
    in it. It keeps tensors only, so that a CUDA graph can count too. Buffers, such as BatchNorm's running mean, are not
    averaged: the averaged model has the last ones, as torch.optim.swa_utils.AveragedModel has by default.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._decay = decay
        self._sums = [torch.zeros_like(weights) for weights in self._weights()]
        self._count = torch.zeros((), dtype=torch.int64, device=self._sums[0].device)  # updates so far

    def _weights(self) -> list[torch.Tensor]:
        return [parameter.detach() for parameter in self._parameters]  # where a fused step has moved them

    def update(self) -> None:
        """Take in the weights as they are now."""
        torch._foreach_lerp_(self._sums, self._weights(), 1 - self._decay)
        self._count.add_(1)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights, before the first update its own."""
        if int(self._count) == 0:
            yield
            return
        own = [weights.clone() for weights in self._weights()]
        self.copy_to_model()
        try:
            yield
        finally:
            for weights, value in zip(self._weights(), own, strict=True):
                weights.copy_(value)

    def copy_to_model(self) -> None:
        """Give the model the averaged weights for good; there must have been an update."""
        whole = 1 - self._decay ** int(self._count)  # what the sums' weights add up to
        for weights, total in zip(self._weights(), self._sums, strict=True):
            weights.copy_(total / whole)

    def tensors(self) -> list[torch.Tensor]:
        """What update() changes."""
        return [*self._sums, self._count]

    def state(self) -> dict[str, torch.Tensor]:
        """What resuming needs: the sums as one line of numbers, in the order of the parameters."""
        return {"sums": torch.cat([total.flatten() for total in self._sums]), "count": self._count.clone()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up state(). Errors: RuntimeError, KeyError for another model's."""
        parts = torch.split(state["sums"], [total.numel() for total in self._sums])
        for total, part in zip(self._sums, parts, strict=True):
            total.copy_(part.view(total.shape))
        self._count.copy_(state["count"])


class Updates:
    """What is done before and after each update of a model's weights."""

    def __init__(self, model: nn.Module, trainer: TrainerConfig) -> None:
        self._model = model
        self._clip = trainer.clip_norm
        self._bound = trainer.max_norm
        self._bounded = [weights for weights in model.parameters() if weights.ndim >= 2 and weights.requires_grad]
        if self._bound is not None and not self._bounded:
            raise ConfigError(
                f"trainer.max_norm={self._bound:g}: the model has no trainable parameter of two or more dimensions; "
                "leave it out"
            )
        self.ema = EMA(model, trainer.ema) if trainer.ema else None

    @property
    def needed(self) -> bool:
        """Whether anything is to be done."""
        return self._clip is not None or self._bound is not None or self.ema is not None

    def before(self) -> None:
        """Scale the whole gradient down to trainer.clip_norm where it is longer (Pascanu et al. 2013)."""
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)

    @torch.no_grad()
    def after(self) -> None:
        """Scale each unit's incoming weights down to trainer.max_norm (Srivastava et al. 2014); average all weights.

        A unit is an index of the first dimension of a parameter with two or more: (out, in), (out, in, height, width).
        """
        if self._bound is not None:
            for weights in self._bounded:
                weights.renorm_(2, 0, self._bound)
        if self.ema is not None:
            self.ema.update()

    def swapped_in(self) -> AbstractContextManager[None]:
        """Inside the block the model has the averaged weights, where there are some."""
        return nullcontext() if self.ema is None else self.ema.swapped_in()

    def tensors(self) -> list[torch.Tensor]:
        """What is changed beside weights and gradients."""
        return [] if self.ema is None else self.ema.tensors()

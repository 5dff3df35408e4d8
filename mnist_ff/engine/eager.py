"""The eager engine: any module, with autograd."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mnist_ff.data.load import Split, as_input
from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.errors import ConfigError


def _why_no_logits(returned: object) -> str:
    """What is wrong with what a module returned in training."""
    if isinstance(returned, torch.Tensor):
        return "forward() returns an output in training that does not depend on any parameter; remove detach()"
    return f"forward() returns a {type(returned).__name__} in training; let it return the (B, K) logits alone"


class EagerBatch:
    """One step of any module as PyTorch runs it: gather, forward, backward, update."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        split: Split,
        options: StepOptions = PLAIN_OPTIONS,
        compiled: bool = False,
    ) -> None:
        self._model = model
        self._forward = torch.compile(model) if compiled else model
        self._optimizer = optimizer
        self._images = split.images
        self._precision, self._objective = options.precision, options.objective
        self._augment, self._updates = options.augment, options.updates

    def __call__(self, rows: torch.Tensor, labels: torch.Tensor, log_probs: torch.Tensor) -> None:
        """Train on `rows` (B,) with `labels` (B,); write log-probabilities, dropout on, into `log_probs` (B, K)."""
        self._model.train()
        images = as_input(self._images.index_select(0, rows))
        if self._augment is not None:
            images = self._augment(images)
        self._optimizer.zero_grad(set_to_none=True)
        if self._objective.fgsm_eps:
            images.requires_grad_()
        batch_log_probs = self._add_gradient(images, labels)
        if self._objective.fgsm_eps:
            if images.grad is None:
                raise ConfigError("trainer.adversarial: the model's forward() passes no gradient to its images")
            self._add_gradient(self._objective.adversaries(images, images.grad), labels)
        if self._updates is not None:
            self._updates.before()
        self._optimizer.step()
        if self._updates is not None:
            self._updates.after()
        log_probs.copy_(batch_log_probs)

    def _add_gradient(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Add the gradient of these images' share of the objective; return their log-probabilities (B, K)."""
        low = self._precision != torch.float32
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            logits = self._forward(images)
        if not isinstance(logits, torch.Tensor) or not logits.requires_grad:  # a user's module may differ in training
            raise ConfigError(f"model: {_why_no_logits(logits)}")
        logits = logits.float()
        log_probs = F.log_softmax(logits, 1)
        teacher = self._objective.teacher
        teacher_probs = None if teacher is None else teacher.probs(images.detach())
        loss = self._objective.loss(logits, log_probs, labels, teacher_probs)
        if self._objective.fgsm_eps:
            loss = self._objective.share * loss
        loss.backward()  # type: ignore[no-untyped-call]
        return log_probs.detach()

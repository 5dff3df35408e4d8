"""The eager engine: any module, with autograd."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mnist_ff.data.load import Split, as_input
from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.errors import ConfigError, first_line


def _check_logits(returned: object, shape: torch.Size) -> None:
    """Check what a user's module returns in training, which may differ from evaluation. Errors: ConfigError."""
    if not isinstance(returned, torch.Tensor):
        problem = f"a {type(returned).__name__} in training; let it return the {tuple(shape)} logits alone"
    elif returned.shape != shape:
        problem = f"{tuple(returned.shape)} in training, not {tuple(shape)} logits"
    elif not returned.requires_grad:
        problem = "an output in training that does not depend on any parameter; remove detach()"
    else:
        return
    raise ConfigError(f"model: forward() returns {problem}")


def _explained(error: Exception, images: int) -> str | None:
    """A message for known errors of torch in a step, with the remedy. None for other errors."""
    text = first_line(error)
    if "deterministic implementation" in text:
        return f"trainer.deterministic=True: {text.split('. ')[0]}; set it to false, or change the model"
    if images == 1 and "more than 1 value per channel" in text:
        return "trainer.batch_size: leaves a last batch of one image, which BatchNorm cannot train on; choose another"
    return None


class EagerBatch:
    """A batch step of any module with autograd: gather, forward, backward, update."""

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
        self._named = options.named

    def __call__(self, rows: torch.Tensor, labels: torch.Tensor, log_probs: torch.Tensor) -> None:
        """Train on `rows` (B,) with `labels` (B,). Write the log-probabilities, with dropout, to `log_probs` (B, K)."""
        self._model.train()
        with self._named("load"):
            images = as_input(self._images.index_select(0, rows))
        if self._augment is not None:
            with self._named("augment"):
                images = self._augment(images)
        self._optimizer.zero_grad(set_to_none=True)
        if self._objective.fgsm_eps:
            images.requires_grad_()
        batch_log_probs = self._add_gradient(images, labels, log_probs.shape)
        if self._objective.fgsm_eps:
            if images.grad is None:
                raise ConfigError("trainer.adversarial: the model's forward() passes no gradient to its images")
            self._add_gradient(self._objective.adversaries(images, images.grad), labels, log_probs.shape)
        with self._named("update"):
            if self._updates is not None:
                self._updates.before()
            self._optimizer.step()
            if self._updates is not None:
                self._updates.after()
        log_probs.copy_(batch_log_probs)

    def _add_gradient(self, images: torch.Tensor, labels: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Add the gradient of the objective for these images. Returns their log-probabilities, of the given shape."""
        try:
            with self._named("forward"):
                logits = self._predict(images, shape)
            with self._named("loss"):
                log_probs = F.log_softmax(logits, 1)
                teacher = self._objective.teacher
                teacher_probs = None if teacher is None else teacher.probs(images.detach())
                loss = self._objective.loss(logits, log_probs, labels, teacher_probs)
                if self._objective.fgsm_eps:
                    loss = self._objective.share * loss
            with self._named("backward"):
                loss.backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            explained = _explained(error, len(images))
            if explained is None:
                raise
            raise ConfigError(explained) from error
        return log_probs.detach()

    def _predict(self, images: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Logits of the given shape, float32. Errors: ConfigError."""
        reduced = self._precision != torch.float32
        with torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
            logits: torch.Tensor = self._forward(images)
        _check_logits(logits, shape)
        return logits.float()

"""The training objective: cross-entropy and what a config adds to it, as a loss for autograd and as a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.config.schema import TrainerConfig
from mnist_ff.runs.records import MNIST_SPEC


@dataclass(frozen=True)
class Teacher:
    """A trained network whose predictions are distilled (Hinton, Vinyals, Dean 2015, arXiv:1503.02531)."""

    network: nn.Module
    """(B, *shape) to (B, K) logits, in evaluation mode; it is not trained."""
    temperature: float
    weight: float
    """Its share of the objective; the labels have the rest."""
    shape: tuple[int, ...] = MNIST_SPEC.shape
    """Of one image as the network takes it."""

    @torch.no_grad()
    def probs(self, images: torch.Tensor) -> torch.Tensor:
        """Its probabilities (B, K) at its temperature for `images` (B, ...) float32 in [0, 1], flat or not."""
        logits = self.network(images.view(-1, *self.shape)).float()
        probabilities: torch.Tensor = (logits / self.temperature).softmax(1)
        return probabilities


@dataclass(frozen=True)
class Objective:
    """(1 - w) (cross-entropy with smoothed labels - penalty x entropy) + w T^2 KL(teacher at T, network at T).

    Smoothing: Szegedy et al. 2016, arXiv:1512.00567. Penalty: Pereyra et al. 2017, arXiv:1701.06548.
    Means over the batch. With an `fgsm_eps` half of it is this of the images, half that of their adversaries by the
    fast gradient sign method (Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572).
    """

    smoothing: float = 0.0
    penalty: float = 0.0
    teacher: Teacher | None = None
    fgsm_eps: float = 0.0

    @property
    def share(self) -> float:
        """The share of the objective that the images have, and so have their adversaries if there are some."""
        return 0.5 if self.fgsm_eps else 1.0

    def adversaries(self, images: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Images (B, ...) one step in the direction in which the objective grows; not clamped to [0, 1]."""
        return images.detach() + self.fgsm_eps * gradient.sign()

    @property
    def plain(self) -> bool:
        """Whether it is the cross-entropy alone, with or without adversaries."""
        return self.smoothing == 0 and self.penalty == 0 and self.teacher is None

    @property
    def label_grad(self) -> float:
        """The gradient of the smoothed cross-entropy by the label's logit, but for its probability."""
        return self.smoothing - 1

    def loss(
        self,
        logits: torch.Tensor,
        log_probs: torch.Tensor,
        labels: torch.Tensor,
        teacher_probs: torch.Tensor | None,
    ) -> torch.Tensor:
        """The objective of `logits` (B, K) with their `log_probs`, `labels` (B,) and the teacher's probabilities."""
        if self.plain:
            return F.nll_loss(log_probs, labels)
        loss = (1 - self.smoothing) * F.nll_loss(log_probs, labels) - self.smoothing * log_probs.mean()
        loss = loss + self.penalty * (log_probs.exp() * log_probs).sum(1).mean()
        if self.teacher is None:
            return loss
        temperature, weight = self.teacher.temperature, self.teacher.weight
        assert teacher_probs is not None
        kl = F.kl_div((logits / temperature).log_softmax(1), teacher_probs, reduction="batchmean")
        return (1 - weight) * loss + weight * temperature**2 * kl

    def gradient(
        self,
        logits: torch.Tensor,
        log_probs: torch.Tensor,
        labels: torch.Tensor,
        teacher_probs: torch.Tensor | None,
        out: torch.Tensor,
        for_labels: torch.Tensor,
    ) -> None:
        """Write the gradient of the batch's sum by the logits into `out` (B, K) float32: B times that of loss().

        The cross-entropy's is softmax - one-hot; `for_labels` (B, 1) is full of what the labels' classes have of the
        second, label_grad.
        """
        torch.exp(log_probs, out=out)
        if not self.plain:
            entropy = (out * log_probs).sum(1, keepdim=True).neg_()  # (B, 1)
            entropy_grad = out * (log_probs + entropy)  # minus it
            out.sub_(self.smoothing / out.shape[1]).add_(entropy_grad, alpha=self.penalty)
        out.scatter_add_(1, labels.unsqueeze(1), for_labels)
        if self.teacher is not None:
            temperature, weight = self.teacher.temperature, self.teacher.weight
            assert teacher_probs is not None
            kl_grad = (logits.float() / temperature).softmax(1).sub_(teacher_probs)
            out.mul_(1 - weight).add_(kl_grad, alpha=weight * temperature)


PLAIN = Objective()
"""The tutorial's."""


def build_objective(trainer: TrainerConfig, teacher: nn.Module | None, shape: tuple[int, ...]) -> Objective:
    """The configured objective for images of a shape; `teacher` is the network that trainer.teacher names, put into
    evaluation mode."""
    assert (teacher is None) == (trainer.teacher is None), "a teacher is given where the config names one"
    return Objective(
        trainer.label_smoothing,
        trainer.confidence_penalty,
        None if teacher is None else Teacher(teacher.train(False), trainer.temperature, trainer.teacher_weight, shape),
        trainer.adversarial,
    )

"""What training makes smaller, a batch's cross-entropy and what a config adds to it: loss for autograd, gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.config.schema import TrainerConfig
from mnist_ff.runs.records import CLASSES


@dataclass(frozen=True)
class Teacher:
    """A trained network whose answers are learnt (Hinton, Vinyals, Dean 2015, arXiv:1503.02531)."""

    network: nn.Module
    """(B, 784) to (B, 10) logits, in evaluation mode; it is only asked."""
    temperature: float
    weight: float
    """Its share of the objective; the labels have the rest."""

    @torch.no_grad()
    def answers(self, inputs: torch.Tensor) -> torch.Tensor:
        """Its probabilities (B, 10) at its temperature for `inputs` (B, 784) float32 in [0, 1]."""
        probabilities: torch.Tensor = (self.network(inputs).float() / self.temperature).softmax(1)
        return probabilities


@dataclass(frozen=True)
class Objective:
    """(1 - w) (cross-entropy with smoothed labels - penalty x entropy) + w T^2 KL(teacher at T, network at T).

    Smoothing: Szegedy et al. 2016, arXiv:1512.00567. Penalty: Pereyra et al. 2017, arXiv:1701.06548.
    Means over the batch. With an `epsilon` half of it is this of the images, half that of their adversaries
    (Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572).
    """

    smoothing: float = 0.0
    penalty: float = 0.0
    teacher: Teacher | None = None
    epsilon: float = 0.0

    @property
    def share(self) -> float:
        """What the images themselves, and their adversaries if there are some, each have of the objective."""
        return 0.5 if self.epsilon else 1.0

    def adversaries(self, images: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Images (B, 784) one step on to where the objective grows, by its `gradient` there; not cut to [0, 1]."""
        return images.detach() + self.epsilon * gradient.sign()

    @property
    def plain(self) -> bool:
        """Whether it is the cross-entropy alone, be it of adversaries too."""
        return self.smoothing == 0 and self.penalty == 0 and self.teacher is None

    def answers(self, inputs: torch.Tensor) -> torch.Tensor | None:
        """What the teacher says to `inputs` (B, 784), if there is one."""
        return None if self.teacher is None else self.teacher.answers(inputs)

    def loss(
        self, logits: torch.Tensor, logs: torch.Tensor, labels: torch.Tensor, answers: torch.Tensor | None
    ) -> torch.Tensor:
        """The objective of `logits` (B, 10) with their log-probabilities `logs`, `labels` (B,) and answers()."""
        loss = (1 - self.smoothing) * F.nll_loss(logs, labels) - self.smoothing * logs.mean()
        loss = loss + self.penalty * (logs.exp() * logs).sum(1).mean()
        if self.teacher is None:
            return loss
        heat, weight = self.teacher.temperature, self.teacher.weight
        assert answers is not None
        apart = F.kl_div((logits / heat).log_softmax(1), answers, reduction="batchmean")
        return (1 - weight) * loss + weight * heat**2 * apart

    def gradient(
        self,
        logits: torch.Tensor,
        logs: torch.Tensor,
        labels: torch.Tensor,
        answers: torch.Tensor | None,
        out: torch.Tensor,
    ) -> None:
        """Write the gradient of the batch's sum by the logits into `out` (B, 10) float32: B times that of loss()."""
        torch.exp(logs, out=out)
        entropy = (out * logs).sum(1, keepdim=True).neg_()
        towards = out * (logs + entropy)  # minus the entropy's gradient
        out.sub_(self.smoothing / CLASSES).add_(towards, alpha=self.penalty)
        out.scatter_add_(1, labels[:, None], out.new_full((len(labels), 1), self.smoothing - 1))
        if self.teacher is not None:
            heat, weight = self.teacher.temperature, self.teacher.weight
            assert answers is not None
            apart = (logits.float() / heat).softmax(1).sub_(answers)
            out.mul_(1 - weight).add_(apart, alpha=weight * heat)


PLAIN = Objective()
"""The tutorial's."""


def build_objective(trainer: TrainerConfig, teacher: nn.Module | None) -> Objective:
    """The configured objective; `teacher` is the network that trainer.teacher names, put into evaluation mode."""
    assert (teacher is None) == (trainer.teacher is None), "a teacher is given where the config names one"
    return Objective(
        trainer.label_smoothing,
        trainer.confidence_penalty,
        None if teacher is None else Teacher(teacher.train(False), trainer.temperature, trainer.teacher_weight),
        trainer.adversarial,
    )

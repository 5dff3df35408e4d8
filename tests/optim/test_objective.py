"""The objective: its formula and gradients, smoothing, adversaries, noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mnist_ff.data.load import Split, as_input
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP
from mnist_ff.optim.objective import Objective, Teacher
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.recipes import BASE, trained
from tests.support.steps import CPU, assert_close


def test_adversarial_examples_ignore_masks_for_float_images_too() -> None:
    split = make_split(300)
    floats = Split(as_input(split.images), split.labels)
    words = ("trainer.adversarial=0.1", "model.input_dropout=0.2")
    assert_close([trained("eager", split, *words)[:2], trained("fused", floats, *words)[:2]], 5e-5)


def logits_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(9, 10, generator=rng, dtype=torch.float64) * 3, torch.randint(10, (9,), generator=rng)


class Fixed(torch.nn.Module):
    """Answers with logits of its own, whatever it is asked."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(x), 10, generator=torch.Generator().manual_seed(1)) * 2


OBJECTIVES = {
    "smoothing": Objective(smoothing=0.1),
    "penalty": Objective(penalty=0.4),
    "teacher": Objective(teacher=Teacher(Fixed(), 4.0, 0.6)),
    "all": Objective(0.2, 0.3, Teacher(Fixed(), 2.0, 0.5)),
}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_objective_equals_formula_and_autograd(objective: Objective) -> None:
    logits, labels = logits_and_labels()
    answers = None if objective.teacher is None else objective.teacher.probs(torch.zeros(9, 784))
    z = logits.clone().requires_grad_()
    loss = objective.loss(z, z.log_softmax(1), labels, None if answers is None else answers.double())
    loss.backward()  # type: ignore[no-untyped-call]

    p = np.exp(logits.numpy() - logits.numpy().max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    target = np.full((9, 10), objective.smoothing / 10)
    target[np.arange(9), labels.numpy()] += 1 - objective.smoothing
    expected = -(target * np.log(p)).sum(1).mean() + objective.penalty * (p * np.log(p)).sum(1).mean()
    if objective.teacher is not None:
        heat, weight = objective.teacher.temperature, objective.teacher.weight
        q = np.exp(Fixed()(torch.zeros(9, 784)).double().numpy() / heat)
        q /= q.sum(1, keepdims=True)
        warm = np.exp(logits.numpy() / heat)
        warm /= warm.sum(1, keepdims=True)
        apart = (q * (np.log(q) - np.log(warm))).sum(1).mean()
        expected = (1 - weight) * expected + weight * heat**2 * apart
    assert loss.item() == pytest.approx(expected, rel=1e-6)

    out = torch.empty(9, 10)
    single = logits.float()
    for_labels = torch.full((len(labels), 1), objective.label_grad)
    objective.gradient(single, single.log_softmax(1), labels, answers, out, for_labels)
    assert z.grad is not None
    torch.testing.assert_close(out / 9, z.grad.float(), atol=1e-6, rtol=1e-4)


def test_label_smoothing_is_torchs() -> None:
    logits, labels = logits_and_labels()
    ours = Objective(smoothing=0.15).loss(logits, logits.log_softmax(1), labels, None)
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, label_smoothing=0.15))


def test_the_recorded_loss_stays_the_plain_cross_entropy() -> None:
    split = make_split(64)
    plain, smoothed = (
        trained("fused", split, "optimizer=sgd", "optimizer.lr=1e-12", *words, epochs=1)[0]
        for words in ([], ["trainer.label_smoothing=0.3", "trainer.confidence_penalty=1"])
    )
    assert torch.equal(plain, smoothed)


@pytest.mark.parametrize("engine", ["eager", "fused"])
def test_adversarial_gradient_is_half_from_perturbed_images(engine: str) -> None:
    split = make_split(64)
    words = ("model.dropout=0", "optimizer=sgd", "optimizer.lr=1", "optimizer.momentum=0", "trainer.adversarial=0.2")
    _, model, _ = trained(engine, split, *words, epochs=1)

    before = build_model(make_config(*BASE, *words).model, 0, CPU)
    images = as_input(split.images).requires_grad_()
    F.cross_entropy(before(images), split.labels).backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    adversaries = images.detach() + 0.2 * images.grad.sign()
    F.cross_entropy(before(adversaries), split.labels).backward()  # type: ignore[no-untyped-call]
    for after, parameter in zip(model.parameters(), before.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(after.detach(), parameter.detach() - parameter.grad / 2, atol=2e-5, rtol=1e-4)


def test_input_dropout_and_noise_have_their_rates() -> None:
    model = MLP([], "relu", 0.4, torch.Generator().manual_seed(0), input_dropout=0.2, input_noise=0.3)
    x = torch.full((500, 784), 0.5)
    dropped = model.input_dropout(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(0.5, abs=0.005)
    noise = model.input_noise(x) - x
    assert (float(noise.mean()), float(noise.std())) == (pytest.approx(0, abs=0.003), pytest.approx(0.3, abs=0.003))
    model.train(False)
    assert torch.equal(model(x), model.layers[-1](x))

"""What a recipe adds to training, each part against its formula, in both steps, and in a run that is resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.data.augment.build import build_augment
from mnist_ff.data.load import Split, as_input
from mnist_ff.data.seeds import generator
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.errors import ConfigError
from mnist_ff.models.mlp import MLP, build_model
from mnist_ff.optim.objective import Objective, Teacher
from mnist_ff.optim.optimizers import build_optimizer, optimizer_parts
from mnist_ff.optim.weight_updates import EMA, Updates
from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import EpochRecord, Plan, Score
from mnist_ff.training.callbacks import EarlyStopping
from mnist_ff.training.checkpoint import load_checkpoint
from mnist_ff.training.learner import Learner
from tests.optim.test_optimizer import optimizer_config, steps
from tests.support import reference
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.runs import WORDS, assert_equal_runs, stopped_run, whole_run
from tests.support.steps import CPU, assert_close, fake_capture

BASE = ("model.hidden=[32,16]", "trainer.batch_size=64")


def trained(engine: str, split: Split, *words: str, epochs: int = 3) -> tuple[torch.Tensor, MLP, Updates]:
    """Figures, model and averages after some epochs; a config with a teacher gets a small one of fixed weights."""
    config = make_config(*BASE, *words)
    model = build_model(config.model, 0, CPU)
    teacher = None
    if config.trainer.teacher is not None:
        teacher = build_model(replace(config.model, hidden=(24,), dropout=0.0), 7, CPU)
    updates = Updates(model, config.trainer)
    trainer = replace(config.trainer, engine=engine)
    step, _ = build_step(StepParts(model, config.optimizer, trainer, split, teacher=teacher, updates=updates))
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(3))
    return torch.cat([step(order) for _ in range(epochs)]), model, updates


PARTS = {
    "input dropout": ["model.input_dropout=0.2"],
    "input noise": ["model.input_noise=0.2"],
    "noise and dropout": ["model.input_noise=0.1", "model.input_dropout=0.1", "model.dropout=0"],
    "label smoothing": ["trainer.label_smoothing=0.1"],
    "confidence penalty": ["trainer.confidence_penalty=0.3"],
    "adversarial": ["trainer.adversarial=0.1"],
    "adversarial of noisy images": ["trainer.adversarial=0.1", "model.input_noise=0.1", "model.input_dropout=0.2"],
    "clip norm": ["trainer.clip_norm=0.1", "optimizer=sgd", "optimizer.lr=0.5"],
    "max norm": ["trainer.max_norm=0.9"],
    "weight decay": ["optimizer.weight_decay=5"],
    "distillation": ["trainer.teacher=x", "trainer.teacher_weight=0.7", "trainer.temperature=3"],
    "lion": ["optimizer=lion"],
    "nadam": ["optimizer=nadam"],
    "all": [
        "model.input_noise=0.1",
        "model.input_dropout=0.1",
        "trainer.label_smoothing=0.1",
        "trainer.confidence_penalty=0.1",
        "trainer.adversarial=0.1",
        "trainer.clip_norm=1",
        "trainer.max_norm=2",
        "trainer.ema=0.9",
        "trainer.teacher=x",
        "trainer.teacher_weight=0.5",
        "trainer.temperature=2",
    ],
}


@pytest.mark.parametrize("words", PARTS.values(), ids=PARTS.keys())
def test_fused_step_equals_eager_for_each_part(words: list[str]) -> None:
    split = make_split(300)
    eager, fused = (trained(engine, split, *words) for engine in ("eager", "fused"))
    assert_close([eager[:2], fused[:2]], 5e-5)
    plain = trained("eager", split)[1].state_dict()
    assert any((eager[1].state_dict()[name] - value).abs().max() > 1e-3 for name, value in plain.items())


def test_adversarial_examples_ignore_masks_for_float_images_too() -> None:
    split = make_split(300)
    floats = Split(as_input(split.images), split.labels)
    words = ("trainer.adversarial=0.1", "model.input_dropout=0.2")
    assert_close([trained("eager", split, *words)[:2], trained("fused", floats, *words)[:2]], 5e-5)


def test_all_parts_together_in_bf16() -> None:
    split = make_split(300)
    eager, fused = (trained(engine, split, *PARTS["all"], "trainer.precision=bf16") for engine in ("eager", "fused"))
    assert (eager[0] - fused[0])[:, 0].abs().max() < 0.05
    assert fused[0][-1, 0] < fused[0][0, 0]


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
    objective.gradient(single, single.log_softmax(1), labels, answers, out)
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


def test_rmsprop_takes_its_decay_off_first() -> None:
    ours, gradients = steps(optimizer_config("optimizer.weight_decay=0.5"), 50)
    p, v = np.ones((7, 5)), np.zeros((7, 5))
    for g in gradients:
        p, v = reference.rmsprop(p * (1 - 0.001 * 0.5), g, v, lr=0.001, rho=0.9, eps=1e-6)
    np.testing.assert_allclose(ours, p, rtol=1e-6)


def test_lion_is_its_papers_program() -> None:
    ours, gradients = steps(optimizer_config("optimizer=lion", "optimizer.weight_decay=0.5", "optimizer.lr=0.01"), 50)
    p, m = np.ones((7, 5)), np.zeros((7, 5))
    for g in gradients:
        update = np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
        p = p - 0.01 * (update + 0.5 * p)
    np.testing.assert_allclose(ours, p, rtol=1e-9)


def test_nadam_is_torchs() -> None:
    ours, gradients = steps(optimizer_config("optimizer=nadam", "optimizer.weight_decay=0.1"), 20)
    parameter = torch.nn.Parameter(torch.ones(7, 5, dtype=torch.float64))
    theirs = torch.optim.NAdam([parameter], weight_decay=0.1, decoupled_weight_decay=True)
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient)
        theirs.step()
    np.testing.assert_allclose(ours, parameter.detach().numpy(), rtol=1e-7)


def test_only_long_gradients_are_clipped() -> None:
    model = MLP([4], "relu", 0.0)
    updates = Updates(model, make_config("trainer.clip_norm=2").trainer)
    for length, kept in ((10.0, 2.0), (1.5, 1.5)):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        whole = sum(parameter.numel() for parameter in model.parameters()) ** 0.5
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad *= length / whole
        updates.before()
        squares = sum(
            float((parameter.grad.double() ** 2).sum())
            for parameter in model.parameters()
            if parameter.grad is not None
        )
        assert squares**0.5 == pytest.approx(kept, rel=1e-5)


def test_max_norm_bounds_incoming_weights() -> None:
    model = MLP([3], "relu", 0.0)
    first = model.layers[0].weight
    with torch.no_grad():
        first.fill_(0)
        first[0, 0], first[1, 1], first[1, 2] = 0.5, 3.0, 4.0
    Updates(model, make_config("trainer.max_norm=2").trainer).after()
    torch.testing.assert_close(first[:, :3], torch.tensor([[0.5, 0, 0], [0, 1.2, 1.6], [0, 0, 0]]))


def test_weights_that_are_not_trained_keep_their_norm() -> None:
    model = MLP([3], "relu", 0.0)
    first = model.layers[0].weight.requires_grad_(False)
    before = first.clone()
    Updates(model, make_config("trainer.max_norm=0.1").trainer).after()
    assert torch.equal(first, before)
    assert float(model.layers[1].weight.detach().norm(dim=1).max()) <= 0.1 + 1e-6


def test_ema_has_no_bias_to_initial_weights() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    ema, seen = EMA(model, 0.9), []
    for value in (1.0, 5.0, 2.0):
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update()
        seen.append(value)
    ages = np.array([0.9**2, 0.9, 1.0])
    expected = float((ages * seen).sum() / ages.sum())
    with ema.swapped_in():
        assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)
    assert model.weight[0, 0].item() == 2.0
    ema.copy_to_model()
    assert model.weight[0, 0].item() == pytest.approx(expected, rel=1e-6)


SPLIT = ["data.validation_split=0.2", "trainer.threads=1"]


@pytest.mark.parametrize("engine", ["fused", "eager"])
def test_resume_with_every_part_is_bitwise_identical(engine: str, mnist_ff: Command) -> None:
    whole_run("teacher", "trainer.epochs=1", "model.hidden=[24]")
    words = [word.replace("teacher=x", "teacher=teacher") for word in PARTS["all"]]
    words += [
        *SPLIT,
        "trainer.keep_best=true",
        "trainer.patience=2",
        "schedule=cosine",
        "augment=both",
        "optimizer=lion",
    ]
    words += [f"trainer.engine={engine}"]
    whole_run("whole", *words)
    stopped_run("parted", 20, *words)
    assert mnist_ff("train", "resume=parted")[0] == 0
    assert_equal_runs(Path("whole"), Path("parted"))
    states = [torch.load(Path(name, "checkpoint.pt"), weights_only=True) for name in ("whole", "parted")]
    for key in ("average", "best", "augment"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    assert Run.open("whole").config().trainer.teacher == str(Path("teacher").absolute())
    content = Path("teacher/model.safetensors").read_bytes()
    assert Run.open("whole").environment()["teacher"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_teacher_must_be_finished_and_unchanged(mnist_ff: Command) -> None:
    words = ["trainer.teacher=teacher", "trainer.teacher_weight=0.5"]
    stopped_run("teacher", 5, "model.hidden=[24]")
    code, _, err = mnist_ff("train", *WORDS, *words)
    assert code == 2
    assert "trainer.teacher=teacher: is interrupted; a teacher must be a finished run" in err
    assert mnist_ff("train", "resume=teacher")[0] == 0
    stopped_run("taught", 5, *words)
    whole_run("other", "model.hidden=[24]", "seed=1")
    before = Path("taught/environment.json").read_bytes()
    shutil.copy("other/model.safetensors", "teacher/model.safetensors")
    code, _, err = mnist_ff("train", "resume=taught")
    assert code == 2
    assert "its weights have changed since this run was started" in err
    assert Path("taught/environment.json").read_bytes() == before


def test_on_another_device_the_same_generators_begin_anew(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step holds them since it was built; a graph draws from those that it was captured with."""

    run = stopped_run("parted", 20, "augment=shift")
    saved = {**load_checkpoint(run, print), "device": "cuda"}
    held: list[torch.Generator] = []
    seeded: list[torch.Generator] = []

    def building(parts: StepParts) -> Any:
        assert isinstance(parts.model, MLP)
        assert parts.model.dropout.rng is not None
        assert parts.augment is not None
        held.extend([parts.model.dropout.rng, parts.augment.rng])
        return build_step(parts)

    def fitting(self: Learner, *given: Any) -> Any:
        assert self.augment is not None
        assert isinstance(self.model, MLP)
        assert self.model.dropout.rng is not None
        seeded.extend([self.model.dropout.rng, self.augment.rng])
        for name, rng in zip(("dropout", "augment"), seeded, strict=True):
            assert torch.equal(rng.get_state(), generator(0, name, 20).get_state())
        return whole(self, *given)

    whole = Learner.fit
    monkeypatch.setattr("mnist_ff.session.restore.load_checkpoint", lambda run, warn: saved)
    monkeypatch.setattr("mnist_ff.training.learner.build_step", building)
    monkeypatch.setattr(Learner, "fit", fitting)
    code, out, err = mnist_ff("train", "resume=parted")
    assert code == 0, err
    assert "the random generators of cuda cannot be restored on cpu; they are reseeded" in out
    assert [one is other for one, other in zip(held, seeded, strict=True)] == [True, True]


def test_averages_are_scored_and_kept(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.epochs=1", "trainer.threads=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=plain")[0] == 0
    assert mnist_ff("train", *words, "trainer.ema=0.9", "hydra.run.dir=ema")[0] == 0
    assert Path("plain/batches.csv").read_bytes() == Path("ema/batches.csv").read_bytes(), "training is the same"
    plain, averaged = (Run.open(name) for name in ("plain", "ema"))
    last, summary = averaged.epochs()[-1], averaged.summary()
    assert summary is not None
    assert summary.score is not None
    assert last["test_loss"] == pytest.approx(summary.score.loss, rel=1e-8), "scored as it is kept"
    assert last["test_loss"] != plain.epochs()[-1]["test_loss"]
    raw = [torch.load(Path(name, "checkpoint.pt"), weights_only=True)["model"] for name in ("plain", "ema")]
    torch.testing.assert_close(raw[0], raw[1], rtol=0, atol=0)


def epoch(number: int, loss: float, accuracy: float = 0.9) -> EpochRecord:
    return EpochRecord(number, 1.0, 0.9, None, Score(loss, accuracy, 90, 100), 1.0)


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "last"),
    [
        ([5, 4, 4, 4, 3], 2, 0.0, 3),
        ([5, 4, 4, 3, 4, 4, 4], 2, 0.0, 5),
        ([5, 4.95, 4.9, 4.85, 4.8], 2, 0.3, 2),
        ([5, 6, 7], 0, 0.0, 1),  # Keras takes 0 for 1
        ([5, 4, 3, 2], 1, 0.0, None),
        ([1, 2], 2, 0.0, None),
    ],
)
@pytest.mark.parametrize("resumed", [0, 1])
def test_early_stopping_is_kerass(
    losses: list[float], patience: int, min_delta: float, last: int | None, resumed: int
) -> None:
    """`last` is the number of the epoch after which Keras's callback of that name stops."""
    stopping = EarlyStopping("validation_loss", patience, min_delta)
    stopping.resume(losses[:resumed], 20)
    stopping.on_train_begin(Plan(20, 100, 10, None, 0.1))
    for number, loss in enumerate(losses[resumed:], resumed):
        stopping.on_epoch_end(epoch(number, loss))
        if stopping() is not None:
            assert number == last
            return
    assert last is None


def test_early_stopping_can_go_by_accuracy() -> None:
    stopping = EarlyStopping("validation_accuracy", 1, 0.0)
    stopping.on_train_begin(Plan(20, 100, 10, None, 0.1))
    stopping.on_epoch_end(epoch(0, 1.0, 0.9))
    stopping.on_epoch_end(epoch(1, 2.0, 0.91))
    assert stopping() is None
    stopping.on_epoch_end(epoch(2, 0.5, 0.91))
    reason = stopping()
    assert reason is not None
    assert reason.text == "early stopping: no better validation accuracy in 1 epochs after epoch 2"


def test_early_stopping_keeps_the_best_weights(mnist_ff: Command) -> None:
    words = [*WORDS, *SPLIT, "trainer.epochs=30", "trainer.patience=1", "trainer.keep_best=true", "optimizer.lr=0.02"]
    code, out, err = mnist_ff("train", *words, "hydra.run.dir=a")
    assert code == 0, err
    run = Run.open("a")
    summary, rows = run.summary(), run.epochs()
    assert summary is not None
    assert summary.status == "finished"
    assert (summary.cause or "").startswith("early stopping: no better validation loss")
    assert summary.epochs == len(rows) < 30
    best = min(range(len(rows)), key=lambda place: rows[place]["validation_loss"])
    assert best == len(rows) - 2
    assert f"keeping the weights of the best epoch, {best + 1}" in out
    assert (
        mnist_ff(
            "train",
            *words[:-3],
            "trainer.keep_best=false",
            *words[-1:],
            f"trainer.epochs={best + 1}",
            "hydra.run.dir=b",
        )[0]
        == 0
    )
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    assert "stopped early; nothing to do" in mnist_ff("train", "resume=a")[1]
    before = Path("a/batches.csv").read_bytes()
    for name in ("summary.json", "model.safetensors"):  # as if it had been killed after the last checkpoint
        run.file(name).unlink()
    assert mnist_ff("train", "resume=a")[0] == 0
    again = run.summary()
    assert again is not None
    assert (again.status, again.cause, again.score) == ("finished", summary.cause, summary.score)
    assert Path("a/batches.csv").read_bytes() == before
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_evaluate_every_scores_some_epochs_and_the_last(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots

    monkeypatch.setattr(plots, "DRAWINGS", {"epochs": plots.DRAWINGS["epochs"]})  # the others take seconds
    words = [*WORDS, "trainer.threads=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=all")[0] == 0
    code, out, _ = mnist_ff("train", *words, "trainer.evaluate_every=2", "trainer.plots=true", "hydra.run.dir=some")
    assert code == 0
    assert "could not draw" not in out
    every, some = Run.open("all").epochs(), Run.open("some").epochs()
    assert ["test_loss" in row for row in some] == [False, True, True]
    assert [row["test_loss"] for row in some[1:]] == [row["test_loss"] for row in every[1:]]
    assert Path("all/model.safetensors").read_bytes() == Path("some/model.safetensors").read_bytes()


REFUSED = {
    "stopping by what is not known": (
        ["trainer.patience=3", "trainer.evaluate_every=2", "data.validation_split=0.1"],
        "must be 1 with trainer.patience",
    ),
    "a best epoch without a checkpoint": (
        ["trainer.keep_best=true", "trainer.checkpoint_epochs=2", "data.validation_split=0.1"],
        "must be 1 with trainer.keep_best",
    ),
    "no checkpoint ever": (["trainer.checkpoint_epochs=0"], "trainer.checkpoint_epochs=0: must be at least 1"),
    "no held-out images to stop by": (["trainer.patience=3"], "set data.validation_split"),
    "nor with no patience at all": (["trainer.patience=0"], "set data.validation_split"),
    "nor to choose by": (["trainer.keep_best=true"], "set data.validation_split"),
    "delta without either": (["trainer.min_delta=0.1"], "needs trainer.patience"),
    "a score that nothing goes by": (["trainer.monitor=validation_accuracy"], "needs trainer.patience"),
    "a warm-up to nothing": (
        ["schedule=one_cycle", "schedule.initial=0", "schedule.warmup=3"],
        "at a learning rate of 0",
    ),
    "a heat beyond numbers": (["trainer.temperature=1e200", "trainer.teacher=gone"], "must be"),
    "a penalty beyond numbers": (["trainer.confidence_penalty=1e39"], "must be"),
    "noise beyond pixels": (["model.input_noise=1e300"], "must be"),
    "a field beyond pixels": (["augment=elastic", "augment.alpha=1e300"], "must be"),
    "no such teacher": (["trainer.teacher=gone", "trainer.teacher_weight=0.5"], "trainer.teacher=gone: does not exist"),
    "a teacher without effect": (["trainer.teacher=gone"], "trainer.teacher would have no effect"),
    "a say without a teacher": (["trainer.teacher_weight=0.5"], "needs a teacher"),
    "a temperature without a teacher": (["trainer.temperature=2"], "needs a teacher"),
    "another option's key": (["schedule=linear", "schedule.peak_at=0.5"], "it belongs to: schedule=one_cycle"),
    "another option's amount": (["augment=shift", "augment.sigma=3"], "it belongs to: augment=elastic"),
}


@pytest.mark.parametrize(("words", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_impossible_recipes_are_refused_before_writing(words: list[str], reason: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *WORDS, *words)
    assert code == 2
    assert reason in err
    assert not Path("outputs").exists()


def test_old_runs_may_hold_what_is_refused_now() -> None:
    config = make_config("schedule=one_cycle")
    trainer = replace(config.trainer, monitor="validation_accuracy")
    old = replace(config, trainer=trainer, schedule=replace(config.schedule, initial=0.0, warmup=3))
    assert config_from(config_to_dict(old)) == old


def test_run_network_refuses_unsupported_parts() -> None:
    import mnist_ff

    data = mnist_ff.load_data("data=mnist_5k")
    words = ["schedule=linear", "augment=shift", "trainer.ema=0.9", "trainer.label_smoothing=0.1", "model.hidden=[16]"]
    plain = mnist_ff.run_network(data, epochs=1, verbose=False, overrides=words[-1:])[1]
    assert mnist_ff.run_network(data, epochs=1, verbose=False, overrides=words)[1] != plain
    with pytest.raises(ConfigError, match="need a run directory"):
        mnist_ff.run_network(data, epochs=1, overrides=["trainer.patience=1"])
    with pytest.raises(ConfigError, match="must be below 16, the number of batches of the run"):
        mnist_ff.run_network(data, epochs=1, overrides=["schedule=linear", "schedule.warmup=16"])


OLD = """
data: {name: mnist_5k, root: null, validation_split: 0.0, instead_of: null}
model: {name: mlp, hidden: [32, 16], dropout: 0.4, activation: relu, init: glorot_uniform}
optimizer: {name: rmsprop, lr: 0.001, rho: 0.9, eps: 1.0e-06}
trainer: {epochs: 3, batch_size: 256, shuffle: true, device: cpu, engine: auto, precision: fp32, compile: false,
  sync_every: 25, score_train: 10000, threads: 1, plots: false, checkpoint_every: null, deterministic: false}
seed: 0
name: null
"""
"""A config.yaml from before there were any of these keys."""

OLD_RECIPE = "ecd24c02"
"""How the digest of its recipe began then."""


def test_run_older_than_these_keys_still_resumes(mnist_ff: Command) -> None:
    words = [*WORDS, "trainer.threads=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=whole")[0] == 0
    run = stopped_run("old", 20, "trainer.threads=1")
    run.file("config.yaml").write_text(OLD)
    before = Run.open("whole").config()
    assert replace(run.config(), trainer=before.trainer, data=before.data) == before
    assert mnist_ff("train", "resume=old")[0] == 0
    assert_equal_runs(Path("whole"), Path("old"))
    assert mnist_ff("evaluate", "old", "--device", "cpu")[0] == 0
    assert mnist_ff("compare", "old", "whole")[0] == 0
    from mnist_ff.session.resume import recipe

    assert recipe(run.config()).startswith(OLD_RECIPE)


def test_an_older_configs_other_mistakes_are_still_mistakes() -> None:
    run = Run.create(Path("a").absolute())
    for bad, reason in (
        (OLD.replace("rho: 0.9, ", ""), "optimizer.rho: is missing"),
        (OLD + "augments: {}\n", "augments"),
    ):
        run.file("config.yaml").write_text(bad)
        with pytest.raises(ConfigError, match=reason):
            run.config()


def test_older_checkpoint_and_sweep_are_read(mnist_ff: Command) -> None:
    from mnist_ff.runs.jobs import read_plan

    words = ["-m", *WORDS, "trainer.epochs=1", "trainer.threads=1", "seed=0,1", "hydra.sweep.dir=s"]
    assert mnist_ff("train", *words)[0] == 0
    jobs = json.loads(Path("s/jobs.json").read_text())
    for job in jobs["jobs"]:
        for section in ("schedule", "augment"):
            del job["config"][section]
        del job["config"]["optimizer"]["weight_decay"], job["config"]["trainer"]["ema"]
    Path("s/jobs.json").write_text(json.dumps(jobs))
    assert len(read_plan(Path("s")).jobs) == 2, "the digests are those that were saved"


@pytest.mark.parametrize("optimizer", ["nadam", "lion"])
def test_graph_captures_every_part_without_warmup_traces(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """build_step for CUDA, with a graph that is none on this machine's processor."""
    from mnist_ff.engine import build as engine

    monkeypatch.setattr(engine, "choose_engine", lambda *_: "graph")
    monkeypatch.setattr(engine, "capture_cuda", fake_capture([]))
    monkeypatch.setattr(
        engine, "build_optimizer", lambda config, parameters, capturable: build_optimizer(config, parameters)
    )
    split, results = make_split(300), []
    config = make_config(*BASE, *PARTS["all"], "augment=both", f"optimizer={optimizer}")
    course = [0.003 / (1 + step) for step in range(5)]
    for graph in (False, True):
        model = build_model(config.model, 0, CPU)
        updates, augment = Updates(model, config.trainer), build_augment(config.augment, 0, CPU)
        teacher = build_model(replace(config.model, hidden=(24,), dropout=0.0), 7, CPU)
        given = {"is_scheduled": True, "augment": augment, "teacher": teacher, "updates": updates}
        if not graph:
            with monkeypatch.context() as plain:
                plain.setattr(engine, "choose_engine", lambda *_: "fused")
                step, _ = build_step(StepParts(model, config.optimizer, config.trainer, split, **given))  # type: ignore[arg-type]
        else:
            step, _ = build_step(StepParts(model, config.optimizer, config.trainer, split, **given))  # type: ignore[arg-type]
        figures = torch.cat([step(torch.arange(300), rates=course) for _ in range(3)])
        assert updates.ema is not None
        assert augment is not None
        results.append((figures, updates.ema.state()["sums"], augment.rng.get_state()))
    torch.testing.assert_close(results[1][:2], results[0][:2], rtol=1e-3, atol=1e-5)
    assert torch.equal(results[1][2], results[0][2])


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", sorted(name for name, part in optimizer_parts().items() if part.tensor_lr))
def test_cuda_graph_has_rates_and_every_part(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_ff.engine.graph.GraphSteps.TOGETHER", 2)
    device, split = torch.device("cuda"), make_split(300).to(torch.device("cuda"))
    still = ["model.dropout=0", "model.input_noise=0", "model.input_dropout=0"]  # chance differs between engines there
    course, results = [0.003 / (1 + step) for step in range(5)], []
    for words, chance in ((still, False), ([], True)):
        for name in ("fused", "graph"):
            config = make_config(*BASE, *PARTS["all"], "augment=both", f"optimizer={optimizer}", *words)
            model = build_model(config.model, 0, device)
            augment = build_augment(config.augment, 0, device) if chance else None
            teacher = build_model(replace(config.model, hidden=(24,), dropout=0.0), 7, device)
            trainer = replace(config.trainer, engine=name)
            parts = StepParts(
                model, config.optimizer, trainer, split, is_scheduled=True, augment=augment, teacher=teacher
            )
            step, _ = build_step(parts)
            rows = torch.arange(300, device=device)
            results.append(torch.cat([step(rows, rates=course) for _ in range(3)]).cpu())
    torch.testing.assert_close(results[1][:, 0], results[0][:, 0], rtol=1e-3, atol=1e-4)
    assert all(bool(torch.isfinite(figures).all()) for figures in results)
    assert len(results[3][:, 0].unique()) == 15

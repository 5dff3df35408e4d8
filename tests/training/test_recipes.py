"""Parts of a recipe together: in every engine, resumed, refused, in old runs."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_ff.config.convert import config_from, config_to_dict
from mnist_ff.data.augment.build import build_augment
from mnist_ff.data.seeds import generator
from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.errors import ConfigError
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP
from mnist_ff.optim.optimizers import build_optimizer, optimizer_parts
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.directory import Run
from mnist_ff.training.checkpoint import load_checkpoint
from mnist_ff.training.learner import Learner
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.recipes import BASE, SPLIT, trained
from tests.support.runs import WORDS, assert_equal_runs, stopped_run, whole_run
from tests.support.steps import CPU, assert_close, fake_capture

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


def test_all_parts_together_in_bf16() -> None:
    split = make_split(300)
    eager, fused = (trained(engine, split, *PARTS["all"], "trainer.precision=bf16") for engine in ("eager", "fused"))
    assert (eager[0] - fused[0])[:, 0].abs().max() < 0.05
    assert fused[0][-1, 0] < fused[0][0, 0]


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
    "another option's amount": (["augment=shift", "augment.sigma=3"], "it belongs to: augment=both, augment=elastic"),
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

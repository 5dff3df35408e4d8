"""The learning rate of each step against its formulas, in files, in every engine and after a resume."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnist_ff.engine.build import StepParts, build_step, choose_engine, training_state
from mnist_ff.engine.fused import FusedBatch
from mnist_ff.engine.graph import GraphState, GraphSteps
from mnist_ff.engine.ops import TorchOps
from mnist_ff.engine.step import Steps
from mnist_ff.engine.workspace import FlatParameters
from mnist_ff.errors import ConfigError
from mnist_ff.models.build import build_model
from mnist_ff.optim.optimizers import build_optimizer, optimizer_parts, set_rate
from mnist_ff.optim.schedule import learning_rates
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.runs import BATCHES, WORDS, assert_equal_runs, stopped_run, whole_run
from tests.support.steps import CPU, fake_capture

LINEAR = ["schedule=linear", "schedule.warmup=5"]


def rates(*words: str, steps: int = 100) -> list[float]:
    config = make_config(*words).schedule
    return list(map(learning_rates(config, 0.5, steps), range(steps)))


def test_constant_is_the_base_rate() -> None:
    assert rates() == [0.5] * 100


def test_linear_schedule_falls_evenly_to_final_share() -> None:
    found = rates("schedule=linear", "schedule.final=0.2")
    assert found == pytest.approx([0.5 - 0.4 * step / 100 for step in range(100)])
    assert rates("schedule=linear")[-1] == pytest.approx(0.005), "the last step is not wasted"


def test_cosine_is_half_a_cosine() -> None:
    found = rates("schedule=cosine", "schedule.final=0.1")
    assert found == pytest.approx([0.05 + 0.45 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)])


def test_one_cycle_matches_torch_except_its_end() -> None:
    """torch's reaches its peak and its end one step earlier: it counts to the last step, not past it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.5, total_steps=1001, pct_start=301 / 1001, div_factor=25, cycle_momentum=False
    )
    expected = []
    for _ in range(1000):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    final = 0.04 / 1e4
    assert rates("schedule=one_cycle", f"schedule.final={final}", steps=1000) == pytest.approx(expected, abs=1e-9)


def test_step_falls_where_it_is_told() -> None:
    found = rates("schedule=step", "schedule.at=[0.25,0.8]", "schedule.factor=0.1")
    assert found == pytest.approx([0.5] * 25 + [0.05] * 55 + [0.005] * 20)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "one_cycle", "step"])
def test_warmup_rises_evenly_to_the_base_rate(name: str) -> None:
    plain = rates(f"schedule={name}", steps=90)
    found = rates(f"schedule={name}", "schedule.warmup=10")
    assert found[:10] == pytest.approx([plain[0] * (step + 1) / 11 for step in range(10)])
    assert found[10:] == plain


def written(path: str) -> list[float]:
    return [float(line.split(",")[4]) for line in Path(path, "batches.csv").read_text().splitlines()[1:]]


def test_recorded_rates_resume_to_the_byte(mnist_ff: Command) -> None:
    words = [*LINEAR, "optimizer=adam", "trainer.threads=1"]
    whole_run("whole", *words)
    config = make_config(*words).schedule
    expected = list(map(learning_rates(config, 0.001, 3 * BATCHES), range(3 * BATCHES)))
    assert written("whole") == pytest.approx(expected, rel=1e-8)
    whole_run("constant", *words[2:])
    assert Path("whole/model.safetensors").read_bytes() != Path("constant/model.safetensors").read_bytes()
    stopped_run("parted", 21, *words)
    assert mnist_ff("train", "resume=parted")[0] == 0
    assert_equal_runs(Path("whole"), Path("parted"))


def test_extending_a_length_dependent_schedule_warns(mnist_ff: Command) -> None:
    whole_run("a", "schedule=linear", "trainer.epochs=1")
    code, out, _ = mnist_ff("train", "resume=a", "trainer.epochs=2")
    assert code == 0
    assert "warning: trainer.epochs changes from 1 to 2: the remaining batches follow schedule=linear" in out
    first = [0.001 * (1 - step / BATCHES) for step in range(BATCHES)]
    second = [0.001 * (1 - step / (2 * BATCHES)) for step in range(BATCHES, 2 * BATCHES)]
    assert written("a") == pytest.approx(first + second, rel=1e-8)
    whole_run("b", "schedule.warmup=3", "trainer.epochs=1")
    assert "earlier ones followed" not in mnist_ff("train", "resume=b", "trainer.epochs=2")[1], "a constant one goes on"


def test_warmup_longer_than_the_run_is_refused(mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", *WORDS, "schedule.warmup=48")
    assert code == 2
    assert "schedule.warmup=48: must be below 48" in err


@pytest.mark.parametrize("optimizer", sorted(name for name, part in optimizer_parts().items() if part.tensor_lr))
def test_graph_replays_read_the_rate_tensor(optimizer: str) -> None:
    split, config = make_split(600), make_config(f"optimizer={optimizer}", "model.hidden=[32,16]")
    weights = ["optimizer.weight_decay=0.1"]
    config = make_config(f"optimizer={optimizer}", "model.hidden=[32,16]", *weights)
    results = []
    course = [0.01 / (1 + step) for step in range(30)]
    for graph in (False, True):
        model = build_model(config.model, 0, CPU)
        trainer = replace(config.trainer, batch_size=64, engine="fused")
        step, opt = build_step(StepParts(model, config.optimizer, trainer, split, is_scheduled=True))
        if graph:
            flat = FlatParameters(model)
            opt = build_optimizer(config.optimizer, [flat.whole])
            rate = torch.full((1,), 0.5)
            set_rate(opt, rate[0])
            batch = FusedBatch(model, flat, TorchOps(model, opt), split)
            assert model.dropout.rng is not None
            state = lambda flat=flat, opt=opt: training_state([flat.whole], opt)  # noqa: E731
            graph_step = GraphSteps(batch, split, 64, GraphState(state, [model.dropout.rng], rate), fake_capture([]))
            step = graph_step
            graph_step.prepare(600)
            assert rate == 0.5, "warming up leaves the rate as it was"
        order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
        parts = [step(order, rates=course[first : first + 10]) for first in (0, 10, 20)]
        results.append((torch.cat(parts), model.state_dict()))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    for name, value in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], value, rtol=1e-3, atol=1e-5)


def test_scheduled_sgd_has_no_cuda_graph() -> None:
    model, cuda = build_model(make_config().model, 0, CPU), torch.device("cuda")
    trainer = make_config().trainer
    assert choose_engine(model, trainer, cuda, "sgd") == "graph"
    assert choose_engine(model, trainer, cuda, "sgd", is_scheduled=True) == "fused"
    assert choose_engine(model, trainer, cuda, "adamw", is_scheduled=True) == "graph"
    with pytest.raises(ConfigError, match=r"optimizer=sgd cannot change its (learning )?rate in a CUDA graph"):
        choose_engine(model, replace(trainer, engine="graph"), cuda, "sgd", is_scheduled=True)


def test_non_finite_weight_error_names_the_rate(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiling(steps: Steps, *rows: Any) -> Any:
        figures = trained(steps, *rows)
        assert steps._optimizer is not None
        steps._optimizer.param_groups[0]["params"][0].data.fill_(math.inf)
        return figures

    trained = Steps.__call__
    monkeypatch.setattr(Steps, "__call__", spoiling)
    words = ["data=mnist_5k", "model.hidden=[8]", "trainer.plots=false", "trainer.epochs=1", "trainer.batch_size=100"]
    words += ["schedule=linear", "schedule.final=0", "optimizer.lr=0.004", "trainer.checkpoint_every=11"]
    code, _, err = mnist_ff("train", *words)
    assert code == 1
    # 40 batches; the eleventh has 30/40 of the rate left
    assert "a weight is not finite after epoch 0, batch 11 (lr 0.003)" in err

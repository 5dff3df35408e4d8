"""The fast steps against the plain one, the graph's buffers with a graph that is none, precision and choice."""

from __future__ import annotations

import gc
import json
import math
import weakref
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mnist_ff.data.load import Data, Split
from mnist_ff.engine.build import StepParts, build_step, training_state
from mnist_ff.engine.eager import EagerBatch
from mnist_ff.engine.fused import FusedBatch
from mnist_ff.engine.graph import GraphState, GraphSteps, capture_cuda
from mnist_ff.engine.inference import Inference
from mnist_ff.engine.ops import TorchOps
from mnist_ff.engine.step import Step, StepOptions, Steps
from mnist_ff.engine.workspace import FlatParameters
from mnist_ff.models.build import build_model
from mnist_ff.models.mlp import MLP
from mnist_ff.optim.optimizers import build_optimizer, optimizer_parts, set_rate
from mnist_ff.training.evaluation import score
from mnist_ff.training.learner import Learner
from mnist_ff.training.lr_range import try_rates
from tests.support.commands import Command, only_run
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.steps import CPU, assert_close, both, fake_capture


@pytest.mark.parametrize("dropout", ["0", "0.4"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu"])
def test_fused_equals_eager_for_every_activation(activation: str, dropout: str) -> None:
    words = (f"model.activation={activation}", f"model.dropout={dropout}")
    assert_close(both(make_split(600), *words), tolerance=1e-5)


@pytest.mark.parametrize("hidden", ["[]", "[7]", "[500,300]", "[33,5,9,11]"])
def test_fused_equals_eager_for_every_depth(hidden: str) -> None:
    assert_close(both(make_split(600), f"model.hidden={hidden}", "optimizer.lr=0.0005"), tolerance=2e-5)


@pytest.mark.parametrize(
    "words",
    [
        ("optimizer=rmsprop_torch", "optimizer.lr=0.001", "optimizer.momentum=0.5", "optimizer.centered=true"),
        ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true", "optimizer.weight_decay=0.001"),
        ("optimizer=adam",),
        ("optimizer=adamw",),
    ],
    ids=lambda words: words[0],
)
def test_fused_equals_eager_for_every_optimizer(words: tuple[str, ...]) -> None:
    assert_close(both(make_split(600), *words), tolerance=2e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "silu"])
@pytest.mark.parametrize("hidden", ["[]", "[300,20]"])
def test_inference_is_the_networks_forward_pass(hidden: str, activation: str, precision: torch.dtype) -> None:
    config = make_config(f"model.hidden={hidden}", f"model.activation={activation}")
    model = build_model(config.model, 0, CPU).train(False)
    images = make_split(50).images
    forward = Inference(model, 40, precision)
    found = torch.cat([forward(images[:40]), forward(images[40:])])
    with torch.no_grad():
        expected = model(images.float() / 255)
    torch.testing.assert_close(found, expected, atol=1e-5 if precision == torch.float32 else 0.05, rtol=0)
    floats = torch.cat([forward(images[:40].float() / 255), forward(images[40:].float() / 255)])
    torch.testing.assert_close(floats, found, atol=1e-5 if precision == torch.float32 else 0.05, rtol=0)


def test_a_users_default_device_is_no_matter_on_the_cpu() -> None:
    config, split = make_config("model.hidden=[16]"), make_split(100)
    model = build_model(config.model, 0, CPU)
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    with torch.device("meta"):
        found = score(model, split)
        build_optimizer(config.optimizer, [parameter]).step()
    assert found == score(model, split)
    assert bool((parameter < 1).all())


def test_scores_of_a_changed_network_are_its_own() -> None:
    """What is written out is the built-in network's: one that was changed in any way is called as it is."""
    model, split = build_model(make_config("model.hidden=[16]").model, 0, CPU), make_split(100)
    plain = score(model, split)
    model.register_forward_hook(lambda module, given, logits: logits * 0)
    assert score(model, split).loss == pytest.approx(math.log(10))
    assert plain.loss != pytest.approx(math.log(10), abs=1e-3)


def test_bf16_training_scores_in_bf16_and_ends_with_fp32(small_data: Data) -> None:
    learner = Learner(make_config("model.hidden=[64]", "trainer.precision=bf16"), small_data)
    assert learner.evaluate()["test"] == score(learner.model, small_data.test, torch.bfloat16)
    assert learner.evaluate()["test"] != score(learner.model, small_data.test)


def test_fused_takes_float_images_too() -> None:
    split = make_split(600)
    floats = Split(split.images.flatten(1).float() / 255, split.labels)
    (_, _), (expected, _) = both(split)
    (_, _), (figures, _) = both(floats)
    torch.testing.assert_close(figures, expected, atol=1e-5, rtol=0)


def test_bf16_products_near_fp32_with_fp32_weights() -> None:
    split = make_split(600)
    words = ("model.hidden=[64,32]", "optimizer=sgd")
    exact = both(split, *words)[0][0]
    for figures, model in both(split, "trainer.precision=bf16", *words):
        assert all(value.dtype == torch.float32 for value in model.state_dict().values())
        difference = (figures[:, 0] - exact[:, 0]).abs()
        assert 0 < difference.max() < 0.02


def test_the_fused_steps_masks_are_the_dropouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all outputs at one, what is left of them is the mask: its bits equal those of model.Dropout."""
    for precision in (torch.float32, torch.bfloat16):
        config = make_config("model.hidden=[37,21]", "model.dropout=0.3")
        model = build_model(config.model, 0, CPU)
        for layer in model.layers:
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.ones_(layer.bias)
        flat = FlatParameters(model)
        split = make_split(64)
        optimizer = build_optimizer(config.optimizer, [flat.whole])
        monkeypatch.setattr(optimizer, "update", lambda: None)
        batch = FusedBatch(model, flat, TorchOps(model, optimizer), split, StepOptions(precision))
        twin = build_model(config.model, 0, CPU).dropout
        for _ in range(3):
            batch(torch.arange(64), split.labels, torch.zeros(64, 10))
            for layer, units in zip(batch.space(64).layers, (37, 21), strict=False):
                assert torch.equal(layer.act > 0, twin.mask((64, units), CPU))


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd", "rmsprop_torch", "nadam", "lion"])
def test_graph_replays_each_batch_once_after_warmup(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphSteps, "TOGETHER", 5)
    split = make_split(600)
    words = [f"optimizer={optimizer}", "model.hidden=[32,16]", "trainer.batch_size=64"]
    words += ["optimizer.momentum=0.9"] if optimizer == "sgd" else []
    config = make_config(*words)
    results = []
    calls: list[str] = []
    for graph in (False, True):
        model = build_model(config.model, 0, CPU)
        flat = FlatParameters(model)
        opt = build_optimizer(config.optimizer, [flat.whole])
        batch = FusedBatch(model, flat, TorchOps(model, opt), split)
        assert model.dropout.rng is not None
        step: Step = Steps(batch, split, 64)
        if graph:
            state = lambda flat=flat, opt=opt: training_state([flat.whole], opt)  # noqa: E731
            step = GraphSteps(batch, split, 64, GraphState(state, [model.dropout.rng]), fake_capture(calls))
        rows = torch.randperm(600, generator=torch.Generator().manual_seed(1))
        figures = torch.cat([step(rows[:256]), step(rows[256:448]), step(rows[448:]), step(rows)])
        results.append((figures, flat.whole.detach().clone(), model.dropout.rng.get_state()))
    for plain, graphed in zip(*results, strict=True):
        assert torch.equal(plain, graphed)
    assert calls.count("capture") == 3, "one graph for five batches, one for one, one for the short one"
    assert calls.count("replay") == 4 + 3 + 3 + 6


OPTIMIZERS = [
    ("rmsprop",),
    ("adam",),
    ("adamw",),
    ("sgd",),
    ("sgd", "optimizer.momentum=0.9"),
    ("sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"),
    ("rmsprop_torch",),
    ("rmsprop_torch", "optimizer.momentum=0.9", "optimizer.centered=true"),
    ("nadam",),
    ("lion",),
]


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for state in optimizer.state.values() for name, value in state.items()}


@pytest.mark.parametrize("words", OPTIMIZERS, ids=lambda words: "-".join(words))
def test_optimizers_create_their_whole_state_first(words: tuple[str, ...]) -> None:
    """Its first values are torch's own: updates that begin with them equal updates that begin with none."""
    config = make_config(f"optimizer={words[0]}", *words[1:]).optimizer
    results = []
    for given in (True, False):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = build_optimizer(config, [parameter])
        before = state_of(optimizer)
        if not given and words[0] not in ("rmsprop", "lion"):  # torch's make theirs when they find none
            optimizer.state.clear()
        for step in range(1, 4):
            parameter.grad = torch.linspace(-2, 3, 5) * step
            optimizer.step()
        assert state_of(optimizer).keys() == before.keys()
        results.append({"weights": parameter.detach(), **state_of(optimizer)})
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_every_optimizer_is_tried_here() -> None:
    assert {words[0] for words in OPTIMIZERS} == set(optimizer_parts())


@pytest.mark.parametrize("words", OPTIMIZERS, ids=lambda words: "-".join(words))
def test_capturing_a_graph_leaves_the_state(words: tuple[str, ...]) -> None:
    split = make_split(64)
    config = make_config(f"optimizer={words[0]}", *words[1:], "model.hidden=[8]")
    model = build_model(config.model, 0, CPU)
    flat = FlatParameters(model)
    opt = build_optimizer(config.optimizer, [flat.whole])
    for value in state_of(opt):
        opt.state[flat.whole][value].fill_(0.5)  # nothing that is zero, nothing that it began with
    batch = FusedBatch(model, flat, TorchOps(model, opt), split)
    before = {"weights": flat.whole.detach().clone(), **state_of(opt)}
    state = lambda: training_state([flat.whole], opt)  # noqa: E731
    assert model.dropout.rng is not None
    GraphSteps(batch, split, 32, GraphState(state, [model.dropout.rng]), fake_capture([])).prepare(64)
    after = {"weights": flat.whole.detach(), **state_of(opt)}
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_graph_refuses_lazily_made_optimizer_state() -> None:
    class Late(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter].setdefault("power", torch.ones(()))

    split = make_split(64)
    model = build_model(make_config("model.hidden=[8]").model, 0, CPU)
    opt = Late(model.parameters(), lr=0.1)
    batch = EagerBatch(model, opt, split)
    state = GraphState(lambda: training_state(list(model.parameters()), opt))
    step = GraphSteps(batch, split, 64, state, fake_capture([]))
    with pytest.raises(RuntimeError, match="whole state before its first update"):
        step(torch.arange(64))


def small_steps(split: Split, graph: bool) -> Step:
    """A small network's fused step in batches of 64: one after another, or as replays of what stands in for a graph."""
    config = make_config("model.hidden=[8]")
    model = build_model(config.model, 0, CPU)
    flat = FlatParameters(model)
    opt = build_optimizer(config.optimizer, [flat.whole])
    batch = FusedBatch(model, flat, TorchOps(model, opt), split)
    if not graph:
        return Steps(batch, split, 64, opt)
    rate = torch.tensor([config.optimizer.lr])
    set_rate(opt, rate[0])
    assert model.dropout.rng is not None
    state = GraphState(lambda: training_state([flat.whole], opt), [model.dropout.rng], rate)
    return GraphSteps(batch, split, 64, state, fake_capture([]))


def test_new_rate_reaches_a_graph_by_tensor() -> None:
    split, tried, losses = make_split(256), [1e-4, 1e-3, 1e-2, 1e-1], []
    for graph in (False, True):
        step = small_steps(split, graph)
        losses.append(try_rates(step, lambda epoch: torch.arange(256), 64, tried, lambda: None))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(set(losses[0])) == 4


def test_graph_keeps_its_tensors_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph holds addresses only: were its tensors freed, others would be written there."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    tensor = torch.zeros(3)
    read = weakref.ref(tensor)
    replay = capture_cuda(partial(tensor.add_, 1), [])
    del tensor
    gc.collect()
    assert read() is not None
    replay()
    del replay
    gc.collect()
    assert read() is None


def test_warmup_leaves_foreign_module_buffers() -> None:
    split = make_split(128)
    results = []
    for graph in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(784, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 10)
        )
        opt = build_optimizer(make_config().optimizer, model.parameters())
        batch = EagerBatch(model, opt, split)
        step: Step = Steps(batch, split, 64)
        if graph:
            state = lambda m=model, o=opt: training_state([*m.parameters(), *m.buffers()], o)  # noqa: E731
            step = GraphSteps(batch, split, 64, GraphState(state), fake_capture([]))
        results.append((step(torch.arange(128)), model.state_dict()))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(value, results[1][1][name]) for name, value in results[0][1].items())


def test_step_stops_after_the_requested_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphSteps, "TOGETHER", 5)
    split = make_split(600)
    for graph in (False, True):
        step = small_steps(split, graph)
        answers = iter([None, None, "stop"])
        # this graph trains five batches before it is asked
        assert len(step(torch.arange(600), lambda answers=answers: next(answers))) == (7 if graph else 3)


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop_torch"])
def test_optimizers_are_built_capturable_for_a_graph(name: str) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    config = make_config(f"optimizer={name}").optimizer
    assert build_optimizer(config, [parameter], capturable=True).param_groups[0]["capturable"] is True
    assert build_optimizer(config, [parameter]).param_groups[0]["capturable"] is False


def test_figures_of_one_chunk_outlive_the_next() -> None:
    split = make_split(128)
    config = make_config("model.hidden=[8]")
    model = build_model(config.model, 0, CPU)
    opt = build_optimizer(config.optimizer, model.parameters())
    batch = EagerBatch(model, opt, split)
    state = GraphState(lambda: training_state(list(model.parameters()), opt))
    step = GraphSteps(batch, split, 64, state, fake_capture([]))
    first = step(torch.arange(128))
    kept = first.clone()
    step(torch.arange(128))
    assert torch.equal(first, kept)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer.precision=tf32", "trainer.device=cpu"], "trainer.precision=tf32"),
        (["trainer.engine=graph", "trainer.device=cpu"], "needs a CUDA device"),
        (["trainer.engine=fused", "trainer.compile=true"], "needs trainer.engine=eager"),
        (["trainer.engine=fast"], "must be one of auto, eager, fused, graph"),
    ],
)
def test_what_the_machine_lacks_is_a_config_error(words: list[str], reason: str, mnist_ff: Command) -> None:
    code, _, err = mnist_ff("train", "data=mnist_5k", *words)
    assert code == 2
    assert reason in err
    assert not Path("outputs").exists()


def test_auto_says_what_it_chose(mnist_ff: Command) -> None:
    code, out, _ = mnist_ff("train", "data=mnist_5k", "trainer.epochs=1", "trainer.device=cpu", "trainer.plots=false")
    assert code == 0
    threads = json.loads((only_run() / "environment.json").read_text())["threads"]
    assert f"cpu (fused, fp32, {threads} thread" in out
    assert json.loads((only_run() / "environment.json").read_text())["engine"] == "fused"


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_same_seed_same_bytes_for_every_engine(engine: str, precision: str, mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "trainer.epochs=2", "trainer.plots=false", "model.hidden=[64]", "trainer.device=cpu"]
    for place in "ab":
        last = [f"trainer.engine={engine}", f"trainer.precision={precision}", f"hydra.run.dir={place}"]
        assert mnist_ff("train", *words, *last)[0] == 0
    for name in ("batches.csv", "model.safetensors"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


@pytest.mark.slow
def test_compiled_step_has_same_losses_and_names(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false", "model.hidden=[64]", "model.dropout=0"]
    assert mnist_ff("train", *words, "trainer.compile=true", "hydra.run.dir=compiled")[0] == 0
    assert mnist_ff("train", *words, "trainer.engine=eager", "hydra.run.dir=plain")[0] == 0
    state = torch.load("compiled/checkpoint.pt", weights_only=True)
    assert set(state["model"]) == {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"}
    from mnist_ff.runs.directory import Run

    compiled, plain = Run.open("compiled").losses(), Run.open("plain").losses()
    assert max(abs(a - b) for a, b in zip(compiled, plain, strict=True)) < 1e-4


@pytest.fixture
def _few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of four batches, so that a small chunk has some of those, of one batch and of the short last one."""
    monkeypatch.setattr(GraphSteps, "TOGETHER", 4)


def cuda_steps(engine: str, split: Split, *overrides: str) -> tuple[Step, MLP]:
    device = torch.device("cuda")
    config = make_config("model.hidden=[32,16]", "trainer.batch_size=64", *overrides)
    model = build_model(config.model, 0, device)
    trainer = replace(config.trainer, engine=engine)
    return build_step(StepParts(model, config.optimizer, trainer, split.to(device)))[0], model


@pytest.mark.usefixtures("_few_together")
@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop_torch", "sgd", "adam", "adamw", "nadam", "lion"])
def test_graph_equals_eager_on_cuda(optimizer: str) -> None:
    split = make_split(600)
    rows = torch.randperm(600).cuda()
    words = (f"optimizer={optimizer}", "model.dropout=0", "optimizer.lr=0.001")
    eager, graph = (cuda_steps(engine, split, *words)[0](rows) for engine in ("eager", "graph"))
    assert (eager - graph)[:, 0].abs().max() < 1e-5


@pytest.mark.usefixtures("_few_together")
@pytest.mark.gpu
def test_nothing_waits_for_cuda_in_the_batch_loop() -> None:
    step, _ = cuda_steps("graph", make_split(600))
    rows = torch.randperm(600).cuda()
    step(rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("_few_together")
@pytest.mark.gpu
def test_masks_differ_between_replays_at_the_right_rate() -> None:
    step, model = cuda_steps("graph", make_split(640), "model.dropout=0.4", "optimizer=sgd", "optimizer.lr=1e-12")
    rows = torch.arange(64).repeat(200).cuda()
    losses = torch.cat([step(part)[:, 0] for part in torch.split(rows, 640)]).cpu()
    assert len(losses.unique()) > 150
    mask = model.dropout.mask((1000, 1000), torch.device("cuda")).double().mean().item()
    assert abs(mask - 0.6) < 5 * math.sqrt(0.24 / 1e6)


def test_data_is_shared_by_jobs_of_one_process(small_data: Data, real_mnist: Path) -> None:
    from mnist_ff.data.load import load_data

    config = make_config().data
    load_data(config, 0)  # fetches, where no test did before
    first, second = load_data(config, 0), load_data(config, 1)
    assert first.train.images.data_ptr() == second.train.images.data_ptr()

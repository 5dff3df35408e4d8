"""The step of a CUDA graph without a GPU: Triton's interpreter runs the kernels, the streams are one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from mnist_ff.data.load import Split
from mnist_ff.engine import cuda_step
from mnist_ff.engine.build import training_state
from mnist_ff.engine.cuda_step import CudaBatch, why_no_kernels
from mnist_ff.engine.fused import ACTIVATIONS, FlatParameters, FusedBatch
from mnist_ff.engine.graph import GraphState, GraphSteps, capture_cuda
from mnist_ff.engine.step import BatchStep, Step, StepOptions, Steps
from mnist_ff.models.build import build_model
from mnist_ff.optim.base import apply_rule
from mnist_ff.optim.objective import build_objective
from mnist_ff.optim.optimizers import build_optimizer, optimizer_parts, set_rate
from mnist_ff.optim.weight_updates import Updates
from tests.support.configs import make_config
from tests.support.mnist import make_split

pytest.importorskip("triton", reason="triton is not installed")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Line:
    """Nothing is aside."""

    def __init__(self, device: torch.device) -> None:
        pass

    @contextmanager
    def fork(self) -> Iterator[None]:
        yield

    def join(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE.type == "cpu":
        monkeypatch.setattr(cuda_step, "Aside", Line)


def trained(kind: type[FusedBatch], split: Split, *words: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The figures of two epochs, and the weights after them."""
    config = make_config("trainer.batch_size=64", "model.hidden=[8,4]", *words)
    model = build_model(config.model, 0, DEVICE)
    flat = FlatParameters(model)
    optimizer = build_optimizer(config.optimizer, [flat.whole])
    precision = torch.bfloat16 if config.trainer.precision == "bf16" else torch.float32
    split = split.to(DEVICE)
    options = StepOptions(precision, build_objective(config.trainer, None))
    batch: BatchStep = FusedBatch(model, flat, optimizer, split, options)
    if kind is CudaBatch:
        triton_rule = optimizer_parts()[config.optimizer.name].triton_rule
        rule = None if triton_rule is None else triton_rule(config.optimizer)
        batch = CudaBatch(model, flat, optimizer, split, options, rule)
    step = Steps(batch, split, 64)
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    return torch.cat([step(rows), step(rows)]).cpu(), model.state_dict()


def assert_equal(split: Split, *words: str, tolerance: float = 1e-5) -> None:
    (plain, before), (figures, after) = (trained(kind, split, *words) for kind in (FusedBatch, CudaBatch))
    assert (plain - figures)[:, 0].abs().max() <= tolerance
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=tolerance, rtol=1e-3)
    assert figures[-1, 0] < figures[0, 0], "something must have been learnt"


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dropout", [pytest.param("0", marks=[pytest.mark.slow] * (DEVICE.type == "cpu")), "0.4"])
def test_the_kernels_give_what_torch_gives_for_every_activation(activation: str, dropout: str) -> None:
    """With dropout too where chance is a CPU's: one line of random words is cut alike."""
    if DEVICE.type == "cuda" and dropout != "0":
        pytest.skip("no CPU generator on a CUDA device")
    assert_equal(make_split(130), f"model.activation={activation}", f"model.dropout={dropout}")


@pytest.mark.parametrize("hidden", ["[]", "[7]", "[33,5,9]"])
def test_the_kernels_fit_every_depth(hidden: str) -> None:
    assert_equal(make_split(130), f"model.hidden={hidden}", "model.dropout=0")


@pytest.mark.parametrize(
    "words",
    [
        ("optimizer=adam", "optimizer.weight_decay=0.1"),
        ("optimizer=adamw", "optimizer.beta1=0"),
        ("optimizer=sgd", "optimizer.lr=0.1"),
        ("optimizer.weight_decay=0.1",),
        ("trainer.label_smoothing=0.1",),
        ("trainer.adversarial=0.2",),
        ("model.input_noise=0.1",),
    ],
    ids=lambda words: words[0],
)
def test_the_kernels_fit_every_part(words: tuple[str, ...]) -> None:
    if DEVICE.type == "cuda" and "noise" in words[0]:
        pytest.skip("no CPU generator on a CUDA device")
    assert_equal(make_split(130), "model.dropout=0", *words)


def test_bf16_products_stay_near_fp32() -> None:
    split = make_split(130)
    words = ("model.dropout=0", "optimizer=sgd", "model.activation=gelu")
    exact, _ = trained(FusedBatch, split, *words)
    figures, weights = trained(CudaBatch, split, "trainer.precision=bf16", *words)
    furthest = 0.02 if DEVICE.type == "cuda" else 0.1  # the interpreter cuts a number where a GPU rounds it
    assert 0 < (figures - exact)[:, 0].abs().max() < furthest
    assert all(value.dtype == torch.float32 for value in weights.values())


def test_floats_are_taken_too() -> None:
    split = make_split(130)
    floats = Split(split.images.flatten(1).float() / 255, split.labels)
    expected, _ = trained(CudaBatch, split, "model.dropout=0")
    figures, _ = trained(CudaBatch, floats, "model.dropout=0")
    torch.testing.assert_close(figures, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(name for name, part in optimizer_parts().items() if part.triton_rule))
def test_an_update_reads_its_rate_from_the_device(name: str) -> None:
    config = make_config(f"optimizer={name}", "optimizer.weight_decay=0.1").optimizer
    triton_rule = optimizer_parts()[name].triton_rule
    assert triton_rule is not None
    results = []
    for rule in (None, triton_rule(config)):
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 3000).to(DEVICE))
        weights.grad = torch.linspace(1, -2, 3000).to(DEVICE)
        optimizer = build_optimizer(config, [weights], capturable=DEVICE.type == "cuda")
        set_rate(optimizer, torch.tensor(0.003).to(DEVICE))
        with torch.no_grad():
            for _ in range(3):
                optimizer.step() if rule is None else apply_rule(optimizer, rule)
        results.append(weights.detach())
    torch.testing.assert_close(results[0], results[1])
    assert (results[0] - torch.linspace(-1, 1, 3000).to(DEVICE)).abs().max() > 0.001


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_nan_goes_through_every_kernel() -> None:
    from mnist_ff.engine import triton_kernels as cuda_kernels

    for activation in ACTIVATIONS:
        z = torch.full((4, 3), float("nan"), device=DEVICE)
        cuda_kernels.hidden(z, z, torch.zeros(3, device=DEVICE), None, 1.0, 0, activation)
        assert bool(z.isnan().all()), activation
        delta = torch.full_like(z, float("nan"))
        cuda_kernels.through(delta, torch.ones_like(z), torch.ones_like(z), None, 1.0, 0, activation)
        assert bool(delta.isnan().all()), activation
    labels, logs = torch.zeros(4, dtype=torch.int64, device=DEVICE), torch.zeros(4, 3, device=DEVICE)
    cuda_kernels.cross_entropy(z, torch.zeros(3, device=DEVICE), labels, logs, delta.zero_(), 1.0, 1.0)
    assert bool(logs.isnan().all())
    assert bool(delta.isnan().all())


def test_a_graph_of_the_kernels_trains_as_they_do_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GraphSteps, "TOGETHER", 2)
    split, results = make_split(300).to(DEVICE), []
    words = [
        "model.hidden=[8,4]",
        "trainer.batch_size=64",
        "model.input_dropout=0.2",
        "optimizer=adam",
        "trainer.ema=0.9",
    ]
    config = make_config(*words, "trainer.clip_norm=1", "trainer.confidence_penalty=0.1")
    for graph in (False, True):
        model = build_model(config.model, 0, DEVICE)
        flat, updates = FlatParameters(model), Updates(model, config.trainer)
        optimizer = build_optimizer(config.optimizer, [flat.whole], capturable=DEVICE.type == "cuda")
        options = StepOptions(objective=build_objective(config.trainer, None), updates=updates)
        batch = CudaBatch(model, flat, optimizer, split, options)
        assert model.dropout.rng is not None
        step: Step = Steps(batch, split, 64)
        if graph:
            tensors = lambda f=flat, o=optimizer, u=updates: training_state([f.whole, *u.tensors()], o)  # noqa: E731
            capture = capture_cuda if DEVICE.type == "cuda" else lambda one, _: one
            step = GraphSteps(batch, split, 64, GraphState(tensors, [model.dropout.rng]), capture)
        rows = torch.arange(300, device=DEVICE)
        results.append(
            (torch.cat([step(rows), step(rows[:64]), step(rows)]), flat.whole.detach(), updates.tensors()[0])
        )
    for plain, graphed in zip(*results, strict=True):
        assert torch.equal(plain, graphed)


def test_without_kernels_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE.type == "cpu":  # the kernels are interpreted, but there is no device to put them on
        reason = why_no_kernels.__wrapped__()
        assert reason
        assert "\n" not in reason
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_no_kernels.__wrapped__() == "triton is not installed"

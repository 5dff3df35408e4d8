"""The step of a CUDA graph without a GPU: Triton's interpreter runs the kernels, the streams are one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnist_ff.data.load import Split
from mnist_ff.engine import triton_ops
from mnist_ff.engine.build import training_state
from mnist_ff.engine.fused import FusedBatch
from mnist_ff.engine.graph import GraphState, GraphSteps, capture_cuda
from mnist_ff.engine.ops import Ops, TorchOps
from mnist_ff.engine.step import Step, StepOptions, Steps
from mnist_ff.engine.triton_ops import TritonOps, why_no_kernels
from mnist_ff.engine.workspace import FlatParameters
from mnist_ff.models.activations import ACTIVATIONS
from mnist_ff.models.build import build_model
from mnist_ff.optim.base import apply_rule
from mnist_ff.optim.objective import build_objective
from mnist_ff.optim.optimizers import build_optimizer, optimizer_parts, set_rate
from mnist_ff.optim.weight_updates import Updates
from mnist_ff.runs.records import DataSpec
from tests.support.configs import make_config
from tests.support.mnist import make_split, random_split

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
        monkeypatch.setattr(triton_ops, "SideStream", Line)


def trained(kernels: bool, split: Split, *words: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The figures of two epochs, and the weights after them."""
    config = make_config("trainer.batch_size=64", "model.hidden=[8,4]", *words)
    spec = DataSpec(tuple(split.images.shape[1:]), tuple(map(str, range(split.classes))))
    model = build_model(config.model, 0, DEVICE, spec)
    flat = FlatParameters(model)
    optimizer = build_optimizer(config.optimizer, [flat.whole])
    precision = torch.bfloat16 if config.trainer.precision == "bf16" else torch.float32
    split = split.to(DEVICE)
    options = StepOptions(precision, build_objective(config.trainer, None, spec.shape))
    ops: Ops = TorchOps(model, optimizer, options)
    if kernels:
        triton_rule = optimizer_parts()[config.optimizer.name].triton_rule
        ops = TritonOps(model, optimizer, options, None if triton_rule is None else triton_rule(config.optimizer))
    step = Steps(FusedBatch(model, flat, ops, split, options), split, 64)
    rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    return torch.cat([step(rows), step(rows)]).cpu(), model.state_dict()


@pytest.mark.parametrize("classes", [2, 3, 26, 1000])
def test_the_kernels_fit_every_number_of_classes(classes: int) -> None:
    assert_equal(random_split((6, 5), classes, 130), "model.dropout=0", "optimizer.lr=0.01")


@pytest.mark.parametrize("shape", [(1, 1), (3, 20, 33)])
def test_the_kernels_fit_every_size_of_image(shape: tuple[int, ...]) -> None:
    """1,980 pixels are more than one block of the kernel that gathers them."""
    assert_equal(random_split(shape, 3, 130), "model.dropout=0")


def assert_equal(split: Split, *words: str, tolerance: float = 1e-5) -> None:
    (plain, before), (figures, after) = (trained(kernels, split, *words) for kernels in (False, True))
    assert (plain - figures)[:, 0].abs().max() <= tolerance
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=tolerance, rtol=1e-3)
    assert figures[-1, 0] < figures[0, 0], "something must have been learnt"


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dropout", [pytest.param("0", marks=[pytest.mark.slow] * (DEVICE.type == "cpu")), "0.4"])
def test_kernels_equal_torch_for_every_activation(activation: str, dropout: str) -> None:
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
    exact, _ = trained(False, split, *words)
    figures, weights = trained(True, split, "trainer.precision=bf16", *words)
    furthest = 0.02 if DEVICE.type == "cuda" else 0.1  # the interpreter cuts a number where a GPU rounds it
    assert 0 < (figures - exact)[:, 0].abs().max() < furthest
    assert all(value.dtype == torch.float32 for value in weights.values())


def test_floats_are_taken_too() -> None:
    split = make_split(130)
    floats = Split(split.images.flatten(1).float() / 255, split.labels)
    expected, _ = trained(True, split, "model.dropout=0")
    figures, _ = trained(True, floats, "model.dropout=0")
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
    from mnist_ff.engine import triton_kernels

    for activation in ACTIVATIONS.values():
        layer = layer_of(torch.full((4, 3), math.nan, device=DEVICE))
        triton_kernels.hidden(layer, None, 0, activation)
        assert bool(layer.act.isnan().all()), activation.name
        layer = layer_of(torch.ones(4, 3, device=DEVICE))
        layer.grad.fill_(math.nan)
        triton_kernels.act_backward(layer, None, 1.0, 0, activation)
        assert bool(layer.grad.isnan().all()), activation.name
    labels, log_probs = torch.zeros(4, dtype=torch.int64, device=DEVICE), torch.zeros(4, 3, device=DEVICE)
    layer = layer_of(torch.full((4, 3), math.nan, device=DEVICE))
    triton_kernels.cross_entropy(layer, labels, log_probs, 1.0)
    assert bool(log_probs.isnan().all())
    assert bool(layer.grad.isnan().all())


def layer_of(z: torch.Tensor) -> Any:
    """A layer's tensors, as far as the kernels ask for them."""
    bias, grad = torch.zeros(z.shape[1], device=z.device), torch.zeros_like(z)
    return SimpleNamespace(pre_act=z, act=z, bias=bias, grad=grad, scale=1.0)


@pytest.mark.slow
def test_graph_of_kernels_equals_single_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
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
        options = StepOptions(objective=build_objective(config.trainer, None, (28, 28)), updates=updates)
        batch = FusedBatch(model, flat, TritonOps(model, optimizer, options), split, options)
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


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mnist_ff.engine import triton_kernels as kernels
from mnist_ff.models.activations import ACTIVATIONS

def compiled(kernel, types, constants):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]

types = {name: "*fp32" for name in ("grad", "pre_act", "act", "bias")}
types |= {"draws": "*i16", "scale": "fp32", "threshold": "i32", "units": "i32", "count": "i32"}
for row in ACTIVATIONS.values():
    forward, slope = kernels._forms(row)
    constants = {"DROPS": True, "BLOCK": 1024}
    assert compiled(kernels._hidden, types, constants | {"FORWARD": forward, "KEEPS_INPUT": row.needs_input})
    assert compiled(kernels._act_backward, types, constants | {"SLOPE": slope})

types |= {name: "*fp32" for name in ("logits", "log_probs", "inputs")} | {"labels": "*i64", "rows": "i32"}
types |= {"share": "fp32", "classes": "i32", "width": "i32", "images": "*u8"}
for columns, rows in ((2, 8), (16, 8), (1024, 4)):
    assert compiled(kernels._loss, types, {"ROWS": rows, "COLUMNS": columns})
assert compiled(kernels._gather, types | {"rows": "*i64"}, {"BLOCK": 1024})
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """The interpreter takes Python that Triton's compiler refuses."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", COMPILE], env={**environment, "TRITON_CACHE_DIR": str(tmp_path)}, check=True)

"""Every activation has all its forms, and they agree; a new one needs a row and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mnist_ff.engine.build import StepParts, build_step
from mnist_ff.errors import ConfigError
from mnist_ff.models import activations
from mnist_ff.models.activations import ACTIVATIONS, Activation, register
from mnist_ff.models.build import build_model
from mnist_ff.models.onnx_graph import build_graph
from mnist_ff.report import page
from tests.support.configs import make_config
from tests.support.mnist import make_split
from tests.support.steps import CPU, assert_close

Z = torch.linspace(-4, 4, 801, dtype=torch.float64).view(3, 267)


def _softsign_triton(z):
    return z / (1 + tl.abs(z))  # noqa: F821 (Triton's language is put here before it compiles this)


def _softsign_slope(z, y):
    return (1 - tl.abs(y)) * (1 - tl.abs(y))  # noqa: F821


def _softsign_forward(z: torch.Tensor, out: torch.Tensor) -> None:
    torch.div(z, 1 + z.abs(), out=out)


def _softsign_backward(grad: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
    grad.mul_((1 - y.abs()).square_())


SOFTSIGN = Activation(
    "softsign",
    function=F.softsign,
    forward=_softsign_forward,
    backward=_softsign_backward,
    triton_forward=_softsign_triton,
    triton_slope=_softsign_slope,
    onnx=(("Softsign", "z", "out"),),
    javascript="(x) => x / (1 + Math.abs(x))",
    javascript_slope="(x) => (1 + Math.abs(x)) ** -2",
)


@pytest.fixture
def _softsign() -> Iterator[None]:
    register(SOFTSIGN)
    yield
    del activations._rows["softsign"]


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_every_row_is_complete(row: Activation) -> None:
    assert all(getattr(row, field.name) is not None for field in fields(row))
    assert ACTIVATIONS[row.name] is row
    assert row.onnx[-1][2] == "out"
    known = {"z", *row.onnx_constants}
    for _, inputs, output in row.onnx:
        assert known.issuperset(inputs.split())
        known.add(output)


@pytest.mark.parametrize("row", [*ACTIVATIONS.values(), SOFTSIGN], ids=[*ACTIVATIONS, "softsign"])
def test_in_place_forms_are_the_functions(row: Activation) -> None:
    z = Z.clone().requires_grad_()
    y = row.function(z)
    y.sum().backward()  # type: ignore[no-untyped-call]
    work = Z.clone()
    out = torch.empty_like(work) if row.needs_input else work
    row.forward(work, out)
    torch.testing.assert_close(out, y.detach())
    grad = torch.ones_like(Z)
    row.backward(grad, work, out)
    assert z.grad is not None
    torch.testing.assert_close(grad, z.grad)
    assert not row.masks_itself or bool((grad[out == 0] == 0).all())


@pytest.mark.parametrize("row", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_onnx_nodes_are_the_function(row: Activation) -> None:
    reference = pytest.importorskip("onnx.reference")
    eye, zeros = np.eye(784, dtype=np.float32), np.zeros(784, dtype=np.float32)
    graph = build_graph([(eye, zeros), (eye[:10], zeros[:10])], row.name, False, {})
    images = Z.float().numpy()[:, :1].repeat(784, axis=1)
    (found,) = reference.ReferenceEvaluator(graph).run(None, {"images": images})
    np.testing.assert_allclose(found, row.function(torch.from_numpy(images[:, :10])).numpy(), atol=1e-6)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ConfigError, match="relu: registered twice"):
        register(ACTIVATIONS["relu"])


def test_the_table_needs_no_torch() -> None:
    code = "import sys, mnist_ff.models.activations; assert not {'torch', 'triton'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("_softsign")
def test_a_new_activation_trains_in_every_engine() -> None:
    words = ["model.hidden=[32,16]", "trainer.batch_size=64", "model.activation=softsign"]
    config, split, results = make_config(*words), make_split(600), []
    for engine in ("eager", "fused"):
        model = build_model(config.model, 0, CPU)
        step, _ = build_step(StepParts(model, config.optimizer, replace(config.trainer, engine=engine), split))
        results.append((torch.cat([step(torch.arange(600)) for _ in range(2)]), model))
    assert_close(results, tolerance=1e-5)


@pytest.mark.usefixtures("_softsign")
def test_a_new_activation_is_in_report_pages() -> None:
    assert "softsign: (x) => x / (1 + Math.abs(x))" in page._asset("network.js")

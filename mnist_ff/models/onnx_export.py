"""Export any network as an ONNX graph by torch.onnx.export(). Needs the extra onnx."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from mnist_ff.errors import RunError, first_line
from mnist_ff.models.onnx_graph import INPUT, output_name

if TYPE_CHECKING:
    from onnx import ModelProto

EXPORTED_OPSET = 18
"""The lowest opset that torch's exporter writes. ONNX Runtime 1.14 (2023) and later read it."""


class _Outputs(nn.Module):
    """A network with logits or probabilities in float32. Images are reshaped to `shape` before, unless it is None."""

    def __init__(self, network: nn.Module, softmax: bool, shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.network, self.softmax, self.shape = network, softmax, shape

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.shape is not None:
            images = images.reshape(images.shape[0], *self.shape)
        logits: torch.Tensor = self.network(images).float()
        return logits.softmax(1) if self.softmax else logits


def exported_graph(
    network: nn.Module,
    shape: tuple[int, ...],
    softmax: bool,
    facts: Mapping[str, str],
    own_shape: tuple[int, ...] | None = None,
) -> ModelProto:
    """A graph from images (B, *shape) float32 in [0, 1] to logits or probabilities (B, classes), for any B.

    facts: metadata of the model. own_shape: the shape of images that the network takes, if it is not `shape`.
    Errors: RunError for a network that torch cannot export.
    """
    from onnx import helper

    outputs = _Outputs(network, softmax, None if own_shape == shape else own_shape).train(False)
    try:
        with _silent():
            program = torch.onnx.export(
                outputs,
                (torch.zeros(2, *shape),),
                input_names=[INPUT],
                output_names=[output_name(softmax)],
                opset_version=EXPORTED_OPSET,
                dynamic_shapes=({0: torch.export.Dim("B", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # it may be of any kind
        reason = error if error.__cause__ is None else error.__cause__
        raise RunError(
            f"torch.onnx.export cannot export this model ({type(reason).__name__}: {first_line(reason)}); "
            "--format safetensors and torch can"
        ) from None
    assert program is not None
    model: ModelProto = program.model_proto
    for node in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        del node.metadata_props[:]  # paths and lines of the user's files
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]
    model.producer_name = "mnist-ff"
    helper.set_model_props(model, dict(facts))
    return model


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress the exporter's output and warnings. Its errors are reported, and the result is verified later."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        quiet = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""Export a run's network to safetensors, ONNX or torch, and verify the file by reading it back."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mnist_ff.analysis.console import note, tell, tell_json, warning
from mnist_ff.commands.evaluate import add_data_path, check_fits, data_of, with_data_path
from mnist_ff.config.convert import config_to_dict, flat
from mnist_ff.config.paths import argument, display_path, path_argument
from mnist_ff.config.schema import Config
from mnist_ff.data.cache import METADATA_KEY
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import replacing
from mnist_ff.models.onnx_graph import INPUT, build_graph, output_name
from mnist_ff.models.parts.mlp import mlp_keys
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import is_sweep
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.runs.torch_import import importing_torch

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto
    from torch import nn

EXPORT_SUFFIXES = {"safetensors": "safetensors", "onnx": "onnx", "torch": "pt"}
CHECKED_IMAGES = 1_000
"""Test images on which an ONNX file is compared with the model."""
TOLERANCE = 1e-4
"""Largest absolute difference of an output that is accepted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("run", type=argument, metavar="RUN", help="run directory or name, or last, best")
    parser.add_argument("--format", choices=list(EXPORT_SUFFIXES), required=True, help="file format")
    parser.add_argument(
        "--out", type=path_argument, metavar="FILE", help="output file (default: the run's name, in this folder)"
    )
    add_data_path(parser)
    parser.add_argument("--softmax", action="store_true", help="with onnx: output probabilities, not logits")
    parser.add_argument(
        "--shape",
        choices=("flat", "image"),
        help="with onnx: take rows of pixels (B, 784) or images (B, 1, 28, 28) "
        "(default: flat; a model of your own: the data's shape)",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Write the file and print its content. Errors: ConfigError, BadRunError, DataError; RunError if the file differs
    from the model, in which case it is deleted."""
    if arguments.softmax and arguments.format != "onnx":
        raise ConfigError(f"--softmax: needs --format onnx; a {arguments.format} file holds only weights")
    if arguments.shape is not None and arguments.format != "onnx":
        raise ConfigError(f"--shape: needs --format onnx; a {arguments.format} file holds only weights")
    if arguments.format == "onnx":
        _check_installed()
    run = Run.open(resolve_run(arguments.run, note))
    config = run.config()
    check_parts(run, config, warning)
    config = with_data_path(run, config, arguments.data_path)
    out: Path = arguments.out or Path(f"{_name(run.path.resolve())}.{EXPORT_SUFFIXES[arguments.format]}")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out}: already exists; choose another file with --out, or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: folder {out.parent} does not exist")
    with importing_torch("export"):
        from mnist_ff.engine.device import prepared
        from mnist_ff.training.trained_model import check_ended_well, load_model
    check_ended_well(run)
    trainer = dataclasses.replace(config.trainer, device="cpu", precision="fp32")
    with prepared(trainer, config.seed or 0) as device:
        network = _Network(load_model(run, config, device), config, run.data_spec(), run, arguments.shape)
        network.check_shape()
        export = _exporter(arguments.format, arguments.softmax)
        try:
            with replacing(out) as temporary:
                said, values = export(network, temporary)
        except _DiffersError as error:
            raise RunError(f"{out}: {error}; the file was deleted") from None
        except OSError as error:
            raise RunError(f"{out}: {error.strerror}") from None
    if arguments.json:
        written = {"run": str(run.path), "file": str(out), "format": arguments.format, "bytes": out.stat().st_size}
        tell_json({**written, **values})
    else:
        tell(console, f"{display_path(out)}: {said}")
    return 0


def _name(path: Path) -> str:
    """A name for the file: the run directory's, with the sweep's name in front for a job."""
    return f"{path.parent.name}-{path.name}" if is_sweep(path.parent) else path.name


class _DiffersError(Exception):
    """The file read back differs from the model; the message says how."""


@dataclass(frozen=True)
class _Network:
    """The network to export, and its description for the file."""

    model: nn.Module
    config: Config
    spec: DataSpec
    run: Run
    layout: str | None = None
    """The value of --shape: flat, image or None."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The input shape of one image in the file. Without --shape, the built-in network takes rows of pixels."""
        if self.layout == "image":
            return (1, *self.spec.shape) if len(self.spec.shape) == 2 else self.spec.shape
        return (self.spec.inputs,) if self.layout == "flat" or self.is_built_in else self.spec.shape

    @property
    def is_built_in(self) -> bool:
        """Whether it is the built-in network, and not the user's."""
        from mnist_ff.models.mlp import MLP

        return type(self.model) is MLP

    def check_shape(self) -> None:
        """Errors: ConfigError for --shape image if the data are not images."""
        if self.layout == "image" and not self.spec.is_image:
            raise ConfigError(
                f"--shape image: this run's data are {' x '.join(map(str, self.spec.shape))} numbers, not images"
            )

    @property
    def architecture(self) -> dict[str, Any]:
        """How to build the network again: the arguments of `MLP`, or the keys of the user's model."""
        if not self.is_built_in:
            return {"model": flat(config_to_dict(self.config)["model"])}
        keys = mlp_keys(self.config.model)
        found = {"hidden": list(keys.hidden), "activation": keys.activation, "dropout": keys.dropout}
        if (self.spec.inputs, len(self.spec.classes)) != (MNIST_SPEC.inputs, len(MNIST_SPEC.classes)):
            found |= {"inputs": self.spec.inputs, "classes": len(self.spec.classes)}
        return found

    @property
    def inputs(self) -> str:
        """The shape of a batch of images, as text: "(B, 784)"."""
        return f"({', '.join(['B', *map(str, self.shape)])})"

    @property
    def outputs(self) -> str:
        """The shape of the logits, as text: "(B, 10)"."""
        return f"(B, {len(self.spec.classes)})"

    def facts(self, output: str = "logits") -> dict[str, Any]:
        """Metadata for the file: how to build the network again, and where it comes from."""
        pixels = "pixels / 255, row by row" if len(self.shape) == 1 else "pixels / 255"
        found: dict[str, Any] = {
            "architecture": self.architecture,
            "input": f"{self.inputs} float32: {pixels}, ink 1",
            "input_shape": ["B", *self.shape],
            "output": f"{self.outputs} {output}",
            "data": self.config.data.name,
            "seed": self.config.seed,
            "version": version("mnist-ff"),
        }
        if self.spec != MNIST_SPEC:
            found["input"] = f"{self.inputs} float32: {pixels}"
            found |= {"shape": list(self.spec.shape), "classes": list(self.spec.classes)}
        return found

    def rebuilt(self, architecture: Mapping[str, Any]) -> nn.Module:
        """A fresh network of this architecture."""
        import torch

        from mnist_ff.models.build import build_model
        from mnist_ff.models.mlp import MLP

        if self.is_built_in:
            return MLP(**architecture)
        return build_model(self.config.model, 0, torch.device("cpu"), self.spec)

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the state_dict. safetensors refuses tensors that share memory, such as tied weights."""
        return {name: weight.clone().contiguous() for name, weight in self.model.state_dict().items()}

    def answers(self, images: torch.Tensor, softmax: bool = False) -> torch.Tensor:
        """Logits or probabilities (N, classes) float32 for images (N, *shape)."""
        import torch

        from mnist_ff.engine.chance import aside

        if not self.is_built_in:
            images = images.reshape(-1, *self.spec.shape)
        with torch.inference_mode(), aside(self.model, images.device):
            logits: torch.Tensor = self.model(images).float()
        return logits.softmax(1) if softmax else logits


Export = Callable[[_Network, Path], tuple[str, dict[str, Any]]]
"""A function that writes the network to a path and verifies it. Returns a description as text and as JSON values."""


def _exporter(form: str, softmax: bool) -> Export:
    if form == "onnx":
        return lambda network, path: _export_onnx(network, path, softmax)
    return {"safetensors": _export_safetensors, "torch": _export_torch}[form]


def _export_safetensors(network: _Network, path: Path) -> tuple[str, dict[str, Any]]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_file(network.weights(), path, metadata={"format": "pt", METADATA_KEY: json.dumps(network.facts())})
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    _check_rebuilt(network, facts["architecture"], weights)
    count = _count(weights)
    return f"{count:,} weights and the architecture in its header, under {METADATA_KEY}", {"weights": count}


def _export_torch(network: _Network, path: Path) -> tuple[str, dict[str, Any]]:
    import torch

    torch.save({"state_dict": network.model.state_dict(), **network.facts()}, path)
    saved = torch.load(path, weights_only=True)
    _check_rebuilt(network, saved["architecture"], saved["state_dict"])
    count = _count(saved["state_dict"])
    said = f"{count:,} weights as state_dict and the architecture, for torch.load(..., weights_only=True)"
    return said, {"weights": count}


def _count(weights: Mapping[str, torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights.values())


def _check_rebuilt(network: _Network, architecture: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """Check that the network built from the file's content equals the model. Errors: _DiffersError."""
    import torch

    built = network.rebuilt(architecture).train(False)
    try:
        built.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise _DiffersError(f"does not fit its own architecture ({str(error).splitlines()[0]})") from None
    images = torch.rand(8, *network.shape, generator=torch.Generator().manual_seed(0))
    same = torch.equal(dataclasses.replace(network, model=built).answers(images), network.answers(images))
    own = network.model.state_dict()
    if not same or any(not torch.equal(weights[name], weight) for name, weight in own.items()):
        raise _DiffersError("the file read back differs from the model")


def _check_installed() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--format onnx: needs {' and '.join(missing)}: pip install 'mnist-ff[onnx]'")


def _check_exporter() -> None:
    """Check for the package that torch's ONNX exporter needs. Errors: ConfigError."""
    if importlib.util.find_spec("onnxscript") is None:
        raise ConfigError("--format onnx: this model needs onnxscript: pip install 'mnist-ff[onnx]'")


def _export_onnx(network: _Network, path: Path, softmax: bool) -> tuple[str, dict[str, Any]]:
    import onnx

    from mnist_ff.data.load import as_input, load_data

    graph = _graph(network, softmax)
    onnx.save(graph, os.fspath(path))
    data = load_data(data_of(network.config.data), network.config.seed or 0)
    check_fits(network.run, data)
    images = as_input(data.test.images[:CHECKED_IMAGES])
    distance = _check_predictions(network, path, images.reshape(-1, *network.shape), softmax)
    opset = next(used.version for used in graph.opset_import if not used.domain)
    output = output_name(softmax)
    said = (
        f"ONNX, opset {opset}, {INPUT} {network.inputs} float32 in [0, 1] to {output} {network.outputs}; "
        f"largest difference to the model on {len(images):,} test images: {distance:.1g}"
    )
    values = {"opset": opset, "input": INPUT, "input_shape": [None, *network.shape], "output": output}
    values |= {"output_shape": [None, len(network.spec.classes)]}
    return said, {**values, "checked_images": len(images), "largest_difference": distance}


def _graph(network: _Network, softmax: bool) -> ModelProto:
    """The ONNX graph: of the built-in network built node by node, of others by torch's exporter.

    Errors: ConfigError, RunError.
    """
    from mnist_ff.models.mlp import MLP

    facts = {METADATA_KEY: json.dumps(network.facts(output_name(softmax)))}
    if type(network.model) is not MLP:
        from mnist_ff.models.onnx_export import exported_graph

        _check_exporter()
        return exported_graph(network.model, network.shape, softmax, facts, network.spec.shape)
    weights = {name: weight.numpy() for name, weight in network.model.state_dict().items()}
    numbers = range(len(network.model.layers))
    layers = [(weights[f"layers.{number}.weight"], weights[f"layers.{number}.bias"]) for number in numbers]
    return build_graph(layers, mlp_keys(network.config.model).activation, softmax, facts, network.shape)


def _check_predictions(network: _Network, path: Path, images: torch.Tensor, softmax: bool) -> float:
    """The largest difference between the file's and the model's outputs, for a batch and for a single image.

    Errors: _DiffersError if it is above TOLERANCE or a prediction differs.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    expected = network.answers(images, softmax)
    found = torch.from_numpy(session.run([output_name(softmax)], {INPUT: images.numpy()})[0])
    alone = torch.from_numpy(session.run([output_name(softmax)], {INPUT: images[:1].numpy()})[0])
    distance = float(torch.maximum((found - expected).abs().max(), (alone - expected[:1]).abs().max()))
    others = int((found.argmax(1) != expected.argmax(1)).sum())
    if others or not distance <= TOLERANCE:  # also true for NaN
        raise _DiffersError(
            f"differs from the model by {distance:.1g} (at most {TOLERANCE:g} allowed), "
            f"and in {others} of {len(images):,} predictions"
        )
    return distance

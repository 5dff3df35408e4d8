"""Export a run's network to a file for other programs, verified by reading it back."""

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
from typing import Any

import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file

from mnist_ff.analysis.console import note, tell, warning
from mnist_ff.commands.evaluate import check_ended_well, check_fits, data_of
from mnist_ff.config.paths import argument, display_path, path_argument
from mnist_ff.config.schema import Config, ModelConfig
from mnist_ff.data.cache import METADATA_KEY
from mnist_ff.data.load import as_input, load_data
from mnist_ff.engine.device import prepared
from mnist_ff.errors import ConfigError, RunError
from mnist_ff.files import replacing
from mnist_ff.models.mlp import MLP
from mnist_ff.models.onnx_graph import INPUT, OPSET, build_graph, output_name
from mnist_ff.models.parts.mlp import mlp_keys
from mnist_ff.runs.directory import Run
from mnist_ff.runs.find import is_sweep
from mnist_ff.runs.parts import check_parts
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from mnist_ff.runs.resolve import resolve_run
from mnist_ff.training.checkpoint import load_model

EXPORT_SUFFIXES = {"safetensors": "safetensors", "onnx": "onnx", "torch": "pt"}
CHECKED_IMAGES = 1_000
"""Test images that an ONNX file must answer as the model does."""
TOLERANCE = 1e-4
"""Largest difference of an output."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's words."""
    parser.add_argument("run", type=argument, metavar="RUN", help="run directory, or last, best")
    parser.add_argument("--format", choices=list(EXPORT_SUFFIXES), required=True, help="file format")
    parser.add_argument(
        "--out", type=path_argument, metavar="FILE", help="output file (default: the run's name, in this folder)"
    )
    parser.add_argument("--softmax", action="store_true", help="with onnx: output probabilities, not logits")


def main(arguments: argparse.Namespace, console: Console) -> int:
    """Write the file and say what is in it. Errors: ConfigError, BadRunError, DataError; RunError when it fails its
    check, and then there is not a file."""
    if arguments.softmax and arguments.format != "onnx":
        raise ConfigError(f"--softmax: needs --format onnx; a {arguments.format} file holds only weights")
    if arguments.format == "onnx":
        _check_installed()
    run = Run.open(resolve_run(arguments.run, note))
    config = run.config()
    check_parts(run, config, warning)
    check_ended_well(run)
    out: Path = arguments.out or Path(f"{_name(run.path.resolve())}.{EXPORT_SUFFIXES[arguments.format]}")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out}: already exists; choose another file with --out, or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: folder {out.parent} does not exist")
    trainer = dataclasses.replace(config.trainer, device="cpu", precision="fp32")
    with prepared(trainer, config.seed or 0) as device:
        mlp_keys(config.model)
        model = load_model(run, config, device)
        assert isinstance(model, MLP)
        export = _exporter(arguments.format, arguments.softmax)
        try:
            with replacing(out) as temporary:
                said = export(model, Exported(run, config, run.data_spec()), temporary)
        except _OtherError as error:
            raise RunError(f"{out}: {error}; the file was deleted") from None
        except OSError as error:
            raise RunError(f"{out}: {error.strerror}") from None
    tell(console, f"{display_path(out)}: {said}")
    return 0


def _name(path: Path) -> str:
    """A run's name; a job's number says little without its sweep's."""
    return f"{path.parent.name}-{path.name}" if is_sweep(path.parent) else path.name


class _OtherError(Exception):
    """What was written is not the model: how it differs."""


@dataclass(frozen=True)
class Exported:
    """The run whose network is written."""

    run: Run
    config: Config
    spec: DataSpec


Export = Callable[[MLP, Exported, Path], str]
"""Write the model to a path, check what is there, and say what it holds."""


def _exporter(form: str, softmax: bool) -> Export:
    if form == "onnx":
        return lambda model, source, path: _export_onnx(model, source, path, softmax)
    return {"safetensors": _export_safetensors, "torch": _export_torch}[form]


def _architecture(config: ModelConfig, spec: DataSpec) -> dict[str, Any]:
    """The arguments of model.MLP."""
    keys = mlp_keys(config)
    sizes = {} if _same_sizes(spec) else {"inputs": spec.inputs, "classes": len(spec.classes)}
    return {"hidden": list(keys.hidden), "activation": keys.activation, "dropout": keys.dropout, **sizes}


def _same_sizes(spec: DataSpec) -> bool:
    """Whether MLP has this data's sizes by default."""
    return spec.inputs == MNIST_SPEC.inputs and len(spec.classes) == len(MNIST_SPEC.classes)


def _facts(config: Config, spec: DataSpec, output: str = "logits") -> dict[str, Any]:
    """What a file must say for its network to be built again and its images made, and where it comes from."""
    order = "row by row, ink 1" if spec == MNIST_SPEC else f"of shape {' x '.join(map(str, spec.shape))}, row by row"
    return {
        "architecture": _architecture(config.model, spec),
        "input": f"(B, {spec.inputs}) float32: pixels / 255, {order}",
        "output": f"(B, {len(spec.classes)}) {output}",
        **({} if spec == MNIST_SPEC else {"shape": list(spec.shape), "classes": list(spec.classes)}),
        "data": config.data.name,
        "seed": config.seed,
        "version": version("mnist-ff"),
    }


def _export_safetensors(model: MLP, source: Exported, path: Path) -> str:
    save_file(
        model.state_dict(),
        path,
        metadata={"format": "pt", METADATA_KEY: json.dumps(_facts(source.config, source.spec))},
    )
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    _check_rebuilt(model, facts["architecture"], weights)
    return f"{_count(model)} and the architecture in its header, under {METADATA_KEY}"


def _export_torch(model: MLP, source: Exported, path: Path) -> str:
    torch.save({"state_dict": model.state_dict(), **_facts(source.config, source.spec)}, path)
    saved = torch.load(path, weights_only=True)
    _check_rebuilt(model, saved["architecture"], saved["state_dict"])
    return f"{_count(model)} as state_dict and the architecture, for torch.load(..., weights_only=True)"


def _count(model: MLP) -> str:
    return f"{sum(weight.numel() for weight in model.state_dict().values()):,} weights"


def _check_rebuilt(model: MLP, architecture: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
    """See that a network built from what was read back is the model. Errors: _OtherError."""
    built = MLP(**architecture).train(False)
    try:
        built.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise _OtherError(f"does not fit its own architecture ({str(error).splitlines()[0]})") from None
    images = torch.rand(8, weights["layers.0.weight"].shape[1], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = torch.equal(built(images), model(images))
    if not same or any(not torch.equal(weights[name], weight) for name, weight in model.state_dict().items()):
        raise _OtherError("the file read back differs from the model")


def _check_installed() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--format onnx: needs {' and '.join(missing)}: pip install 'mnist-ff[onnx]'")


def _export_onnx(model: MLP, source: Exported, path: Path, softmax: bool) -> str:
    import onnx

    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    layers = [
        (weights[f"layers.{number}.weight"], weights[f"layers.{number}.bias"]) for number in range(len(model.layers))
    ]
    config, spec = source.config, source.spec
    facts = {METADATA_KEY: json.dumps(_facts(config, spec, output_name(softmax)))}
    graph = build_graph(layers, mlp_keys(config.model).activation, softmax, facts)
    onnx.save(graph, os.fspath(path))
    data = load_data(data_of(config.data), config.seed or 0)
    check_fits(source.run, data)
    images = as_input(data.test.images[:CHECKED_IMAGES]).flatten(1)
    distance = _check_predictions(model, path, images, softmax)
    return (
        f"ONNX, opset {OPSET}, {INPUT} (B, {spec.inputs}) float32 in [0, 1] to {output_name(softmax)} "
        f"(B, {len(spec.classes)}); "
        f"largest difference to the model on {len(images):,} test images: {distance:.1g}"
    )


def _check_predictions(model: MLP, path: Path, images: torch.Tensor, softmax: bool) -> float:
    """The largest difference between the file's and the model's outputs, for a batch and for a single image.

    Errors: _OtherError where it is above TOLERANCE or an answer differs.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = model(images)
        expected = expected.softmax(1) if softmax else expected
    found = torch.from_numpy(session.run([output_name(softmax)], {INPUT: images.numpy()})[0])
    alone = torch.from_numpy(session.run([output_name(softmax)], {INPUT: images[:1].numpy()})[0])
    distance = float(torch.maximum((found - expected).abs().max(), (alone - expected[:1]).abs().max()))
    others = int((found.argmax(1) != expected.argmax(1)).sum())
    if others or not distance <= TOLERANCE:  # a nan is not close either
        raise _OtherError(
            f"differs from the model by {distance:.1g} (at most {TOLERANCE:g} allowed), "
            f"and in {others} of {len(images):,} predictions"
        )
    return distance

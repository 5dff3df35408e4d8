"""Runs whose data or model Python gave: what their config says, and how to go on with them."""

from __future__ import annotations

from pathlib import Path

from mnist_ff.config.registry import GIVEN
from mnist_ff.config.schema import Config


def given_arguments(config: Config) -> list[str]:
    """The arguments of mnist_ff.train() that this config stands for: data, model, both or none."""
    return [argument for argument, name in GIVEN.items() if getattr(config, argument).name == name]


def python_call(path: Path, config: Config) -> str:
    """How to train such a run further."""
    arguments = "".join(f", {argument}=..." for argument in given_arguments(config))
    return f"mnist_ff.train(resume={str(path)!r}{arguments})"


def why_not_here(path: Path, config: Config) -> str:
    """What to say where a command needs what only Python has."""
    what = " and ".join(given_arguments(config))
    return (
        f"{path}: its {what} came from Python and must be given again there: {python_call(path, config)} trains it "
        f"further, safetensors.torch.load_file({str(path / 'model.safetensors')!r}) reads its weights"
    )

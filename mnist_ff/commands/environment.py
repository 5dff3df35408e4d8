"""The conditions of a run: all that its numbers depend on beyond the config."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mnist_ff.config import Config, MNIST5kConfig
from mnist_ff.cuda_step import why_no_kernels
from mnist_ff.data.cache import source_sums
from mnist_ff.data.catalog import cache_file
from mnist_ff.data.load import Data
from mnist_ff.device import cpu_name, describe
from mnist_ff.places import seal
from mnist_ff.reading import digest_of
from mnist_ff.runs import Run

PACKAGES = (
    "mnist-ff",
    "torch",
    "torchvision",
    "hydra-core",
    "omegaconf",
    "numpy",
    "safetensors",
    "matplotlib",
)


def environment(config: Config, data: Data, device: torch.device, engine: str, argv: list[str]) -> dict[str, Any]:
    """What environment.json holds."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": argv,
        "seed": config.seed,
        "device": str(device),
        "device_name": describe(device),
        "engine": engine,
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "mkl_cbwr": os.environ.get("MKL_CBWR"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "triton": _triton(device, engine),
        "git": git_state(Path(__file__).parent),
        "teacher": _weights_of(config.trainer.teacher),
        "data": {
            "name": data.name,
            "instead_of": data.instead_of,
            "sha256": {} if isinstance(config.data, MNIST5kConfig) else source_sums(cache_file(config.data)),
        },
        "places": seal(config),
    }


def _triton(device: torch.device, engine: str) -> str | None:
    """The version whose kernels are part of the step, if they are."""
    if device.type != "cuda" or engine == "eager" or why_no_kernels() is not None:
        return None
    import triton

    version: str = triton.__version__  # its distribution has other names on other systems
    return version


def _weights_of(teacher: str | None) -> dict[str, str] | None:
    """Which network taught: the SHA-256 of its weights' file."""
    if teacher is None:
        return None
    return {"run": teacher, "sha256": digest_of(Run(Path(teacher)).file("model.safetensors"))}


def git_state(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout that the package's `folder` is part of, and whether it was changed since, or None."""
    try:
        if not (Path(_git(folder, "rev-parse", "--show-toplevel")) / "mnist_ff").samefile(folder):
            return None  # a repository around an installed package says nothing about it
        sha = _git(folder, "rev-parse", "HEAD")
        dirty = bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"sha": sha, "dirty": dirty}


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()

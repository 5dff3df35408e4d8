"""environment.json: the conditions of a run beyond its config."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mnist_ff.config.own_parts import in_use
from mnist_ff.config.schema import Config, DownloadConfig
from mnist_ff.data.cache import source_sums
from mnist_ff.data.catalog import cache_file
from mnist_ff.data.load import Data
from mnist_ff.engine.device import cpu_name, describe
from mnist_ff.engine.spinning import in_force
from mnist_ff.engine.step import StepInfo
from mnist_ff.files import write_bytes
from mnist_ff.runs.directory import GIT_DIFF, Run
from mnist_ff.runs.places import seal
from mnist_ff.runs.reading import digest_of
from mnist_ff.runs.records import MNIST_SPEC
from mnist_ff.runs.repository import GitError, changes_in, package_state

log = logging.getLogger("mnist_ff")

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


def environment(config: Config, data: Data, device: torch.device, step: StepInfo, argv: list[str]) -> dict[str, Any]:
    """What environment.json holds."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": argv,
        "seed": config.seed,
        "device": str(device),
        "device_name": describe(device),
        "engine": step.engine,
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "mkl_cbwr": os.environ.get("MKL_CBWR"),
        "openmp": in_force(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda": torch.version.cuda,
        "versions": versions(),
        "triton": step.triton,
        "package": package(),
        "teacher": _weights_of(config.trainer.teacher),
        "data": {
            "name": data.name,
            "instead_of": data.instead_of,
            "sha256": source_sums(cache_file(config.data))
            if isinstance(config.data, DownloadConfig)
            else dict(data.facts.sums),
            **({} if data.spec == MNIST_SPEC else {"shape": list(data.spec.shape), "classes": list(data.spec.classes)}),
            **({} if data.validation is None else {"validation_images": len(data.validation)}),
        },
        "places": seal(config),
        **({"parts": [{"path": file.path, "sha256": file.sha256} for file in in_use()]} if in_use() else {}),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the installed packages. Cached for a sweep's jobs."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def package() -> dict[str, Any]:
    """The code that this process has imported, and so its state when the first run asks."""
    return {"version": importlib.metadata.version("mnist-ff"), **package_state(Path(__file__).parents[1])}


def _weights_of(teacher: str | None) -> dict[str, str] | None:
    """Which network taught: the SHA-256 of its weights' file."""
    if teacher is None:
        return None
    return {"run": teacher, "sha256": digest_of(Run(Path(teacher)).file("model.safetensors"))}


def git_state(run: Run, resumes: int = 0) -> dict[str, Any] | None:
    """The state of the working folder's repository, None where there is none; its changes go into the run's git.diff.

    A resume, the first is 1, has a file of its own. Errors: OSError when the disk is full.
    """
    try:
        found = changes_in(Path.cwd(), run.path)
    except (GitError, FileNotFoundError) as error:
        log.warning("no git state: %s", error)
        return None
    if found is None:
        return None
    name = GIT_DIFF if not resumes else f"git.{resumes}.diff"
    if found.diff:
        write_bytes(run.file(name), found.diff)
    if found.cut:
        log.warning("%s holds the first %s bytes of the changes", name, f"{len(found.diff):,}")
    return found.described(name)

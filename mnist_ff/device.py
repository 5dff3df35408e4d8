"""Where a run computes, and how many threads it may use."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mnist_ff.config import TrainerConfig
from mnist_ff.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device that a name means here; auto takes cuda, else mps, else cpu.

    Errors: ConfigError when this machine lacks the device.
    """
    if name == "auto":
        return torch.device(_best())
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"trainer.device={name}: torch sees no CUDA device here; use trainer.device={_best()}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"trainer.device={name}: there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"trainer.device=mps: torch sees no MPS device here; use trainer.device={_best()}")
    return device


@contextmanager
def prepared(config: TrainerConfig, seed: int) -> Iterator[torch.device]:
    """The run's device, with this process's threads, chance and small numbers set for it, and given back after.

    A module of the user's may draw from torch's own generator, so that is seeded too.
    """
    device = resolve_device(config.device)
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.set_num_threads(config.threads or threads)
        torch.set_flush_denormal(True)
        try:
            yield device
        finally:
            torch.set_flush_denormal(False)
            torch.set_num_threads(threads)


def describe(device: torch.device) -> str:
    """The hardware's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def cpu_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"

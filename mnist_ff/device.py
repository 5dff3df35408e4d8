"""Where a run computes, and how many threads it may use."""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path

import torch

from mnist_ff.config import TrainerConfig
from mnist_ff.errors import ConfigError

NAMES = "auto, cpu, cuda, cuda:N or mps"


def resolve_device(name: str) -> torch.device:
    """The device that a name means here; auto takes cuda, else mps, else cpu.

    Errors: ConfigError when the name means nothing or this machine lacks the device.
    """
    check_device_name(name)
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


def check_device_name(name: str) -> None:
    """Errors: ConfigError when `name` is no device name at all."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ConfigError(f"trainer.device={name}: must be {NAMES}")


def prepare(config: TrainerConfig) -> torch.device:
    """Set threads and small-number handling for this process, and return the run's device.

    A later job in the same process starts from the process's own thread count again.
    """
    torch.set_num_threads(config.threads or _own_threads())
    torch.set_flush_denormal(True)
    return resolve_device(config.device)


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


@functools.cache
def _own_threads() -> int:
    return torch.get_num_threads()


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"

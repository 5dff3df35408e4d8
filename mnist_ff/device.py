"""Where a run computes, and how many threads it may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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


def check_precision(precision: str, device: torch.device) -> None:
    """Errors: ConfigError when the device has no such products, saying which it has."""
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    have = {"cpu": ("fp32", "bf16"), "mps": ("fp32",)}.get(
        device.type, ("fp32", "bf16", "tf32") if modern else ("fp32",)
    )
    if precision not in have:
        raise ConfigError(f"trainer.precision={precision}: {describe(device)} has {', '.join(have)}")


@contextmanager
def prepared(config: TrainerConfig, seed: int) -> Iterator[torch.device]:
    """The run's device, with this process's threads, chance and small numbers set for it, and given back after.

    A module of the user's may draw from torch's own generator, so that is seeded too.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")  # read at MKL's first product: without it, equal runs may differ in a bit
    device = resolve_device(config.device)
    check_precision(config.precision, device)
    threads, cuda = torch.get_num_threads(), device.type == "cuda"
    current = torch.cuda.device(device) if cuda else nullcontext()  # streams and graphs are the current device's
    with current, torch.random.fork_rng(devices=[device] if cuda else []):
        torch.manual_seed(seed)
        torch.set_num_threads(config.threads or threads)
        torch.set_flush_denormal(True)
        deterministic = torch.are_deterministic_algorithms_enabled()
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it before its first use
        _use_deterministic(config.deterministic)
        tf32 = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = config.precision == "tf32"
        try:
            yield device
        finally:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            _use_deterministic(deterministic)
            torch.set_flush_denormal(False)
            torch.set_num_threads(threads)


def _use_deterministic(wanted: bool) -> None:
    if wanted != torch.are_deterministic_algorithms_enabled():  # even to set what is set, it imports a compiler for 1 s
        torch.use_deterministic_algorithms(wanted)


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

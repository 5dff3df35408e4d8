"""Set up device, precision and threads for a run."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from mnist_ff.config.paths import give_user_a_name
from mnist_ff.config.schema import TrainerConfig
from mnist_ff.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device of a name. auto means cuda if available, else mps, else cpu.

    Errors: ConfigError if this machine lacks the device.
    """
    if name == "auto":
        return torch.device(_best())
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"trainer.device={name}: PyTorch finds no CUDA device; use trainer.device={_best()}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"trainer.device={name}: there are {torch.cuda.device_count()} CUDA devices, starting with cuda:0"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"trainer.device=mps: PyTorch finds no MPS device; use trainer.device={_best()}")
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Check that the device supports this trainer.precision. Errors: ConfigError naming those that it supports."""
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    have = {"cpu": ("fp32", "bf16"), "mps": ("fp32",)}.get(
        device.type, ("fp32", "bf16", "tf32") if modern else ("fp32",)
    )
    if precision not in have:
        raise ConfigError(f"trainer.precision={precision}: {describe(device)} supports {', '.join(have)}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside the block torch has its default modes, whatever the caller has set. They are restored after it.

    These are gradients, inference mode, autocast, default device and dtype, and the state of torch's global generator.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # only if needed: it slows down all of torch's functions a little
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        yield


@contextmanager
def prepared(config: TrainerConfig, seed: int) -> Iterator[torch.device]:
    """Yields the run's device, and sets threads, seed, denormals and precision of this process until the block ends.

    torch's global generator is seeded, because a user's module may draw from it.
    """
    give_user_a_name()
    device = resolve_device(config.device)
    check_precision(config.precision, device)
    threads, cuda = torch.get_num_threads(), device.type == "cuda"
    with ExitStack() as stack:
        # MKL reads it at its first product: without it equal runs may differ in the last bit
        stack.enter_context(variable("MKL_CBWR", "AUTO"))
        if config.deterministic:  # cuBLAS needs it before its first use
            stack.enter_context(variable("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))
        if cuda:
            stack.enter_context(torch.cuda.device(device))  # streams and graphs belong to the current device
        stack.enter_context(torch.random.fork_rng(devices=[device] if cuda else []))
        torch.manual_seed(seed)
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(config.fixed_threads or threads)
        stack.callback(torch.set_flush_denormal, sys.float_info.min / 2 == 0)  # torch has no getter
        torch.set_flush_denormal(True)
        stack.enter_context(_deterministic(config.deterministic))
        stack.enter_context(_products(config.precision))
        yield device


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for the block, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Turn torch's deterministic algorithms on or off for the block."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    _use_deterministic(wanted, False)
    try:
        yield
    finally:
        _use_deterministic(*before)


def _use_deterministic(wanted: bool, warn_only: bool) -> None:
    now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if now != (wanted, warn_only):  # even without a change this call imports a compiler, which takes 1 s
        torch.use_deterministic_algorithms(wanted, warn_only=warn_only)


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Set the precision of float32 products, full or tf32, for the block. torch has an old and a new setting for it."""
    places = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    newer = [place.fp32_precision for place in places]
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch raises it if the new setting was used; then the old one is unchanged
        older = "highest"
    torch.set_float32_matmul_precision("highest")
    if precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        for place, value in zip(places, newer, strict=True):
            place.fp32_precision = value


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

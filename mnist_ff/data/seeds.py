"""Independent random streams from one seed."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str, *numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that is a function of (seed, purpose, numbers) alone, through numpy's SeedSequence."""
    entropy = [seed, zlib.crc32(purpose.encode()), *numbers]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state) & (2**63 - 1))


def row_order(seed: int, epoch: int, samples: int) -> torch.Tensor:
    """The order of the rows in one epoch: a permutation, (samples,) int64 on the CPU."""
    return torch.randperm(samples, generator=generator(seed, "rows", epoch))

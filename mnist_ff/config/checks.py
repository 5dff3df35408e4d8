"""Checks across keys, and of numbers against float32."""

from __future__ import annotations

import functools
import struct
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Union

from mnist_ff.config.constraints import Range
from mnist_ff.config.keys import bare_type, leaves
from mnist_ff.config.schema import Config, SGDConfig
from mnist_ff.errors import ConfigError

SMALLEST_FLOAT32, LARGEST_FLOAT32 = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""Sizes of the smallest and the largest normal float32. Smaller ones become 0, and dividing by that makes NaN."""


def check_float32(values: Mapping[str, Any]) -> None:
    """See that float32, in which training computes, holds the numbers of these dotted keys, each within its range.

    Old runs may have others, so this is for values that someone gives now. Errors: ConfigError naming the key.
    """
    ranges = _float_ranges()
    for key, value in values.items():
        for place, item in enumerate(value) if isinstance(value, list | tuple) else [(None, value)]:
            if isinstance(item, float) and key in ranges:
                _check_float32(key if place is None else f"{key}[{place}]", item, ranges[key])


def _check_float32(path: str, value: float, limits: Range) -> None:
    if value != 0 and not SMALLEST_FLOAT32 <= abs(value) <= LARGEST_FLOAT32:
        raise ConfigError(
            f"{path}={value}: cannot be represented in float32, which training uses; except for 0, the range is "
            f"{SMALLEST_FLOAT32:.4g} to {LARGEST_FLOAT32:.4g} in size"
        )
    (rounded,) = struct.unpack("f", struct.pack("f", value))
    if not limits.allows(rounded):
        raise ConfigError(f"{path}={value}: is {rounded:g} in float32, which training uses, but must be {limits}")


ANY = Range()


@functools.cache
def _float_ranges() -> dict[str, Range]:
    """The range of every dotted key that holds fractions; one without limits allows all numbers."""
    return {key: limits for key, hint in leaves(Config) if (limits := _float_range(hint)) is not None}


def _float_range(hint: Any, limits: Range = ANY) -> Range | None:
    """The range of the fractions that a hint means, be they in a list or absent; None where it means none."""
    if typing.get_origin(hint) is Annotated:
        limits = next((note for note in hint.__metadata__ if isinstance(note, Range)), limits)
    bare = bare_type(hint)
    if bare is float:
        return limits
    inner = typing.get_args(bare) if typing.get_origin(bare) in (Union, types.UnionType, tuple) else ()
    return next((found for option in inner if (found := _float_range(option, limits)) is not None), None)


def check_between_keys(config: Config) -> None:
    optimizer = config.optimizer
    if isinstance(optimizer, SGDConfig) and optimizer.nesterov and optimizer.momentum == 0:
        raise ConfigError("optimizer.nesterov=True: needs optimizer.momentum above 0, such as 0.9")
    trainer = config.trainer
    if trainer.teacher is None and (trainer.teacher_weight > 0 or trainer.temperature != 1):
        key = "teacher_weight" if trainer.teacher_weight > 0 else "temperature"
        raise ConfigError(f"trainer.{key}={getattr(trainer, key):g}: needs a teacher: trainer.teacher=RUN")
    if trainer.teacher is not None and trainer.teacher_weight == 0:
        raise ConfigError("trainer.teacher_weight=0: trainer.teacher would have no effect; set it above 0, such as 0.9")
    if trainer.evaluate_every > 1 and (trainer.patience is not None or trainer.keep_best):
        key = "patience" if trainer.patience is not None else "keep_best"
        raise ConfigError(f"trainer.evaluate_every={trainer.evaluate_every}: must be 1 with trainer.{key}")
    if trainer.checkpoint_epochs > 1 and trainer.keep_best:
        raise ConfigError(f"trainer.checkpoint_epochs={trainer.checkpoint_epochs}: must be 1 with trainer.keep_best")
    if trainer.min_delta > 0 and trainer.patience is None and not trainer.keep_best:
        raise ConfigError(
            f"trainer.min_delta={trainer.min_delta:g}: needs trainer.patience=EPOCHS or trainer.keep_best=true"
        )

"""A user's own callback: a dataclass that derives from mnist_ff.Callback."""

from __future__ import annotations

from typing import Any

from mnist_ff.config.registry import Part
from mnist_ff.errors import ConfigError
from mnist_ff.training.callbacks import Callback

PARAMETERS = None


def own_part(name: str, config: type[Any], target: type[Any]) -> Part:
    """The part of a user's class, an instance of which hears each run. Errors: ConfigError where it is no callback."""
    if not issubclass(target, Callback):
        raise ConfigError(f"class {target.__name__} must derive from mnist_ff.Callback")

    def build(keys: Any) -> Callback:
        made: Callback = target(**vars(keys))
        return made

    return Part("callback", name, config, build)

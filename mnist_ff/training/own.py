"""A user's own callback: a dataclass derived from mnist_ff.Callback."""

from __future__ import annotations

import inspect
from typing import Any

from mnist_ff.config.messages import nearest
from mnist_ff.config.registry import Part
from mnist_ff.errors import ConfigError
from mnist_ff.training.callbacks import Callback
from mnist_ff.training.chosen_callbacks import STOP_IS_A_METHOD

PARAMETERS = None


def own_part(name: str, config: type[Any], target: type[Any]) -> Part:
    """The part of a user's class, which is instantiated for each run. Errors: ConfigError if it is not a callback."""
    if not issubclass(target, Callback):
        raise ConfigError(f"class {target.__name__} must derive from mnist_ff.Callback")
    if not callable(inspect.getattr_static(target, "stop_training")) or "stop_training" in config.__annotations__:
        raise ConfigError(STOP_IS_A_METHOD)
    events = [event for event in vars(Callback) if event.startswith("on_")]
    for method in vars(target):
        if method.startswith("on_") and callable(getattr(target, method)) and method not in events:
            raise ConfigError(f"{method}: no such event (there are: {', '.join(events)}){nearest(method, events)}")

    def build(keys: Any) -> Callback:
        made: Callback = target(**vars(keys))
        return made

    return Part("callback", name, config, build)

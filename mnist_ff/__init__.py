"""Train, compare and understand small feed-forward networks on MNIST.

The tutorial's Python surface; imported when first used, so that `mnist-ff --help` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_ff.api import (
        Callback,
        LossHistory,
        init_model,
        load_data,
        plot_losses,
        run_network,
    )

__all__ = ["Callback", "LossHistory", "init_model", "load_data", "plot_losses", "run_network"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("mnist_ff.api"), name)
    raise AttributeError(f"module 'mnist_ff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

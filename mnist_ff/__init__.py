"""Train, compare and understand small feed-forward networks on MNIST.

The tutorial's Python surface; imported when first used, so that `mnist-ff --help` needs no torch.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without its import: the command deals with Ctrl-C only after this file

if TYPE_CHECKING:
    from mnist_ff.analysis.opened_run import OpenedRun, open_run, runs
    from mnist_ff.api import (
        Partial,
        init_model,
        load_data,
        plot_losses,
        run_network,
        train,
    )
    from mnist_ff.config.own_part import Range, register
    from mnist_ff.runs.directory import Run
    from mnist_ff.trackers.base import Tracker
    from mnist_ff.training.callbacks import Callback, LossHistory

__all__ = [
    "Callback",
    "LossHistory",
    "OpenedRun",
    "Partial",
    "Range",
    "Run",
    "Tracker",
    "init_model",
    "load_data",
    "open_run",
    "plot_losses",
    "register",
    "run_network",
    "runs",
    "train",
]
HOMES = {
    "Callback": "training.callbacks",
    "LossHistory": "training.callbacks",
    "OpenedRun": "analysis.opened_run",
    "Range": "config.own_part",
    "Run": "runs.directory",
    "Tracker": "trackers.base",
    "open_run": "analysis.opened_run",
    "register": "config.own_part",
}
"""Names that need no torch, with their modules; the others stand in api.py."""


if not TYPE_CHECKING:
    from mnist_ff import runs  # its code is a docstring; imports of its modules set this attribute to the package

    class _Runs(type(runs)):
        """The package `mnist_ff.runs`, which can be called too: see mnist_ff.analysis.opened_run.runs()."""

        def __call__(self, *arguments, **options):
            from mnist_ff.analysis.opened_run import runs as list_of

            return list_of(*arguments, **options)

    runs.__class__ = _Runs


def __getattr__(name: str) -> object:
    import importlib
    from importlib.util import find_spec

    if name in __all__:
        from mnist_ff.engine.spinning import settled

        with settled():  # where torch is imported here; the variables are then as they were
            return getattr(importlib.import_module(f"mnist_ff.{HOMES.get(name, 'api')}"), name)
    if name == "model":  # where MLP was before there was a folder of models
        return importlib.import_module("mnist_ff.models.mlp")
    if name.isidentifier() and not name.startswith("_") and find_spec(f"mnist_ff.{name}") is not None:
        return importlib.import_module(f"mnist_ff.{name}")
    raise AttributeError(f"module 'mnist_ff' has no attribute {name!r}")


def __dir__() -> list[str]:
    import pkgutil

    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted({*globals(), *__all__, *modules})

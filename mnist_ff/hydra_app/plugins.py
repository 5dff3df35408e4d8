"""Make our plugins known to Hydra, which takes them from the package hydra_plugins only."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from hydra.core.plugins import Plugins

NAMESPACE = "hydra_plugins"
PACKAGE = "mnist_ff"


def register_plugins() -> None:
    """Give our sweeper a name in Hydra's namespace and register it; safe to repeat."""
    plugins = Plugins.instance()  # first: when it is made it searches the namespace and loads Hydra's own classes anew
    from mnist_ff.hydra_app import sweeper

    try:
        namespace = importlib.import_module(NAMESPACE)
    except ModuleNotFoundError:  # no other plugin is installed
        namespace = sys.modules[NAMESPACE] = ModuleType(NAMESPACE)
    setattr(namespace, PACKAGE, sweeper)
    sys.modules[f"{NAMESPACE}.{PACKAGE}"] = sweeper
    plugins.register(sweeper.CheckedSweeper)

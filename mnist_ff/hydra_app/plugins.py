"""Make our plugins known to Hydra, which takes them from the package hydra_plugins only."""

from __future__ import annotations

from hydra.core.plugins import Plugins

NAMESPACE = "hydra_plugins.mnist_ff"


def register_plugins() -> None:
    """Give our sweeper a name in Hydra's namespace; safe to repeat.

    The name stands in Hydra's table alone. The class keeps its true module, so that a pickle that holds it can be
    read by any process that has mnist_ff, and there is no module that only this process knows.
    """
    plugins = Plugins.instance()  # first: when it is made, it loads Hydra's own classes anew
    from mnist_ff.hydra_app.sweeper import CheckedSweeper

    plugins.class_name_to_class[f"{NAMESPACE}.{CheckedSweeper.__name__}"] = CheckedSweeper

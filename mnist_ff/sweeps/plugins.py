"""Make our plugins known to Hydra, which takes them from the package hydra_plugins only."""

from __future__ import annotations

from hydra.core.plugins import Plugins

NAMESPACE = "hydra_plugins.mnist_ff"


def register_plugins() -> None:
    """Give our sweepers and launchers names in Hydra's namespace; safe to repeat.

    The names stand in Hydra's table alone. The classes keep their true modules, so that a pickle that holds one can
    be read by any process that has mnist_ff, and there is no module that only this process knows.
    """
    plugins = Plugins.instance()  # first: when it is made, it loads Hydra's own classes anew
    from mnist_ff.sweeps.launchers.joblib import JoblibLauncher
    from mnist_ff.sweeps.launchers.submitit import LocalLauncher, SlurmLauncher
    from mnist_ff.sweeps.search.sweeper import OptunaSweeper
    from mnist_ff.sweeps.sweeper import CheckedSweeper

    for plugin in (CheckedSweeper, OptunaSweeper, JoblibLauncher, LocalLauncher, SlurmLauncher):
        plugins.class_name_to_class[f"{NAMESPACE}.{plugin.__name__}"] = plugin

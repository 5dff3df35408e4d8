"""What the process imports from which those that draw are forked; multiprocessing imports this module there.

Elsewhere its import does nothing.
"""

from __future__ import annotations

import importlib

from mnist_ff.sweeps.fork_server import heard_again, is_here

MODULES = ("mnist_ff.sweeps.pictures", "mnist_ff.analysis.plots")

if is_here():
    with heard_again():
        for name in MODULES:
            importlib.import_module(name)

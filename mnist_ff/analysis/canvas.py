"""matplotlib with its own defaults, whatever a matplotlibrc or a notebook's rcParams say."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ff.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_STYLE = ("backend", "interactive", "toolbar", "webagg", "tk.", "macosx")
"""Beginnings of the keys that concern windows: there are none, and setting them may open one."""


def new_figure(width: float, height: float, axes: bool = True) -> tuple[Figure, Axes]:
    """A figure without pyplot: no global state, no window, and half the import time. Call it within own_style()."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot() if axes else None  # type: ignore[return-value]


def save_picture(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw a PNG file, whole or not at all. Errors: OSError, and whatever a figure raises."""
    with replacing(path) as temporary, own_style():
        draw().savefig(temporary, format="png", dpi=120)


@contextmanager
def own_style() -> Iterator[None]:
    """Within, matplotlib draws as for a new user, and says nothing; afterwards the caller's settings are back."""
    with _silence():
        matplotlib = _matplotlib()
        defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(NOT_STYLE)}
        with matplotlib.rc_context(defaults):
            yield


@contextmanager
def _silence() -> Iterator[None]:
    """Neither warnings, such as of letters that the font lacks, nor log lines, such as of a matplotlibrc's mistakes."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _matplotlib() -> Any:
    """The package, imported as the user has set it up if that works, else without any of it."""
    try:
        return _imported()
    except Exception:  # an undecodable matplotlibrc, an unknown MPLBACKEND, no home
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            del sys.modules[name]
        with _bare_environment():
            return _imported()


def _imported() -> Any:
    """Import what looks for folders and settings when it is imported."""
    import matplotlib
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import matplotlib.font_manager

    return matplotlib


@contextmanager
def _bare_environment() -> Iterator[None]:
    """An empty folder as the settings' place and as the current one, where matplotlib looks for them first."""
    folder = tempfile.mkdtemp(prefix="matplotlib-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    names = ("MPLBACKEND", "MATPLOTLIBRC", "MPLCONFIGDIR")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    current = os.open(".", os.O_RDONLY)
    try:
        os.environ["MPLCONFIGDIR"] = folder
        os.chdir(folder)
        yield
    finally:
        os.fchdir(current)
        os.close(current)
        del os.environ["MPLCONFIGDIR"]
        os.environ.update(before)

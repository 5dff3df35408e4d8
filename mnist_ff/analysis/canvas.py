"""matplotlib with its own defaults, whatever a matplotlibrc or a notebook's rcParams say."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_ff.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 120
"""Pixels of an inch in every picture."""
COMPRESSION = 3
"""zlib's level: the five pictures of the tutorial take 45 ms and 460 KB; at its usual 6, 82 ms and 389 KB."""
MANY_DECADES = 2_000
"""Ratio of a log axis's ends, above which only the powers of ten have numbers."""
NOT_STYLE = ("backend", "interactive", "toolbar", "webagg", "tk.", "macosx")
"""Beginnings of the keys that concern windows: there are none, and setting them may open one."""


class Margins(NamedTuple):
    """Inches around an axes for its title, its labels and their numbers."""

    left: float
    right: float
    bottom: float
    top: float


def new_figure(width: float, height: float, axes: bool = True, margins: Margins | None = None) -> tuple[Figure, Axes]:
    """A figure without pyplot: no global state, no window, and half the import time. Call it within own_style().

    Sizes are in inches. Without `margins` they are found where the figure is drawn, which draws its texts twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained" if margins is None else None)
    FigureCanvasAgg(figure)  # texts are measured as they are drawn
    if margins is not None:
        left, right, bottom, top = margins
        figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
    return figure, figure.add_subplot() if axes else None  # type: ignore[return-value]


def put_pixels(figure: Figure, pixels: NDArray[np.uint8], bottom: int) -> None:
    """Draw (height, width, 3) pixels at the figure's left edge as they are: matplotlib's images resample them."""
    from matplotlib.artist import Artist

    opaque = np.full((*pixels.shape[:2], 4), 255, dtype=np.uint8)
    opaque[::-1, :, :3] = pixels  # Agg draws upwards

    class Pixels(Artist):
        def draw(self, renderer: Any) -> None:
            renderer.draw_image(renderer.new_gc(), 0, bottom, opaque)

    figure.add_artist(Pixels())


def plain_numbers(axis: Axis) -> None:
    """Write 0.2 at a log axis, not 2 x 10^-1: matplotlib would load and run a parser of formulas for each number."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""  # which ticks have a number is the base's

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain())


def log_y(axes: Axes) -> None:
    """A log y axis with numbers at 1, 2 and 5 times each power of ten; over many decades at the powers alone."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high > MANY_DECADES * low:
        plain_numbers(axes.yaxis)
        return
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def save_picture(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw a PNG file, whole or not at all. Errors: OSError, and whatever a figure raises."""
    save_pixels(path, drawn(draw))


def drawn(draw: Callable[[], Figure]) -> NDArray[np.uint8]:
    """A figure's pixels, (height, width, 3). Errors: whatever it raises."""
    with own_style():
        return pixels_of(draw())


def save_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (height, width, 3) pixels as a PNG file, whole or not at all. Errors: OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(png(pixels))


def pixels_of(figure: Figure) -> NDArray[np.uint8]:
    """A figure as it is drawn, (height, width, 3). Call it within own_style()."""
    figure.canvas.draw()
    pixels: NDArray[np.uint8] = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    return pixels[..., :3]


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels, uint8 (height, width, 3) or grey (height, width), as a PNG file.

    Its lines have filter type 0 (none). For plots this takes less than half the time and three quarters of the bytes of
    Pillow, which chooses a filter for each line.
    """
    height, width, *colours = pixels.shape
    lines = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)  # each begins with its filter, 0 for none
    lines[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if colours else 0, 0, 0, 0)  # 8 bits a colour; 0 is grey
    resolution = struct.pack(">IIB", *[round(DPI / 0.0254)] * 2, 1)  # pixels of a metre
    parts = {b"IHDR": head, b"pHYs": resolution, b"IDAT": zlib.compress(lines.data, COMPRESSION), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(kind, content) for kind, content in parts.items())


def _part(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@contextmanager
def own_style() -> Iterator[None]:
    """Within, matplotlib draws as for a new user, and says nothing; afterwards the caller's settings are back."""
    with _silence():
        matplotlib = _matplotlib()
        defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(NOT_STYLE)}
        with matplotlib.rc_context({**defaults, "text.hinting": "none"}):  # a sixth less time; no letter looks worse
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

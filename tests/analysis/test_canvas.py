"""Pictures are the same whatever a user has told matplotlib, and drawing them prints nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HOSTILE = """
text.usetex: True
font.family: A Font That Nobody Has
font.size: 31
figure.dpi: 7
savefig.bbox: tight
savefig.transparent: True
savefig.facecolor: black
savefig.format: pdf
axes.prop_cycle: cycler('color', ['k'])
axes.unicode_minus: False
lines.linewidth: 12
image.cmap: nonsense
image.interpolation: bicubic
axes.grid: True
backend: nonsense
"""
DRAW = """
import sys
from mnist_ff import plot_losses
plot_losses([2.0, 1.0, 0.5], sys.argv[1])
"""


def losses_png(path: Path) -> bytes:
    from mnist_ff import plot_losses

    plot_losses([2.0, 1.0, 0.5], path)
    return path.read_bytes()


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    return losses_png(tmp_path / "expected.png")


def drawn(folder: Path, environment: dict[str, str]) -> bytes:
    """The picture that a process of its own draws in `folder`, with only this environment."""
    import mnist_ff

    code = f"import sys; sys.path.insert(0, {str(Path(mnist_ff.__file__).parents[1])!r})\n{DRAW}"
    done = subprocess.run(
        [sys.executable, "-c", code, "drawn.png"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return (folder / "drawn.png").read_bytes()


def test_a_notebooks_settings_are_neither_used_nor_changed(tmp_path: Path, expected: bytes) -> None:
    import matplotlib

    changes = {
        "text.usetex": True,
        "font.size": 31,
        "savefig.transparent": True,
        "lines.linewidth": 9,
        "axes.grid": True,
    }
    with matplotlib.rc_context(changes):
        before = dict(matplotlib.rcParams.copy())
        assert losses_png(tmp_path / "again.png") == expected
        assert dict(matplotlib.rcParams.copy()) == before


def test_every_picture_is_drawn_in_our_style(tmp_path: Path) -> None:
    """A sweep's and a learning-rate test's go the same way as a run's."""
    import matplotlib

    from mnist_ff.analysis.canvas import save_picture
    from mnist_ff.commands.lr_find import _figure

    pictures = []
    for changes in ({}, {"text.usetex": True, "font.family": "A Font That Nobody Has", "savefig.bbox": "tight"}):
        with matplotlib.rc_context(changes):
            save_picture(tmp_path / "one.png", lambda: _figure([1e-3, 1e-2], [2.0, 1.0], [2.0, 1.5], 0.003))
        pictures.append((tmp_path / "one.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_only_one_file_makes_figures() -> None:
    import mnist_ff

    makers = ("pyplot", "savefig(", "rcParams", "import Figure")
    for path in Path(mnist_ff.__file__).parent.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").split("if TYPE_CHECKING:")[0].splitlines()
        lines = [line for line in lines if any(maker in line for maker in makers)]
        assert not lines or path.name in ("canvas.py", "api.py"), f"{path}: {lines}"


def test_a_picture_is_a_png_file_of_the_pixels_drawn(tmp_path: Path) -> None:
    from PIL import Image

    from mnist_ff.analysis import canvas
    from mnist_ff.analysis.plots import losses_figure

    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    (tmp_path / "noise.png").write_bytes(canvas.png(pixels))
    with canvas.own_style():
        drawn = canvas.pixels_of(losses_figure([2.0, 1.0, 0.5], "a title"))
    canvas.save_picture(tmp_path / "plot.png", lambda: losses_figure([2.0, 1.0, 0.5], "a title"))
    for name, expected in (("noise", pixels), ("plot", drawn)):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert (image.mode, round(image.info["dpi"][0])) == ("RGB", canvas.DPI)
            assert np.array_equal(np.asarray(image), expected)


def test_pixels_are_put_into_a_figure_as_they_are() -> None:
    from mnist_ff.analysis import canvas

    pixels = np.random.default_rng(0).integers(0, 256, (60, 240, 3), dtype=np.uint8)
    with canvas.own_style():
        figure, _ = canvas.new_figure(2, 1, axes=False, margins=canvas.Margins(0, 0, 0, 0))
        canvas.put_pixels(figure, pixels, bottom=20)
        drawn = canvas.pixels_of(figure)
    assert drawn.shape == (120, 240, 3)
    assert np.array_equal(drawn[40:100], pixels)
    assert (drawn[:40] == 255).all()
    assert (drawn[100:] == 255).all()


def test_a_failed_picture_leaves_the_one_before(tmp_path: Path) -> None:
    from mnist_ff.analysis.canvas import save_picture

    def broken() -> Any:
        raise RuntimeError("no ink")

    (tmp_path / "one.png").write_text("before")
    with pytest.raises(RuntimeError, match="no ink"):
        save_picture(tmp_path / "one.png", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]
    assert (tmp_path / "one.png").read_text() == "before"


@pytest.mark.slow
@pytest.mark.parametrize(
    "hostile",
    ["matplotlibrc", "mistakes", "not text", "backend", "no home", "no folder to write to", "file as folder"],
)
def test_a_hostile_environment_costs_no_picture(hostile: str, tmp_path: Path, expected: bytes) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "home").mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "LC_ALL": "C.UTF-8"}
    if hostile == "matplotlibrc":
        (folder / "matplotlibrc").write_text(HOSTILE)
    if hostile == "mistakes":
        (folder / "matplotlibrc").write_text("this is : no : setting\nfont.size: many\n\x00\n: :\nno.such.key: 1\n")
    if hostile == "not text":
        (folder / "matplotlibrc").write_bytes(b"font.size: \xff\xfe\xfa\n")
    if hostile == "backend":
        environment["MPLBACKEND"] = "nonsense"
    if hostile == "no home":
        del environment["HOME"]
    if hostile == "no folder to write to":
        environment["MPLCONFIGDIR"] = "/proc/nowhere"
    if hostile == "file as folder":
        (folder / "file").touch()
        environment["MPLCONFIGDIR"] = str(folder / "file")
    assert drawn(folder, environment) == expected


def test_failed_import_retries_without_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user whom /etc/passwd does not know: the first import fails, the second has a folder of its own."""
    import matplotlib

    from mnist_ff.analysis import canvas

    seen: list[tuple[str | None, str | None, Path]] = []

    def imported() -> object:
        seen.append((os.environ.get("MPLCONFIGDIR"), os.environ.get("MPLBACKEND"), Path.cwd()))
        if len(seen) == 1:
            raise RuntimeError("Could not determine home directory.")
        return matplotlib

    monkeypatch.setattr(canvas, "_imported", imported)
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setattr(canvas, "sys", type("Sys", (), {"modules": {"matplotlib.figure": None}}))
    canvas._matplotlib()
    folder, backend, current = seen[1]
    assert (folder, backend) == (str(current), None)
    assert Path.cwd() == seen[0][2] != current
    assert os.environ["MPLBACKEND"] == "nonsense"
    assert "MPLCONFIGDIR" not in os.environ


@pytest.mark.parametrize(
    ("lowest", "expected"), [(0.04, {"0.05", "0.1", "0.2", "0.5", "1", "2"}), (1e-6, {"0.0001", "0.01", "1"})]
)
def test_a_log_axis_has_numbers_between_powers_of_ten(lowest: float, expected: set[str]) -> None:
    """Unless it spans many powers."""
    from mnist_ff.analysis.canvas import own_style
    from mnist_ff.analysis.plots import losses_figure

    with own_style():
        figure = losses_figure([2.4, 1.0, lowest])
        figure.canvas.draw()
        axis = figure.axes[0].yaxis
        low, high = axis.get_view_interval()
        texts = {tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high}
    assert expected <= texts
    assert len(texts) <= 10, texts

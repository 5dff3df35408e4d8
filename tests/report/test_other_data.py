"""Reports of other data than MNIST, without a browser: what a page holds, its size, and what a stranger may write."""

from __future__ import annotations

import html
import json
import re
import resource
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mnist_ff.analysis.class_metrics import confusion_matrix
from mnist_ff.report import run_page as module
from mnist_ff.report.confusion import MATRIX_CLASSES, frequent_mistakes, matrix_cells
from mnist_ff.report.images import LONGEST_SIDE, look_of, shrunk, small_size
from mnist_ff.report.network import takes_drawings
from mnist_ff.report.page import MAX_PAGE_BYTES
from mnist_ff.report.predictions import read_predictions
from mnist_ff.report.run_page import run_page
from mnist_ff.runs.directory import MAX_PREDICTIONS, PREDICTIONS, Run
from mnist_ff.runs.numbers import percent
from mnist_ff.runs.records import MNIST_SPEC, DataSpec
from mnist_ff.session import artifacts
from tests.report.test_report import facts
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.other_data import COLOURS, LETTERS, generated, made_run, predictions_of
from tests.support.own_data import medmnist_arrays, write_npz

HOSTILE = ("</script><script>window.pwned=1</script>", "<img src=x onerror=alert(1)>", '" onclick="alert(1)', "&amp;")
SPECS = {
    "letters": LETTERS,
    "colour": COLOURS,
    "not square": DataSpec((20, 44), ("one", "two", "a longer name")),
    "two channels": DataSpec((2, 8, 8), ("x", "y")),
    "photographs": DataSpec((3, 200, 256), tuple("abcde")),
    "vectors": DataSpec((40,), ("no", "yes")),
    "1,000 classes": DataSpec((28, 28), tuple(f"word {number}" for number in range(1000))),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_page_of_any_data(spec: DataSpec, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", spec, images=1200, augmented=spec.is_image)
    page = run.file("report.html").read_text()
    found = facts(page)
    assert "Not in the run directory" not in page
    assert found["classes"] == list(spec.classes)
    look, images = found["look"], found["images"]
    size = look["channels"] * look["height"] * look["width"]
    assert max(look["height"], look["width"]) <= LONGEST_SIDE
    assert len(images["rows"]) * size == packed_bytes(images["pixels"])
    assert packed_bytes(found["weights"]["tiles"]) == found["weights"]["shown"] * size
    assert (found["augmented"] is not None) == spec.is_image
    drawn = spec in (LETTERS, SPECS["not square"], SPECS["1,000 classes"])
    assert ('id="pad"' in page) == drawn == (found["network"] is not None)
    assert len(page.encode()) < 0.6 * MAX_PAGE_BYTES
    wrong = load_file(run.file(PREDICTIONS))
    labels = wrong["labels"][images["rows"]]
    assert images["labels"] == labels.tolist()
    for name in spec.classes[:5]:
        assert f'<th scope="row">{html.escape(name)}</th>' in page


def packed_bytes(text: str) -> int:
    return len(text) * 3 // 4 - text[-2:].count("=")


def test_hostile_class_names_are_text(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", DataSpec((28, 28), HOSTILE))
    page = run.file("report.html").read_text()
    assert page.count("<script") == 2
    assert facts(page)["classes"] == list(HOSTILE)
    before, _, after = page.partition('<script type="application/json" id="data">')
    markup = before + after.partition("</script>")[2]
    assert "<img" not in markup
    assert not re.search(r'<[a-z]+ [^>]*onclick="alert', markup)
    assert html.escape(HOSTILE[1]) in markup


def test_a_large_matrix_lists_its_largest_cells() -> None:
    rng = np.random.default_rng(0)
    classes = MATRIX_CLASSES + 1
    labels = rng.integers(0, classes, 20_000)
    predicted = np.where(rng.random(20_000) < 0.7, labels, rng.integers(0, classes, 20_000))
    predicted[(labels == 3) & (predicted != 3)] = 50
    counts = confusion_matrix(labels, predicted, classes)
    assert matrix_cells(counts) == []
    first, *others = frequent_mistakes(counts)
    assert (first.cell.label, first.cell.predicted) == (3, 50)
    assert first.cell.count == counts[3, 50]
    assert first.share == pytest.approx(counts[3, 50] / counts[3].sum())
    assert first.cell.shade == 5
    assert all(pair.cell.label != pair.cell.predicted for pair in others)
    sizes = [pair.cell.count for pair in others]
    assert sizes == sorted(sizes, reverse=True)
    small = counts[:MATRIX_CLASSES, :MATRIX_CLASSES]
    assert frequent_mistakes(small) == []
    assert [[cell.count for cell in row] for row in matrix_cells(small)] == small.tolist()


def test_a_perfect_network_of_many_classes_has_a_page(tmp_path: Path) -> None:
    spec = DataSpec((28, 28), tuple(map(str, range(80))))
    run = made_run(tmp_path / "run", spec, images=400)
    saved = load_file(run.file(PREDICTIONS))
    right = saved["kept_rows"][saved["answers"][saved["kept_rows"]] == saved["labels"][saved["kept_rows"]]]
    images = saved["kept_images"][-len(right) :]
    save_file({**saved, "answers": saved["labels"], "kept_rows": right, "kept_images": images}, run.file(PREDICTIONS))
    page = run_page(run)
    assert "There are no mistakes." in page
    assert "There are no mistakes" in page


def test_the_page_shows_each_pixel_as_it_is_or_a_mean(tmp_path: Path) -> None:
    small = generated(COLOURS, 6).images.numpy()
    assert (shrunk(small, COLOURS) == small).all()
    spec = DataSpec((1, 130, 70), ("a", "b"))
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (4, *spec.shape), dtype=np.uint8)
    found = shrunk(large, spec)
    assert found.shape == (4, 1, 44, 24)
    assert small_size(spec) == 44 * 24
    assert found[2, 0, 5, 7] == pytest.approx(large[2, 0, 15:18, 21:24].mean(), rel=1e-6)
    assert found[2, 0, 43, 23] == pytest.approx(large[2, 0, 129:, 69:].mean(), rel=1e-6)


def test_one_channel_is_ink_where_the_ground_is_dark() -> None:
    images = generated(LETTERS, 20).images.numpy()
    assert look_of(LETTERS, images)["ink"]
    assert not look_of(LETTERS, 255 - images)["ink"]
    assert look_of(LETTERS, None)["ink"]
    assert not look_of(COLOURS, generated(COLOURS, 20).images.numpy())["ink"]


def changed(change: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> Callable[[Run], None]:
    def apply(run: Run) -> None:
        saved = load_file(run.file(PREDICTIONS))
        save_file({**saved, **change(saved)}, run.file(PREDICTIONS))

    return apply


def with_spec(run: Run, **values: Any) -> None:
    environment = json.loads(run.file("environment.json").read_text())
    environment["data"] |= values
    run.file("environment.json").write_text(json.dumps(environment))


STRANGE: dict[str, Callable[[Run], None]] = {
    "grey images": changed(lambda saved: {"kept_images": saved["kept_images"][:, 0]}),
    "another size": changed(lambda saved: {"kept_images": np.ascontiguousarray(saved["kept_images"][..., :31])}),
    "more classes": changed(lambda saved: {"probabilities": np.pad(saved["probabilities"], ((0, 0), (0, 1)))}),
    "a class beyond": changed(lambda saved: {"answers": saved["answers"] + 1}),
    "a row beyond": changed(lambda saved: {"kept_rows": saved["kept_rows"] + len(saved["labels"])}),
    "other spec": lambda run: with_spec(run, shape=[3, 32, 33]),
    "fewer names": lambda run: with_spec(run, classes=["a", "b"]),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE.keys())
def test_predictions_of_other_data_are_named(change: Callable[[Run], None], tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", COLOURS)
    change(run)
    page = run_page(run)
    assert "predictions.safetensors: not readable" in page
    assert facts(page)["images"] is None
    assert facts(page)["batches"]["count"] == 20


def test_a_spec_that_cannot_be_ends_no_page(tmp_path: Path) -> None:
    """As of a run whose environment.json is spoilt: what does not fit MNIST is named."""
    run = made_run(tmp_path / "run", COLOURS)
    for strange in ([3, 10**9, 10**9], [], ["a"], None):
        with_spec(run, shape=strange)
        page = run_page(run)
        assert "predictions.safetensors: not readable" in page
        assert "model.safetensors: layers.0.weight is F32 of shape 12 x 3072" in page


def test_no_kept_images_are_no_error(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", COLOURS)
    changed(lambda saved: {"kept_rows": saved["kept_rows"][:0], "kept_images": saved["kept_images"][:0]})(run)
    page = run_page(run)
    assert facts(page)["images"]["rows"] == []
    wrong = int((read_predictions(run, COLOURS).predicted != read_predictions(run, COLOURS).labels).sum())
    assert f"0 of {wrong} mistakes are included" in page


def test_kept_images_are_limited_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec((3, 40, 40), tuple("abcdef"))
    split = generated(spec, 900)
    monkeypatch.setattr(artifacts, "MOST_PIXELS", 100 * spec.inputs)
    artifacts.save_predictions(tmp_path / PREDICTIONS, predictions_of(spec, split.labels), split)
    saved = load_file(tmp_path / PREDICTIONS)
    right = saved["answers"][saved["kept_rows"]] == saved["labels"][saved["kept_rows"]]
    assert len(right) == 100
    assert right.sum() == 20
    assert not right[:80].any()
    assert (saved["kept_images"] == split.images.numpy()[saved["kept_rows"]]).all()


def test_class_numbers_beyond_a_byte_are_kept(tmp_path: Path) -> None:
    spec = SPECS["1,000 classes"]
    run = made_run(tmp_path / "run", spec, images=1000)
    assert load_file(run.file(PREDICTIONS))["labels"].tolist() == list(range(1000))
    assert read_predictions(run, spec).labels.tolist() == list(range(1000))


def test_images_in_a_page_are_the_worst_and_the_least_sure(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", COLOURS, images=2000)
    whole = read_predictions(run, COLOURS, room=900 * 3072)
    few = read_predictions(run, COLOURS, room=50 * 3072)
    right = few.predicted[few.rows] == few.labels[few.rows]
    assert (len(right), right.sum()) == (50, 10)
    assert few.rows[:40].tolist() == whole.rows[:40].tolist()
    sure = whole.probabilities.max(axis=1)[whole.predicted[whole.rows] == whole.labels[whole.rows]]
    assert sorted(few.probabilities.max(axis=1)[right]) == sorted(sure)[:10]
    assert (few.images == generated(COLOURS, 2000).images.numpy()[few.rows]).all()


def test_float_images_are_saved_as_bytes(tmp_path: Path) -> None:
    import torch

    from mnist_ff.data.load import Split

    split = generated(COLOURS, 60)
    floats = Split(split.images / 255, split.labels, len(COLOURS.classes))
    artifacts.save_predictions(tmp_path / PREDICTIONS, predictions_of(COLOURS, split.labels), floats)
    saved = load_file(tmp_path / PREDICTIONS)
    assert saved["kept_images"].dtype == np.uint8
    assert torch.equal(torch.from_numpy(saved["kept_images"]), split.images[saved["kept_rows"].tolist()])


def test_pictures_of_any_data_are_drawn(tmp_path: Path, mnist_ff: Command) -> None:
    from mnist_ff.analysis.plots import draw_run, drawings_of

    for name in ("colour", "not square", "two channels", "vectors"):
        spec = SPECS[name]
        run = made_run(tmp_path / name, spec, images=80, augmented=spec.is_image)
        names = ["confusion", "mistakes", "weights", *(["augmented"] if spec.is_image else [])]
        assert set(names) <= set(drawings_of(run))
        assert draw_run(run, "$title_", names) == {}
        assert all(run.file(f"plots/{picture}.png").stat().st_size > 3_000 for picture in names)


def figure_of(run: Run, name: str, title: str = "title") -> Any:
    """A picture as it is drawn, before it becomes a file."""
    from mnist_ff.analysis import plots
    from mnist_ff.analysis.canvas import own_style, pixels_of

    with own_style():
        figure = plots.DRAWINGS[name](run, title)
        return figure, pixels_of(figure)


def test_no_picture_has_more_axes_than_it_needs(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", MNIST_SPEC, augmented=True, hidden=(150,))
    pictures = ("loss", "epochs", "confusion", "mistakes", "weights", "augmented")
    assert [len(figure_of(run, name)[0].axes) for name in pictures] == [1, 2, 1, 0, 0, 0]


def test_each_mistake_is_at_its_place_below_its_words(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", LETTERS)
    saved = load_file(run.file(PREDICTIONS))
    figure, drawn = figure_of(run, "mistakes")
    assert figure.get_suptitle() == "The 25 worst mistakes, test images\ntitle"
    words = [text for text in figure.texts if "predicted" in text.get_text()]
    assert len(words) == len(saved["worst_rows"]) == 25
    for number, (row, image, text) in enumerate(zip(saved["worst_rows"], saved["worst_images"], words, strict=True)):
        label, predicted = (LETTERS.classes[saved[name][row]] for name in ("labels", "answers"))
        sure = saved["probabilities"][row, saved["answers"][row]]
        assert text.get_text() == f"{label}, predicted {predicted} ({percent(float(sure), 0)})"
        top, left = 68 + 204 * (number // 5) + 44, 192 * (number % 5) + 16
        enlarged = image[np.arange(160) * 28 // 160][:, np.arange(160) * 28 // 160]
        assert np.array_equal(drawn[top : top + 160, left : left + 160], np.repeat(255 - enlarged[..., None], 3, 2))
        box = text.get_window_extent()
        assert abs((box.x0 + box.x1) / 2 - (left + 80)) < 1
        assert 0 < box.y0 - (len(drawn) - top) < 8


@pytest.mark.parametrize("name", ["mistakes", "confusion"])
def test_no_words_in_a_picture_overlap_or_are_cut(name: str, tmp_path: Path) -> None:
    wide = tuple(f"WWWWWWWWWWWWWWWWWWWWWWWW {number}" for number in range(10))
    figure, drawn = figure_of(made_run(tmp_path / "run", DataSpec((28, 28), wide)), name)
    texts = [*figure.texts, *(label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.texts))]
    texts += [part for axes in figure.axes for part in (*axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label)]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) >= 20
    for place, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= drawn.shape[1]
        assert 0 <= box.y0 < box.y1 <= drawn.shape[0]
        assert not any(box.overlaps(other) for other in boxes[:place])


def test_weights_are_blue_below_zero_and_red_above(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", DataSpec((2, 3), ("no", "yes")))
    weights = np.zeros((12, 6), dtype=np.float32)
    weights[0, 0], weights[11, 5] = -2, 2
    save_file({**load_file(run.file("model.safetensors")), "layers.0.weight": weights}, run.file("model.safetensors"))
    figure, drawn = figure_of(run, "weights")
    assert figure.get_suptitle() == "First-layer weights, 12 of 12 units\ntitle"
    blueness = drawn[..., 2].astype(int) - drawn[..., 0]
    for marked, top, left in ((blueness > 50, 68 + 8, 5), (blueness < -50, 68 + 65 + 8 + 29, 96 + 5 + 58)):
        places = np.argwhere(marked)
        assert places.min(0).tolist() == [top, left]
        assert len(places) in (29 * 29, 28 * 28)


def test_large_pictures_are_averaged_and_small_ones_repeated() -> None:
    from mnist_ff.analysis.tiles import Cells, as_colours, cells_for, resized, tiled

    stripes = np.tile(np.array([0, 200], dtype=np.uint8), (1, 6, 50))
    assert (resized(stripes, 50, axis=2) == 100).all()
    assert resized(stripes, 200, axis=2)[0, 0, :6].tolist() == [0, 0, 200, 200, 0, 0]
    assert resized(stripes, 4, axis=1).shape == (1, 4, 100)
    assert as_colours(stripes, ink=True)[0, 0, 0].tolist() == [255, 255, 255]
    assert cells_for((20, 40), True, 3, 50, (30, 40), 5) == Cells(3, 50, 25, 40, 20)
    assert cells_for((1, 5000), False, 3, 50, (30, 40), 5) == Cells(3, 50, 35, 40, 30)
    assert cells_for((1, 5000), True, 3, 50, (30, 40), 5).tile_height == 1
    field = tiled(np.zeros((4, 2, 2, 3), dtype=np.uint8), Cells(3, 5, 4, 3, 2))
    assert field.shape == (8, 15, 3)
    assert np.argwhere(field[..., 0] == 0).min(0).tolist() == [2, 1]
    assert np.argwhere(field[4:, :, 0] == 0).tolist() == [[line, column] for line in (2, 3) for column in (1, 2, 3)]


@pytest.mark.parametrize("classes", [2, 26, 45, 200])
def test_a_confusion_matrix_of_any_size_is_drawn(classes: int, tmp_path: Path) -> None:
    from mnist_ff.analysis import plots
    from mnist_ff.analysis.canvas import own_style

    names = tuple(f"${number}_{{x}} with a long name" for number in range(classes))
    run = made_run(tmp_path / "run", DataSpec((8, 8), names), images=4 * classes)
    with own_style():
        axes = plots.DRAWINGS["confusion"](run, "title").axes[0]
    counted, named = len(axes.texts), len(axes.get_xticklabels())
    saved = load_file(run.file(PREDICTIONS))
    cells = np.count_nonzero(confusion_matrix(saved["labels"], saved["answers"], classes))
    assert counted == (cells if classes <= 30 else 0)
    if classes <= 60:
        assert named == classes
        assert axes.get_yticklabels()[1].get_text() == "$1_{x} with a long …"


def test_mnist_marks_and_words_are_its_own(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", MNIST_SPEC)
    page = run.file("report.html").read_text()
    assert "<h2>Draw a digit</h2>" in page
    assert "20, centred by mass" in page
    assert "<h2>Draw an image</h2>" in made_run(tmp_path / "letters", LETTERS).file("report.html").read_text()
    other = made_run(tmp_path / "other", SPECS["not square"]).file("report.html").read_text()
    assert "the whole field, scaled to 44&nbsp;" in other
    assert '<canvas id="pad" width="280" height="127"' in other


def test_the_page_of_an_own_model_says_what_it_is(mnist_ff: Command) -> None:
    """Its name and parameters, no field to draw on, no weights, and --parts in the commands that need it."""
    parts = Path(__file__).parents[1] / "support" / "own_models.py"
    words = ("model=cnn", "data=mnist_5k", "trainer.epochs=1", "trainer.device=cpu", "trainer.engine=eager")
    code, _, err = mnist_ff("train", f"--parts={parts}", *words, "hydra.run.dir=run")
    assert code == 0, err
    assert {path.stem for path in Path("run/plots").iterdir()} == {"loss", "epochs", "confusion", "mistakes"}
    first = Path("run/report.html").read_text()
    assert mnist_ff("report", "run")[0] == 0
    page = Path("run/report.html").read_text()
    parameters = json.loads(Path("run/summary.json").read_text())["parameters"]
    for written in (first, page):
        assert f"<dt>Model</dt><dd>cnn<small>{parameters:,} parameters</small>" in written
        assert "the model in training mode and changing weights" in written
        assert not re.search('id="(pad|draw|weights|tiles)"', written)
        assert "Not in the run directory" not in written
        commands = [html.unescape(words) for words in re.findall("<code>(mnist-ff [^<]+)</code>", written)]
        flag = f" --parts {shlex.quote(str(parts))}"
        assert [flag in command for command in commands] == [True] * 5 + [False] * 2
    code, out, err = mnist_ff(*shlex.split(commands[0])[1:])
    assert code == 0, err
    assert "F1" in out


def test_no_image_beyond_a_runs_directory_is_read(mnist_ff: Command) -> None:
    """compare and report of a run on files read none of them: the directory may come from somebody else."""
    arrays = medmnist_arrays()
    write_npz(Path("own.npz"), arrays)
    words = ("data=npz", "data.path=own.npz", "model.hidden=[8]", "trainer.epochs=1", "trainer.batch_size=20")
    code, _, err = mnist_ff("train", *words, "trainer.plots=false", "hydra.run.dir=run")
    assert code == 0, err
    Path("own.npz").unlink()
    assert mnist_ff("report", "run")[0] == 0
    page = Path("run/report.html").read_text()
    assert f"of {len(arrays['val_labels'])} correct" in page
    assert "evaluated” is the loss on 100 training images" in page
    code, out, err = mnist_ff("compare", "run", "--json")
    assert code == 0, err
    assert json.loads(out)["runs"][0]["validation"]["samples"] == len(arrays["val_labels"])


def test_a_page_without_room_leaves_out_the_network_then_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_run(tmp_path / "run", LETTERS)
    whole = facts(run_page(run))
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", len(run_page(run)) - 1)
    page = run_page(run)
    assert facts(page)["network"] is None
    assert facts(page)["images"] == whole["images"]
    assert "with the network, so it is not included" in page
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", len(page) - 1)
    page = run_page(run)
    assert (facts(page)["network"], facts(page)["images"]) == (None, None)
    assert "with the images, so they are not included" in page
    assert 'class="confusion' in page


def test_a_huge_file_of_predictions_takes_no_memory(tmp_path: Path) -> None:
    """A hole on the disk with a good header: more predictions than anyone makes."""
    run = made_run(tmp_path / "run", COLOURS)
    count = MAX_PREDICTIONS + 1
    header, at = {}, 0
    for name, kind, size, shape in (
        ("probabilities", "F16", 2, [count, 5]),
        ("answers", "U8", 1, [count]),
        ("labels", "U8", 1, [count]),
        ("kept_rows", "U8", 1, [0]),
        ("kept_images", "U8", 1, [0, 3, 32, 32]),
    ):
        end = at + size * int(np.prod(shape))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with run.file(PREDICTIONS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    page = run_page(run)
    assert "more than 10,000,000 predictions" in page
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"


def test_the_page_of_a_run_from_python_names_what_can_be_done(tmp_path: Path) -> None:
    """Vectors and a model of Python's: commands that would need them are not offered."""
    import torch

    import mnist_ff

    split = generated(SPECS["vectors"], 60)
    images, labels = split.images.numpy(), split.labels.numpy()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(40, 2))
    words = ("trainer.epochs=1", "trainer.batch_size=20", "trainer.device=cpu")
    run = mnist_ff.train(*words, data=[images, images, labels, labels], model=model, directory="run", verbose=False)
    page = run.file("report.html").read_text()
    commands = [html.unescape(found) for found in re.findall("<dt><code>([^<]+)</code>", page)]
    assert [command.split("(")[0].split(" run")[0] for command in commands] == [
        "mnist_ff.train", "mnist-ff compare", "mnist-ff report",
    ]  # fmt: skip
    assert "data=..., model=..." in commands[0]
    assert "Not in the run directory" not in page
    assert len(facts(page)["images"]["rows"]) > 0


def test_the_page_of_a_sweep_of_own_models(mnist_ff: Command) -> None:
    parts = Path(__file__).parents[1] / "support" / "own_models.py"
    words = ("model=cnn", "model.channels=1,2", "data=mnist_5k", "trainer.epochs=1", "trainer.plots=false")
    code, _, err = mnist_ff("train", "-m", f"--parts={parts}", *words, "trainer.device=cpu", "hydra.sweep.dir=sweep")
    assert code == 0, err
    Path("sweep/1/summary.json").unlink()  # as a kill leaves it
    assert mnist_ff("report", "sweep")[0] == 0
    page = Path("sweep/report.html").read_text()
    assert f"<code>mnist-ff train -m resume=sweep --parts {shlex.quote(str(parts))}</code>" in html.unescape(page)
    assert [curve["name"] for curve in facts(page)["curves"]] == ["model.channels=1", "model.channels=2"]


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((28, 28), True),
        ((1, 8, 32), True),
        ((256, 256), True),
        ((3, 28, 28), False),
        ((2, 28, 28), False),
        ((7, 28), False),
        ((8, 33), False),
        ((784,), False),
    ],
)
def test_what_can_be_drawn_by_hand(shape: tuple[int, ...], taken: bool) -> None:
    assert takes_drawings(make_config(), DataSpec(shape, ("a", "b"))) == taken


def test_own_data_whose_file_is_not_given_has_a_page(tmp_path: Path, mnist_ff: Command) -> None:
    Path("own.py").write_text(OWN_DATA)
    words = ("data=stripes", "model.hidden=[8]", "trainer.epochs=1", "trainer.batch_size=10", "trainer.device=cpu")
    code, _, err = mnist_ff("train", "--parts=own.py", *words, "hydra.run.dir=run")
    assert code == 0, err
    Path("own.py").unlink()
    code, out, err = mnist_ff("report", "run")
    assert (code, out.strip(), err) == (0, "run/report.html", "")
    page = Path("run/report.html").read_text()
    assert facts(page)["classes"] == ["<left>", "right"]
    assert "mnist-ff · stripes" in page
    assert "Not in the run directory" not in page
    assert mnist_ff("compare", "run")[0] == 0


OWN_DATA = """
from dataclasses import dataclass

import numpy as np

import mnist_ff


@mnist_ff.register("data", "stripes")
@dataclass(frozen=True)
class Stripes:
    def build(self):
        labels = np.arange(60) % 2
        images = np.zeros((60, 10, 14), np.uint8)
        images[np.arange(60), :, 3 + 7 * labels] = 255
        return {"train_images": images, "train_labels": labels, "test_images": images[:20],
                "test_labels": labels[:20], "classes": ["<left>", "right"]}
"""

"""McNemar's test of two runs' saved answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mnist_ff.analysis.statistics import mcnemar
from mnist_ff.config.schema import Config
from tests.support.commands import Command
from tests.support.configs import make_config
from tests.support.sweep_maker import write_run

CONFIG = make_config("data=mnist_5k")


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (0, 5, 2 / 32),  # 2 (1/2)^5
        (6, 0, 2 / 64),
        (1, 9, 2 * (1 + 10) / 1024),
        (9, 1, 2 * (1 + 10) / 1024),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (5, 5, 1.0),  # twice the tail would be more than one
        (7, 17, 2 * sum(math.comb(24, k) for k in range(8)) / 2**24),
        # Agresti's approval ratings (Categorical Data Analysis, 10.1): 150 and 86; chi-squared 17.36 without correction
        (150, 86, math.erfc(math.sqrt((64 - 1) ** 2 / 236 / 2))),
        (30, 30, 1.0),
    ],
)
def test_mcnemar_against_figures_by_hand(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize(("only_first", "only_second"), [(3, 11), (1, 20), (12, 12), (40, 60), (13, 12), (100, 200)])
def test_mcnemar_against_mlxtend(only_first: int, only_second: int) -> None:
    from mlxtend.evaluate import mcnemar as reference

    table = np.array([[500, only_first], [only_second, 100]])
    exact = only_first + only_second < 25
    assert mcnemar(only_first, only_second) == pytest.approx(reference(table, exact=exact, corrected=True)[1], rel=1e-9)


def answer(
    path: Path, wrong: range, config: Config = CONFIG, labels: np.ndarray | None = None, classes: int = 10
) -> str:
    """A run that answers these images of a thousand wrongly."""
    write_run(path, config, 1 - len(wrong) / 1000)
    labels = np.arange(1000, dtype=np.int16 if classes > 256 else np.uint8) % classes if labels is None else labels
    answers = labels.copy()
    answers[list(wrong)] = (answers[list(wrong)] + 1) % classes
    save_file({"answers": answers, "labels": labels}, path / "predictions.safetensors")
    return str(path)


def test_paired_comparison_of_differing_and_equal_runs(mnist_ff: Command) -> None:
    """a: 0 to 29 wrong; b: 20 to 119 wrong: 20 only b has right, 90 only a; c: 20 to 52 wrong."""
    a, b, c = answer(Path("a"), range(30)), answer(Path("b"), range(20, 120)), answer(Path("c"), range(20, 42))
    code, out, _ = mnist_ff("compare", a, b)
    assert code == 0
    p = math.erfc(math.sqrt(69**2 / 110 / 2))
    figures, verdict = out.splitlines()[-2:]
    assert figures == (
        f"McNemar's test on 1,000 images: b = 90 correct for a only, c = 20 for b only, p = {p:.2g} "
        "(chi-squared, continuity-corrected)."
    )
    assert verdict.startswith("The difference is significant: a is better")
    assert mnist_ff("compare", b, a)[1].splitlines()[-1].startswith("The difference is significant: a is")
    out = mnist_ff("compare", a, c)[1]
    assert "b = 12 correct for a only, c = 20 for c only" in out
    assert out.splitlines()[-1] == "The difference is not significant."
    found = json.loads(mnist_ff("compare", a, b, "--json")[1])["mcnemar"]
    assert found == {
        "runs": [a, b],
        "images": 1000,
        "b": 90,
        "c": 20,
        "p": pytest.approx(p),
        "test": "chi-squared",
        "differ": True,
    }
    assert (
        "McNemar"
        not in mnist_ff("compare", a)[1] + mnist_ff("compare", a, b, c)[1] + mnist_ff("compare", a, b, "--csv")[1]
    )


def test_a_few_images_are_counted_exactly(mnist_ff: Command) -> None:
    a, b = answer(Path("a"), range(10)), answer(Path("b"), range(9, 12))
    found = json.loads(mnist_ff("compare", a, b, "--json")[1])["mcnemar"]
    assert (found["b"], found["c"], found["test"]) == (2, 9, "exact binomial")
    assert found["p"] == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert not found["differ"]


def of_data(path: Path, count: int, **data: Any) -> str:
    """A run on data of its own, which its environment.json describes."""
    answer(path, range(30, 60), classes=count)
    described = {"shape": [3, 8, 8], "classes": [f"class {number}" for number in range(count)], **data}
    (path / "environment.json").write_text(json.dumps({"data": described}))
    return str(path)


@pytest.mark.parametrize("classes", [2, 26, 1000])
def test_runs_of_any_classes_are_tested(classes: int, mnist_ff: Command) -> None:
    a, b = of_data(Path("a"), classes), of_data(Path("b"), classes, sha256={"test_images": "0" * 64})
    found = json.loads(mnist_ff("compare", a, b, "--json")[1])["mcnemar"]
    assert (found["images"], found["b"], found["c"], found["p"]) == (1000, 0, 0, 1.0)


DIFFERENT: dict[str, tuple[int, dict[str, Any]]] = {
    "another shape": (26, {"shape": [1, 8, 8]}),
    "other names": (26, {"classes": [f"letter {number}" for number in range(26)]}),
    "other images": (26, {"sha256": {"test_images": "1" * 64}}),
}


@pytest.mark.parametrize(("classes", "data"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_runs_on_different_own_data_are_not_tested(classes: int, data: dict[str, Any], mnist_ff: Command) -> None:
    """Though they have the same labels."""
    a = of_data(Path("a"), 26, sha256={"test_images": "0" * 64})
    of_data(Path("b"), classes, **{"sha256": {"test_images": "0" * 64}, **data})
    out = mnist_ff("compare", a, "b")[1]
    assert out.splitlines()[-1].startswith("No significance test: they were evaluated on different test images")


def other_labels(path: Path) -> None:
    answer(path, range(5), labels=np.arange(1000, dtype=np.uint8)[::-1] % 10)


def fewer(path: Path) -> None:
    answer(path, range(5), labels=np.arange(900, dtype=np.uint8) % 10)


def other_data(path: Path) -> None:
    answer(path, range(5), make_config("data=mnist"))


def no_answers(path: Path) -> None:
    write_run(path, CONFIG, 0.9)


def damaged(path: Path) -> None:
    answer(path, range(5))
    (path / "predictions.safetensors").write_bytes(b"\xff" * 100)


def not_answers(path: Path) -> None:
    write_run(path, CONFIG, 0.9)
    save_file({"answers": np.zeros((5, 2)), "labels": np.zeros(5)}, path / "predictions.safetensors")


def incomplete(path: Path) -> None:
    write_run(path, CONFIG, 0.9)
    save_file({"answers": np.zeros(5)}, path / "predictions.safetensors")


def failed(path: Path) -> None:
    write_run(path, CONFIG, 0.9, "failed", "a reason")


def broken(path: Path) -> None:
    answer(path, range(5))
    (path / "config.yaml").write_text("[")


CASES: dict[Callable[[Path], None], str] = {
    other_labels: "they were evaluated on different test images",
    fewer: "they were evaluated on different test images",
    other_data: "they were evaluated on different images, mnist_5k and mnist",
    no_answers: "b has no predictions.safetensors",
    damaged: "b/predictions.safetensors is not readable",
    not_answers: "b/predictions.safetensors is not readable (answers is F64 of shape 5 x 2, expected N)",
    incomplete: "b/predictions.safetensors is not readable",
    failed: "b is failed and has no score",
    broken: "b is broken and has no score",
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_why_there_is_no_test_is_one_line(make: Callable[[Path], None], mnist_ff: Command) -> None:
    first = answer(Path("a"), range(10))
    make(Path("b"))
    code, out, err = mnist_ff("compare", first, "b")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith(f"No significance test: {CASES[make]}")
    assert json.loads(mnist_ff("compare", first, "b", "--json")[1])["mcnemar"]["no_test"].startswith(CASES[make])


def test_real_runs_are_tested(mnist_ff: Command) -> None:
    words = ["data=mnist_5k", "trainer.epochs=1", "trainer.plots=false"]
    assert mnist_ff("train", *words, "hydra.run.dir=a", "model.hidden=[100]")[0] == 0
    assert mnist_ff("train", *words, "hydra.run.dir=b", "model.hidden=[2]")[0] == 0
    found = json.loads(mnist_ff("compare", "a", "b", "--json")[1])
    accuracy = {run["run"]: run["test"]["accuracy"] for run in found["runs"]}
    test = found["mcnemar"]
    assert test["differ"]
    assert (test["b"] - test["c"]) / test["images"] == pytest.approx(accuracy["a"] - accuracy["b"])

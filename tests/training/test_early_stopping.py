"""Early stopping, and which epochs are scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_ff.runs.directory import Run
from mnist_ff.runs.records import EpochRecord, Plan, Score
from mnist_ff.training.callbacks import EarlyStopping
from tests.support.commands import Command
from tests.support.recipes import SPLIT
from tests.support.runs import WORDS


def epoch(number: int, loss: float, accuracy: float = 0.9) -> EpochRecord:
    return EpochRecord(number, 1.0, 0.9, None, Score(loss, accuracy, 90, 100), 1.0)


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "last"),
    [
        ([5, 4, 4, 4, 3], 2, 0.0, 3),
        ([5, 4, 4, 3, 4, 4, 4], 2, 0.0, 5),
        ([5, 4.95, 4.9, 4.85, 4.8], 2, 0.3, 2),
        ([5, 6, 7], 0, 0.0, 1),  # Keras takes 0 for 1
        ([5, 4, 3, 2], 1, 0.0, None),
        ([1, 2], 2, 0.0, None),
    ],
)
@pytest.mark.parametrize("resumed", [0, 1])
def test_early_stopping_is_kerass(
    losses: list[float], patience: int, min_delta: float, last: int | None, resumed: int
) -> None:
    """`last` is the number of the epoch after which Keras's callback of that name stops."""
    stopping = EarlyStopping("validation_loss", patience, min_delta)
    stopping.resume(losses[:resumed], 20)
    stopping.on_train_begin(Plan(20, 100, 10, None, 0.1))
    for number, loss in enumerate(losses[resumed:], resumed):
        stopping.on_epoch_end(epoch(number, loss))
        if stopping() is not None:
            assert number == last
            return
    assert last is None


def test_early_stopping_can_go_by_accuracy() -> None:
    stopping = EarlyStopping("validation_accuracy", 1, 0.0)
    stopping.on_train_begin(Plan(20, 100, 10, None, 0.1))
    stopping.on_epoch_end(epoch(0, 1.0, 0.9))
    stopping.on_epoch_end(epoch(1, 2.0, 0.91))
    assert stopping() is None
    stopping.on_epoch_end(epoch(2, 0.5, 0.91))
    reason = stopping()
    assert reason is not None
    assert reason.text == "early stopping: no better validation accuracy in 1 epoch after epoch 2"


def test_early_stopping_keeps_the_best_weights(mnist_ff: Command) -> None:
    words = [*WORDS, *SPLIT, "trainer.epochs=30", "trainer.patience=1", "trainer.keep_best=true", "optimizer.lr=0.02"]
    code, out, err = mnist_ff("train", *words, "hydra.run.dir=a")
    assert code == 0, err
    run = Run.open("a")
    summary, rows = run.summary(), run.epochs()
    assert summary is not None
    assert summary.status == "finished"
    assert (summary.cause or "").startswith("early stopping: no better validation loss")
    assert summary.epochs == len(rows) < 30
    best = min(range(len(rows)), key=lambda place: rows[place]["validation_loss"])
    assert best == len(rows) - 2
    assert f"keeping the weights of the best epoch, {best + 1}" in out
    assert (
        mnist_ff(
            "train",
            *words[:-3],
            "trainer.keep_best=false",
            *words[-1:],
            f"trainer.epochs={best + 1}",
            "hydra.run.dir=b",
        )[0]
        == 0
    )
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    assert "stopped early; nothing to do" in mnist_ff("train", "resume=a")[1]
    before = Path("a/batches.csv").read_bytes()
    for name in ("summary.json", "model.safetensors"):  # as if it had been killed after the last checkpoint
        run.file(name).unlink()
    assert mnist_ff("train", "resume=a")[0] == 0
    again = run.summary()
    assert again is not None
    assert (again.status, again.cause, again.score) == ("finished", summary.cause, summary.score)
    assert Path("a/batches.csv").read_bytes() == before
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_evaluate_every_scores_some_epochs_and_the_last(mnist_ff: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_ff.analysis import plots

    monkeypatch.setattr(plots, "DRAWINGS", {"epochs": plots.DRAWINGS["epochs"]})  # the others take seconds
    words = [*WORDS, "trainer.threads=1"]
    assert mnist_ff("train", *words, "hydra.run.dir=all")[0] == 0
    code, out, _ = mnist_ff("train", *words, "trainer.evaluate_every=2", "trainer.plots=true", "hydra.run.dir=some")
    assert code == 0
    assert "could not draw" not in out
    every, some = Run.open("all").epochs(), Run.open("some").epochs()
    assert ["test_loss" in row for row in some] == [False, True, True]
    assert [row["test_loss"] for row in some[1:]] == [row["test_loss"] for row in every[1:]]
    assert Path("all/model.safetensors").read_bytes() == Path("some/model.safetensors").read_bytes()

"""Reasons to stop: their texts in summary.json, and what is read back from them."""

from __future__ import annotations

import pytest

from mnist_ff.runs.records import Status, StopKind, StopReason


@pytest.mark.parametrize(
    "reason",
    [
        StopReason.from_signal("SIGUSR2"),
        StopReason.early_stopping("no better validation loss in 2 epochs after epoch 3"),
        StopReason(StopKind.PRUNING, "asha: validation accuracy 0.9100 after epoch 2 is not among the best 1/3"),
    ],
    ids=lambda reason: reason.kind.name,
)
def test_stop_reason_survives_summary(reason: StopReason) -> None:
    assert StopReason.from_summary(reason.status, reason.text) == reason


def test_stop_reason_texts_are_the_formats() -> None:
    assert StopReason.from_signal("SIGTERM").text == "stopped by SIGTERM"
    assert StopReason.early_stopping("why").text == "early stopping: why"


@pytest.mark.parametrize(
    ("status", "cause"),
    [(Status.FINISHED, None), (Status.FAILED, "stopped by chance"), (Status.INTERRUPTED, "cancelled in Slurm (job 3)")],
)
def test_other_causes_are_no_stop_reason(status: Status, cause: str | None) -> None:
    assert StopReason.from_summary(status, cause) is None

"""Per-class metrics against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from mnist_ff.analysis.class_metrics import ClassMetrics, class_metrics, confusion_matrix


def test_class_metrics_follow_their_definitions() -> None:
    labels, predictions = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 1])
    counts = confusion_matrix(labels, predictions, 10)
    assert counts.sum() == 5
    assert counts[0].tolist() == [2, 1, *[0] * 8]
    zero, one, two, *rest = class_metrics(counts)
    assert zero == ClassMetrics(0, 3, 2, 1.0, pytest.approx(2 / 3), pytest.approx(0.8))
    assert one == ClassMetrics(1, 1, 3, pytest.approx(1 / 3), 1.0, pytest.approx(0.5))
    assert two == ClassMetrics(2, 1, 0, 0.0, 0.0, 0.0)
    assert {(row.precision, row.recall, row.f1) for row in rest} == {(0.0, 0.0, 0.0)}

"""The output of `mnist-ff train --json`: how a run ended, from its directory."""

from __future__ import annotations

import dataclasses
from typing import Any

from mnist_ff.config.paths import display_path
from mnist_ff.runs.directory import REPORT, Run


def run_document(run: Run) -> dict[str, Any] | None:
    """The run's summary with its path, what stopped it and the path of its report. None if it has not ended.

    Errors: BadRunError if its summary cannot be read.
    """
    summary = run.summary()
    if summary is None:
        return None
    report = run.file(REPORT)
    return {
        "run": str(display_path(run.path)),
        **dataclasses.asdict(summary),
        "stopped_by": None if summary.stop is None else summary.stop.kind.name.lower(),
        "report": str(display_path(report)) if report.is_file() else None,
    }

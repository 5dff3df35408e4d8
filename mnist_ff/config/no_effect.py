"""Keys that do not change the result of a run, each with the reason. No torch."""

from __future__ import annotations

from collections.abc import Mapping

DATA_SOURCE_KEYS = ("data.root", "data.mirrors", "data.fallback")
"""Keys that say where the data comes from."""
NO_EFFECT: Mapping[str, str] = {
    **dict.fromkeys(DATA_SOURCE_KEYS, "the images are the same wherever they come from: their SHA-256 is checked"),
    "name": "a label",
    "metrics": "measured beside training, without its random numbers",
    "trainer.sync_every": "changes only when the host waits for the device",
    "trainer.evaluate_every": "evaluating uses no random numbers of training, and the last epoch is always evaluated",
    "trainer.score_train": "only evaluates more images after each epoch",
    "trainer.threads": "changes the order of summation, so only rounding",
    "trainer.plots": "drawn after the run has ended",
    "trainer.checkpoint_every": "how much a kill loses",
    "trainer.checkpoint_epochs": "how much a kill loses",
}
"""Runs that differ only in these keys are the same experiment: `compare` does not list them among the varied keys.

Keys that change the numbers are not in the list: `trainer.device`, `trainer.engine` and `trainer.compile` (other random
numbers or kernels), `trainer.precision`, `trainer.deterministic`. Trackers and callbacks are not part of an experiment.
"""

"""The keys of schema.py and of the data sets that change no result, each with the reason. No torch."""

from __future__ import annotations

from collections.abc import Mapping

DATA_SOURCE_KEYS = ("data.root", "data.mirrors", "data.fallback")
"""Where the data came from."""
NO_EFFECT: Mapping[str, str] = {
    **dict.fromkeys(DATA_SOURCE_KEYS, "the same images wherever they come from: their SHA-256 is checked"),
    "name": "a label",
    "metrics": "measured beside training, on random numbers of their own",
    "trainer.sync_every": "when the host waits for the device",
    "trainer.evaluate_every": "evaluating uses no random numbers of training, and the last epoch is always evaluated",
    "trainer.score_train": "training images that are evaluated after each epoch",
    "trainer.threads": "the order of a sum's terms, so only its rounding",
    "trainer.plots": "drawn after the run has ended",
    "trainer.checkpoint_every": "how much a kill loses",
    "trainer.checkpoint_epochs": "how much a kill loses",
}
"""Runs that differ in these keys alone are the same experiment: `compare` leaves them out of what was varied.

Not in the list, as they change the numbers: `trainer.device`, `trainer.engine` and `trainer.compile` (other random
numbers or kernels), `trainer.precision`, `trainer.deterministic`. Trackers and callbacks are no part of an experiment.
"""

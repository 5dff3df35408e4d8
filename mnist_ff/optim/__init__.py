"""Optimizers, learning-rate schedules and the training objective."""

"""Optimizers, schedules and what training minimises."""

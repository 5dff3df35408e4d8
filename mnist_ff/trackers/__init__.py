"""Trackers: each tool hears the same facts of a run; see base.py."""

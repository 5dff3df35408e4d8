"""Rows of runs: ranking, statistics, tables, plots."""

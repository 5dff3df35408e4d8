"""Self-contained HTML reports of runs and sweeps, from the directories' files, without torch."""

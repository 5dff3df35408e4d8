"""What is true of many runs: the jobs of a sweep, their rows, the answer. No Hydra, no torch."""

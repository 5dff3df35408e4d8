"""What is true of many runs, without Hydra and without torch."""

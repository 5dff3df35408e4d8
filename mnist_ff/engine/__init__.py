"""How a training step is run."""

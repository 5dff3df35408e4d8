"""The training loop, the learner, callbacks, checkpoints and evaluation."""

"""Trackers: TensorBoard, MLflow, wandb. See base.py."""

"""Hydra to plain Python and back. Nothing outside this folder imports hydra."""

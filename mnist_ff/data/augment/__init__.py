"""Augmentations, one file each; build.py chooses, warp.py samples images at new places."""

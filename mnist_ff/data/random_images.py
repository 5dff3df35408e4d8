"""Random images in a data set's shape: a step takes the same time on any."""

from __future__ import annotations

import torch

from mnist_ff.data.load import Data, Split
from mnist_ff.runs.records import DataSpec


def random_images(spec: DataSpec, count: int) -> Data:
    """So many images with labels, to train and to test on, from a generator of their own."""
    rng, classes = torch.Generator().manual_seed(0), len(spec.classes)
    images = torch.randint(256, (count, *spec.shape), generator=rng, dtype=torch.uint8)
    split = Split(images, torch.randint(classes, (count,), generator=rng), classes)
    return Data("random images", split, split, spec=spec)

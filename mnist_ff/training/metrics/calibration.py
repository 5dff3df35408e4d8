"""metrics=[calibration]: do the predicted probabilities tell how often the predictions are right?"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Split

BINS = 15


@torch.no_grad()
def calibration(model: nn.Module, split: Split) -> dict[str, float]:
    """Expected calibration error and Brier score; lower is better.

    ece: 15 bins of equal width by the largest probability; the mean, over the images, of the difference between a bin's
    accuracy and its mean probability, 0 to 1 (Guo et al. 2017).
    brier: the mean of the squared distance between the probabilities and the one-hot label, 0 to 2 (Brier 1950).
    """
    totals = torch.zeros(BINS, 2, dtype=torch.float64, device=split.labels.device)
    brier = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    for images, labels in split.batches():
        probs = model(images).double().softmax(1)  # (B, C)
        confidence, predictions = probs.max(1)
        bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # a bin holds its upper edge
        facts = torch.stack([confidence, (predictions == labels).double()], 1)
        totals += F.one_hot(bins, BINS).double().T @ facts
        brier += (probs - F.one_hot(labels, probs.shape[1])).square().sum()
    gaps = (totals[:, 0] - totals[:, 1]).abs().sum()
    return {"ece": float(gaps) / len(split), "brier": float(brier) / len(split)}


register(Part("metric", "calibration", MetricConfig, calibration))

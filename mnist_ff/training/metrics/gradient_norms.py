"""metrics=[gradient_norms]: how large the gradients of each layer are."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mnist_ff.config.registry import Part, register
from mnist_ff.config.schema import MetricConfig
from mnist_ff.data.load import Split
from mnist_ff.training.metrics.weight_norms import norms_by_layer


def gradient_norms(model: nn.Module, split: Split) -> dict[str, float]:
    """The L2 norm of each layer's gradient: of the mean cross-entropy over the first 1,000 images, dropout off.

    A layer is any module with trainable parameters of its own. One that the logits do not depend on has the norm 0.
    """
    images, labels = next(split.batches())
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    loss = F.cross_entropy(model(images).float(), labels)
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return norms_by_layer(
        {
            name: torch.zeros_like(weight) if gradient is None else gradient
            for (name, weight), gradient in zip(trained.items(), gradients, strict=True)
        }
    )


register(Part("metric", "gradient_norms", MetricConfig, gradient_norms))

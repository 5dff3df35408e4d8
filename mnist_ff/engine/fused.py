"""The built-in network's training step without autograd and allocation, with one buffer for all gradients.

It does the same arithmetic as the eager step, on the same random bits. The scales of pixels and of dropout are folded
into the matrix products, which changes only the last digits.
"""

from __future__ import annotations

import torch

from mnist_ff.data.load import Split, as_input
from mnist_ff.engine.ops import Ops
from mnist_ff.engine.step import PLAIN_OPTIONS, StepOptions
from mnist_ff.engine.workspace import Buffers, FlatParameters, Workspace
from mnist_ff.models.mlp import MLP


class FusedBatch:
    """A batch step of an MLP: gather, forward, loss, backward and update, each done by `ops`."""

    def __init__(
        self, model: MLP, flat: FlatParameters, ops: Ops, split: Split, options: StepOptions = PLAIN_OPTIONS
    ) -> None:
        self._model, self._ops = model, ops
        self._objective, self._augment, self._updates = options.objective, options.augment, options.updates
        self._named = options.named
        self._images = split.images.flatten(1)  # (N, D) uint8, or float32 in [0, 1]
        self._as_stored = options.augment is None and model.input_noise.std == 0 and not options.objective.fgsm_eps
        self._buffers = Buffers(model, flat, options.precision, self._images.dtype, self._as_stored, ops)

    @torch.no_grad()
    def __call__(self, rows: torch.Tensor, labels: torch.Tensor, log_probs: torch.Tensor) -> None:
        """Train on `rows` (B,) with `labels` (B,). Write the log-probabilities, with dropout, to `log_probs` (B, K)."""
        space = self.space(rows.shape[0])
        self._buffers.load_weights()
        with self._named("load"):
            images = self._gather(space, rows)
        self._pass(space, images, labels, log_probs)
        if self._objective.fgsm_eps:
            assert images is not None
            adversaries = self._objective.adversaries(images, self._images_grad(space))
            self._pass(space, adversaries, labels, torch.empty_like(log_probs), accumulate=True)
        with self._named("update"):
            self._buffers.store_grads()
            if self._updates is not None:
                self._updates.before()
            self._ops.update()
            if self._updates is not None:
                self._updates.after()

    def space(self, batch: int) -> Workspace:
        """The tensors for this batch size."""
        return self._buffers.of(batch)

    def _gather(self, space: Workspace, rows: torch.Tensor) -> torch.Tensor | None:
        """Gather the batch. Returns its images (B, D) float32, augmented, or None to train on the stored pixels."""
        if self._as_stored and self._objective.teacher is None:
            self._ops.gather(self._images, rows, space)
            return None
        torch.index_select(self._images, 0, rows, out=space.pixels)
        if self._as_stored:
            space.inputs.copy_(space.pixels)
            return None
        images = as_input(space.pixels)
        if self._augment is None:
            return images
        with self._named("augment"):
            return self._augment(images)

    def _pass(
        self,
        space: Workspace,
        images: torch.Tensor | None,
        labels: torch.Tensor,
        log_probs: torch.Tensor,
        accumulate: bool = False,
    ) -> None:
        """Forward and backward pass of these images, or of the gathered pixels if None.

        accumulate: add to the gradient instead of replacing it.
        """
        *hidden, last = space.layers
        with self._named("forward"):
            self._ops.begin_pass(space)
            teacher_probs = self._make_inputs(space, images)
            for layer in hidden:
                self._ops.hidden(layer)
        with self._named("loss"):
            self._ops.loss(space, labels, teacher_probs, log_probs)
        with self._named("backward"):
            self._ops.param_grads(last, accumulate)
            for above, layer in zip(space.layers[:0:-1], hidden[::-1], strict=True):
                self._ops.act_backward(above, layer)
                self._ops.param_grads(layer, accumulate)
            self._ops.end_pass()

    def _make_inputs(self, space: Workspace, images: torch.Tensor | None) -> torch.Tensor | None:
        """Write the network's inputs. Returns the teacher's probabilities for them, (B, K), or None."""
        teacher = self._objective.teacher
        teacher_probs = None if teacher is None else teacher.probs(as_input(space.pixels) if images is None else images)
        if images is not None:
            if self._model.input_noise.std:
                images = images + self._model.input_noise.draw(torch.empty_like(images))
            space.inputs.copy_(images)
        if space.input_mask is not None:
            space.input_mask.draw(self._model.input_dropout)
        return teacher_probs

    def _images_grad(self, space: Workspace) -> torch.Tensor:
        """The gradient of the last pass with respect to its images (B, D), up to a positive factor."""
        first = space.layers[0]
        grad = first.grad @ first.weight
        if space.input_mask is not None:
            grad.view(space.input_mask.keep.dtype).bitwise_and_(space.input_mask.keep)
        return grad

"""The tutorial's arithmetic again, in plain numpy and float64, written from its formulas and not from the package."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def rmsprop(p: Array, g: Array, v: Array, lr: float, rho: float, eps: float) -> tuple[Array, Array]:
    """One update of Keras 0.3's RMSprop; returns the new parameter and the new second moment."""
    v = rho * v + (1 - rho) * g * g
    return p - lr * g / np.sqrt(v + eps), v


class Network:
    """Dense layers with ReLU, softmax cross-entropy, RMSprop; no dropout."""

    def __init__(self, weights: list[Array], biases: list[Array], lr: float, rho: float, eps: float) -> None:
        self.weights = [w.astype(np.float64) for w in weights]  # each (out, in)
        self.biases = [b.astype(np.float64) for b in biases]
        self.moments = [np.zeros_like(p) for p in [*self.weights, *self.biases]]
        self.rule = (lr, rho, eps)

    def step(self, x: Array, labels: Array) -> float:
        """Train on one batch, x (B, 784); return its mean loss before the update."""
        inputs, z = [], x.astype(np.float64)
        for index, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs.append(z)
            z = z @ w.T + b
            if index < len(self.weights) - 1:
                z = np.maximum(z, 0)
        z = z - z.max(axis=1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(p[rows, labels]).mean()
        delta = p.copy()
        delta[rows, labels] -= 1
        delta /= len(labels)
        gw: list[Array] = [np.empty(0)] * len(self.weights)
        gb = list(gw)
        for index in reversed(range(len(self.weights))):
            gw[index], gb[index] = delta.T @ inputs[index], delta.sum(axis=0)
            delta = (delta @ self.weights[index]) * (inputs[index] > 0)
        parameters, count = [*self.weights, *self.biases], len(self.weights)
        for index, (parameter, gradient) in enumerate(zip(parameters, gw + gb, strict=True)):
            parameters[index], self.moments[index] = rmsprop(parameter, gradient, self.moments[index], *self.rule)
        self.weights, self.biases = parameters[:count], parameters[count:]
        return float(loss)

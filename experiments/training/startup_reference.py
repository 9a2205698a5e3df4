"""What the canary must arrive at: softmax regression with momentum, in NumPy alone."""

from collections.abc import Mapping

import numpy as np


def trained(
    params: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    batch_size: int,
    learning_rate: float,
    beta: float,
) -> tuple[dict[str, np.ndarray], float]:
    """One pass in float64, v ← βv − αg and θ ← θ + v: the plainest loop there is.

    Args:
      params: `kernel` [pixels, classes] and `bias` [classes].
      images: [examples, …, …, …].
      labels: integers [examples].
      order: of the examples; the last batch is what is left of them.
      batch_size: examples a step.
      learning_rate: α.
      beta: β.

    Returns:
      The parameters at the end, and the mean loss of the batches, each before its step.
    """
    theta = {name: np.array(value, np.float64) for name, value in params.items()}
    velocity = {name: np.zeros_like(value) for name, value in theta.items()}
    loss = 0.0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        pixels = images[batch].reshape(len(batch), -1).astype(np.float64)
        logits = pixels @ theta["kernel"] + theta["bias"]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        likely = weights / weights.sum(axis=1, keepdims=True)
        truth = np.eye(len(theta["bias"]))[labels[batch]]
        loss -= np.log((likely * truth).sum(axis=1)).sum()
        slope = (likely - truth) / len(batch)
        gradients = {"kernel": pixels.T @ slope, "bias": slope.sum(axis=0)}
        for name, gradient in gradients.items():
            velocity[name] = beta * velocity[name] - learning_rate * gradient
            theta[name] += velocity[name]
    return theta, loss / len(order)

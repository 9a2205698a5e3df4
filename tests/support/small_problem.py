"""A regression with BatchNorm, Dropout and augmentation; 8 divides no split."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from experiments.problems import Metric, Problem, from_linen, from_nnx

RNG = np.random.default_rng(11)


def examples(count: int) -> dict[str, np.ndarray]:
    x = RNG.normal(size=(count, 5)).astype(np.float32)
    return {"x": x, "y": np.sin(x[:, 0] + 0.5 * x[:, 1]).astype(np.float32)}


TRAIN, VALIDATION, TEST = examples(29), examples(10), examples(7)
RMSE = Metric("squared_error", "RMSE", False, np.sqrt)


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(5, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.8, rngs=rngs)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        self.last = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = linen.Dense(16)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.8)(x)
        x = linen.Dropout(0.3, deterministic=not train)(linen.relu(x))
        return linen.Dense(1)(x)


def squared_errors(call, batch):
    errors = jnp.square(call(batch["x"])[:, 0] - batch["y"])
    return errors, {"squared_error": errors}


def jitter(key, batch):
    noise = 0.1 * jax.random.normal(key, batch["x"].shape)
    return {**batch, "x": batch["x"] + noise}


def small_problem(functions=None, augment=jitter) -> Problem:
    """A problem with the functions of the NNX module, unless others are given."""
    init, loss = functions or from_nnx(Net, squared_errors)
    return Problem("small", TRAIN, VALIDATION, TEST, init, loss, augment, RMSE)


def linen_functions():
    return from_linen(LinenNet(), squared_errors)

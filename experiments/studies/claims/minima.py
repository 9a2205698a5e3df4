"""Claim 3, "escapes local minima": from wrong basins to the one of the global minimum.

On a tilted double well and on a function of many basins, without noise and with noisy
gradients, at equal learning rate, at equal settled step, and each at its best step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from experiments.studies.claims.descent import descend
from experiments.studies.claims.verdict import Measured, Prediction, difference
from experiments.studies.lifecycle import OpenStudy

BETA = 0.9
ARMS = {"sgd": 0.0, "momentum": BETA}  # their betas
STEPS, SETTLING = 500, 400  # with and without noise
# Settled step times the largest curvature at a minimum: from 2 on SGD can't stay there.
EQUAL = 0.4
SCALED = tuple(EQUAL * 10 ** (k / 5) for k in range(-5, 9))


class Landscape(NamedTuple):
    """A function of x and y, and where paths on it start."""

    title: str
    formula: str
    value: Callable[[Any, Any], Any]
    curvature: float  # the largest at a minimum
    minimum: tuple[float, float]  # the global one
    low: tuple[float, float]  # starts are uniform between these two, …
    high: tuple[float, float]
    noise: float  # of the gradients, standard deviation per coordinate


def _double_well(x: Any, y: Any) -> Any:
    return (x**2 - 1) ** 2 + 0.3 * x + 2 * y**2


def _many_basins(x: Any, y: Any) -> Any:
    along = 0.5 * x**2 + 0.5 * (1 - jnp.cos(2 * jnp.pi * x))
    return along + 0.5 * y**2 + 0.5 * (1 - jnp.cos(2 * jnp.pi * y))


LANDSCAPES = {
    "well": Landscape(
        "Tilted double well",
        "(x² − 1)² + 0.3x + 2y²",
        _double_well,
        8.87,
        (-1.03558, 0.0),
        (0.3, -1.0),
        (1.6, 1.0),
        3.0,
    ),
    "basins": Landscape(
        "Many basins",
        "½r² + ½(1 − cos 2πx) + ½(1 − cos 2πy)",
        _many_basins,
        20.7,
        (0.0, 0.0),
        (-3.5, -3.5),
        (3.5, 3.5),
        4.0,
    ),
}
_COMPARED = {
    "equal_rate": "equal learning rate",
    "equal_step": "equal settled step",
    "tuned": "each at its best settled step",
}
FIXED = {
    "betas": ARMS,
    "steps": STEPS,
    "scaled_steps": SCALED,
    "landscapes": {
        key: {
            name: value
            for name, value in landscape._asdict().items()
            if name != "value"
        }
        for key, landscape in LANDSCAPES.items()
    },
}
PREDICTIONS = tuple(
    Prediction(
        f"{key}_{noise}_{how}",
        f"{landscape.title.lower()}, {noise} noise: share that ends in the global "
        f"basin, momentum − SGD, {words}",
        "above",
        0,
    )
    for key, landscape in LANDSCAPES.items()
    for noise in ("no", "gradient")
    for how, words in _COMPARED.items()
)


def measure(study: OpenStudy, budget: Any) -> dict[str, Any]:
    """All figures of the claim, as JSON values."""
    del study
    measured: dict[str, Any] = {"scaled": list(SCALED), "starts": budget.escapes}
    for number, (key, landscape) in enumerate(LANDSCAPES.items()):
        seed = [budget.seed, 3, number]
        starts = wrong_starts(landscape, budget.escapes, seed)
        for noise in ("no", "gradient"):
            drawn = noise_of(landscape, len(starts), seed) * np.float32(noise != "no")
            ended = {
                arm: escaped(landscape, b, starts, drawn) for arm, b in ARMS.items()
            }
            shares = {arm: own.mean(axis=1).tolist() for arm, own in ended.items()}
            measured[f"{key} {noise}"] = shares
            for how, each in compared(ended).items():
                measured[f"{key}_{noise}_{how}"] = each
    return measured


def compared(ended: dict[str, np.ndarray]) -> dict[str, Measured]:
    """Differences of shares, paired by start and noise.

    Each arm's best step is chosen on the even starts and judged on the odd ones.

    Args:
      ended: by arm, whether in the global basin: bool [settled steps, starts].
    """
    sgd, momentum = ended["sgd"], ended["momentum"]
    at_step = int(np.argmin(np.abs(np.array(SCALED) - EQUAL)))
    at_rate = int(np.argmin(np.abs(np.array(SCALED) - EQUAL / (1 - BETA))))
    best_sgd, best_momentum = (
        int(np.argmax(own[:, ::2].mean(axis=1))) for own in (sgd, momentum)
    )
    return {
        "equal_rate": difference(momentum[at_rate], sgd[at_step]),
        "equal_step": difference(momentum[at_step], sgd[at_step]),
        "tuned": difference(momentum[best_momentum, 1::2], sgd[best_sgd, 1::2]),
    }


def escaped(
    landscape: Landscape, beta: float, starts: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Whether paths end in the global basin: bool [settled steps, starts].

    That is where small steps without noise lead from the last point to the minimum;
    what diverges has left every basin.
    """
    settled = np.array(SCALED, np.float32) / np.float32(landscape.curvature)
    last = _last(landscape, settled, np.float32(beta), np.float32(starts), noise)
    return _in_global_basin(landscape, last)


@partial(jax.jit, static_argnums=0)
def _last(
    landscape: Landscape, settled: Array, beta: Array, starts: Array, noise: Array
) -> Array:
    """The last points of all paths, [settled steps, starts, 2]."""

    def last(settled: Array, start: Array, noise: Array) -> Array:
        gradient = slope(landscape)
        return descend(gradient, settled, beta, start, noise, lambda x: None)[0]

    of_starts = jax.vmap(last, (None, 0, 0))
    return jax.vmap(of_starts, (0, None, None))(settled, starts, noise)


def _in_global_basin(landscape: Landscape, points: ArrayLike) -> np.ndarray:
    """Whether small steps without noise lead to the global minimum: bool [...]."""
    flat = jnp.asarray(points, jnp.float32).reshape(-1, 2)
    small = np.full(1, 0.2 / landscape.curvature, np.float32)
    still = jnp.zeros((len(flat), SETTLING, 2))
    bottoms = _last(landscape, small, np.float32(0), flat, still)[0]
    distances = np.linalg.norm(np.asarray(bottoms) - landscape.minimum, axis=-1)
    return (distances < 0.1).reshape(np.shape(points)[:-1])


def slope(landscape: Landscape) -> Callable[[Array], Array]:
    """The gradient, of a point [2]."""
    return jax.grad(lambda point: landscape.value(point[0], point[1]))


def wrong_starts(landscape: Landscape, count: int, seed: list[int]) -> np.ndarray:
    """Uniform starts, [count, 2], from which small steps miss the global minimum."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(landscape.low, landscape.high, (2 * count, 2))
    return drawn[~_in_global_basin(landscape, drawn)][:count]


def noise_of(landscape: Landscape, starts: int, seed: list[int]) -> np.ndarray:
    """The gradients' noise of every start, which all arms share: [starts, steps, 2]."""
    rng = np.random.default_rng([*seed, 1])
    drawn = rng.standard_normal((starts, STEPS, 2), np.float32)
    return np.float32(landscape.noise) * drawn

"""The start-up check: before a run, its training step on a case with a known answer.

Compilers do make mistakes: jaxlib 0.10.2 was seen to confuse rows on CPUs
(jax-ml/jax#39103), and 0.11.0 to answer in two ways (jax-ml/jax#39741).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float32, Int, PyTree

from experiments.data.examples import Examples, in_batches
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, on_all_devices, slice_size
from experiments.problems.image_classification import image_classification
from experiments.records.config import UsageError
from experiments.records.runs import environment
from experiments.training.lanes import as_lane
from experiments.training.mesh_steps import run_on_mesh
from experiments.training.points import Point, as_arrays
from experiments.training.scoring import Score
from experiments.training.step import TrainSpec, TrainState, constant
from optax_momentum import keras

_LEARNING_RATE, _BETA, _BATCH, _CLASSES = 0.3, 0.7, 40, 3
_EXAMPLES = 90  # not a multiple of the batch, which a CPU takes in slices
_TOLERANCE = 1e-5  # float32 comes within 1e-6
_CALLS = 3
_MOMENTUM = keras(_LEARNING_RATE, _BETA)


class StartupCheck(NamedTuple):
    """The result of the check, for the record of a run."""

    largest_error: float  # in parameters and mean loss, which are of order 1
    repeats_equal: bool  # whether three calls agree bit by bit
    seconds: float  # for the whole check, compilation included


class _Case(NamedTuple):
    """Data and initial parameters, and the result of one pass."""

    images: Float32[np.ndarray, "image height width channel"]
    labels: Int[np.ndarray, " image"]
    order: Int[np.ndarray, " image"]
    params: PyTree
    expected: tuple[dict[str, np.ndarray], float]  # trained parameters, mean loss


class _SoftmaxRegression:
    """A `Network` whose products are exact to float32 on every kind of device."""

    @staticmethod
    def init(key: jax.Array, image_shape: tuple[int, int, int], classes: int) -> PyTree:
        del key
        kernel = jnp.zeros((np.prod(image_shape), classes), jnp.float32)
        return {"kernel": kernel, "bias": jnp.zeros(classes, jnp.float32)}

    @staticmethod
    def apply(params: PyTree, images: jax.Array) -> jax.Array:
        pixels = images.reshape(len(images), -1)
        logits = jnp.dot(pixels, params["kernel"], precision="highest")
        return logits + params["bias"][None]


def check(transformation: optax.GradientTransformation = _MOMENTUM) -> StartupCheck:
    """Trains a tiny case on all devices, three times, and compares it with NumPy.

    Args:
      transformation: must be Keras's momentum.

    Raises:
      UsageError: a figure is wrong, or differs between the calls.
    """
    start = time.perf_counter()
    case = _case()
    train = _training(case, transformation)
    calls: list[TrainState] = [jax.device_get(train()) for _ in range(_CALLS)]
    error = float(np.max([_largest_error(call, case.expected) for call in calls]))
    if not error <= _TOLERANCE:  # nor NaN
        _refuse(f"steps of training differ from NumPy's by {error:.3g}")
    if any(_bits(call) != _bits(calls[0]) for call in calls):
        _refuse(f"{_CALLS} equal calls of one program gave results that differ")
    return StartupCheck(error, True, time.perf_counter() - start)


def _training(
    case: _Case, transformation: optax.GradientTransformation
) -> Callable[[], TrainState]:
    """A function that trains the case from its start."""
    train = Examples(*on_all_devices((case.images, case.labels)))
    init, zero = jax.jit(transformation.init), jax.device_put(np.float32(0))

    def call() -> TrainState:
        start = TrainState(case.params, init(case.params), Score(zero, zero))
        state = _take_all_steps(
            transformation, on_all_devices(as_lane(start)), case.order, train
        )
        return jax.tree.map(lambda x: x[0], state)

    return call


@partial(QuickJit, static_argnums=0)
def _take_all_steps(
    transformation: optax.GradientTransformation,
    state: TrainState,
    order: PyTree,
    train: Examples,
) -> TrainState:
    """The steps of an epoch, compiled as those of every run, but in a given order.

    A run draws its order by a program that would be compiled for this check alone.
    """
    task = image_classification(_SoftmaxRegression, _CLASSES)  # type: ignore[arg-type]
    spec = TrainSpec(constant(transformation), _BATCH, task)
    devices = jax.device_count()
    rows = in_batches(order, _BATCH, devices * slice_size(_BATCH, devices))
    points = as_arrays([Point(_LEARNING_RATE, _BETA, 0)])
    steps = jnp.int32(0), jnp.int32(len(rows[0]))
    return run_on_mesh(spec, device_mesh(), points, state, as_lane(rows), *steps, train)


def _case() -> _Case:
    random = np.random.default_rng(7)
    images = random.random((_EXAMPLES, 4, 4, 1), np.float32)
    labels = random.integers(0, _CLASSES, _EXAMPLES, np.int32)
    params = {
        "kernel": random.normal(size=(16, _CLASSES)).astype(np.float32),
        "bias": random.normal(size=_CLASSES).astype(np.float32),
    }
    order = random.permutation(_EXAMPLES).astype(np.int32)
    expected = reference(params, images, labels, order, _BATCH, _LEARNING_RATE, _BETA)
    return _Case(images, labels, order, params, expected)


def _largest_error(call: TrainState, expected: PyTree) -> float:
    """In all parameters and the mean loss; NaN if one of them is NaN."""
    found = call.params, call.sums.loss / _EXAMPLES
    differences = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), found, expected)
    return float(np.max(jax.tree.leaves(differences)))


def _bits(call: TrainState) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(call)]


def _refuse(what: str) -> None:
    """Raises an error that says what is wrong, on which system, and what to do."""
    device, versions = jax.devices()[0], environment()
    cache = jax.config.values["jax_compilation_cache_dir"]
    emptied = f"empty the cache of programs, {cache}, or " if cache else ""
    raise UsageError(
        f"the start-up check failed, with jax {versions['jax']} and jaxlib "
        f"{versions['jaxlib']} on {jax.device_count()} × {device.platform}: "
        f"{device.device_kind}: {what}. Nothing was trained, because no number "
        f"could be trusted: {emptied}install another version, for example with pip "
        f'install "jax!={versions["jax"]}", and report the error at '
        "github.com/jax-ml/jax/issues."
    )


def reference(
    params: Mapping[str, np.ndarray],
    images: Float32[np.ndarray, "image height width channel"],
    labels: Int[np.ndarray, " image"],
    order: Int[np.ndarray, " image"],
    batch_size: int,
    learning_rate: float,
    beta: float,
) -> tuple[dict[str, np.ndarray], float]:
    """One pass in NumPy float64, v ← βv − αg and θ ← θ + v, as the plainest loop.

    Args:
      params: `kernel` [pixels, classes] and `bias` [classes].
      images: [examples, …, …, …].
      labels: integers [examples].
      order: of the examples; the last batch holds the rest.
      batch_size: examples a step.
      learning_rate: α.
      beta: β.

    Returns:
      The trained parameters, and the mean loss of the batches, each before its step.
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

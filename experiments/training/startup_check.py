"""The canary: before a run, its own training step on a case whose answer is known.

Compilers do get it wrong: jaxlib 0.10.2 was seen to take rows for others on CPUs
(jax-ml/jax#39103), and 0.11.0 to answer in two ways (jax-ml/jax#39741).
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from experiments.data.examples import Examples, in_batches
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh, on_all_devices, slice_size
from experiments.records.config import UsageError
from experiments.records.runs import environment
from experiments.training import startup_reference
from experiments.training.scoring import Score
from experiments.training.train import Underway, share_out
from optax_momentum import keras

_LEARNING_RATE, _BETA, _BATCH, _CLASSES = 0.3, 0.7, 40, 3
_EXAMPLES = 90  # no multiple of the batch; and a CPU takes a batch in slices
_TOLERANCE = 1e-5  # float32 comes within 1e-6
_CALLS = 3
_MOMENTUM = keras(_LEARNING_RATE, _BETA)


class Canary(NamedTuple):
    """What the check found, for the record of a run."""

    largest_error: float  # of parameters and mean loss, which are of order 1
    repeats_equal: bool  # three calls, bit by bit
    seconds: float  # of the whole check, with compilation


class _Case(NamedTuple):
    """Data and initial parameters, and what they are after one pass."""

    images: np.ndarray
    labels: np.ndarray
    order: np.ndarray
    params: dict[str, np.ndarray]
    expected: tuple[dict[str, np.ndarray], float]  # parameters, mean loss


class _SoftmaxRegression:
    """A `Network` whose products are exact to float32 on every kind of device."""

    @staticmethod
    def init(key: jax.Array, image_shape: tuple[int, int, int], classes: int) -> Any:
        del key
        kernel = jnp.zeros((np.prod(image_shape), classes))
        return {"kernel": kernel, "bias": jnp.zeros(classes)}

    @staticmethod
    def apply(params: Any, images: jax.Array) -> jax.Array:
        pixels = images.reshape(len(images), -1)
        logits = jnp.dot(pixels, params["kernel"], precision="highest")
        return logits + params["bias"][None]


def check(transformation: optax.GradientTransformation = _MOMENTUM) -> Canary:
    """Trains a tiny case on all devices: against NumPy, and three times over.

    Args:
      transformation: what must be momentum as Keras has it.

    Raises:
      UsageError: a figure is wrong, or not the same each time.
    """
    start = time.perf_counter()
    case = _case()
    train = _training(case, transformation)
    calls: list[Underway] = [jax.device_get(train()) for _ in range(_CALLS)]
    error = float(np.max([_largest_error(call, case.expected) for call in calls]))
    if not error <= _TOLERANCE:  # nor NaN
        _refuse(f"steps of training differ from NumPy's by {error:.3g}")
    if any(_bits(call) != _bits(calls[0]) for call in calls):
        _refuse(f"{_CALLS} equal calls of one program gave results that differ")
    return Canary(error, True, time.perf_counter() - start)


def _training(
    case: _Case, transformation: optax.GradientTransformation
) -> Callable[[], Underway]:
    """A call trains the case anew."""
    train = Examples(*on_all_devices((case.images, case.labels)))
    init, zero = jax.jit(transformation.init), jax.device_put(np.float32(0))

    def call() -> Underway:
        start = case.params, init(case.params), Score(zero, zero)
        underway = Underway(*on_all_devices(start))
        return _take_all_steps(transformation, underway, case.order, train)

    return call


@partial(QuickJit, static_argnums=0)
def _take_all_steps(
    transformation: optax.GradientTransformation,
    underway: Underway,
    order: Any,
    train: Examples,
) -> Underway:
    """An epoch's steps, compiled as every run's own, but in an order that is given.

    A run draws its own, by a program that would be compiled for this check alone.
    """
    devices, own = jax.device_count(), (_SoftmaxRegression, transformation, _BATCH)
    rows = in_batches(order, _BATCH, devices * slice_size(_BATCH, devices))
    first, last = jnp.int32(0), jnp.int32(len(rows[0]))
    own = *own, None, device_mesh(), PartitionSpec()
    return share_out(*own, underway, rows, first, last, train)


def _case() -> _Case:
    random = np.random.default_rng(7)
    images = random.random((_EXAMPLES, 4, 4, 1), np.float32)
    labels = random.integers(0, _CLASSES, _EXAMPLES, np.int32)
    params = {
        "kernel": random.normal(size=(16, _CLASSES)).astype(np.float32),
        "bias": random.normal(size=_CLASSES).astype(np.float32),
    }
    order = random.permutation(_EXAMPLES).astype(np.int32)
    expected = startup_reference.trained(
        params, images, labels, order, _BATCH, _LEARNING_RATE, _BETA
    )
    return _Case(images, labels, order, params, expected)


def _largest_error(call: Underway, expected: Any) -> float:
    """Of all parameters and of the mean loss; NaN where one of them is."""
    found = call.params, call.sums.loss / _EXAMPLES
    differences = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), found, expected)
    return float(np.max(jax.tree.leaves(differences)))


def _bits(call: Underway) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(call)]


def _refuse(what: str) -> None:
    """Raises the one line that is to be told."""
    device, versions = jax.devices()[0], environment()
    cache = jax.config.values["jax_compilation_cache_dir"]
    emptied = f"empty {cache}, where compiled programs are kept, or " if cache else ""
    raise UsageError(
        f"the start-up check failed, with jax {versions['jax']} and jaxlib "
        f"{versions['jaxlib']} on {jax.device_count()} × {device.platform}: "
        f"{device.device_kind}: {what}. Nothing was trained, as no number could be "
        f'trusted: {emptied}install another version, as by pip install "jax!='
        f'{versions["jax"]}", and report it at github.com/jax-ml/jax/issues.'
    )

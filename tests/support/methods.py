"""The table of methods that the tests run over: a new row gets every test."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from support import reference

from optax_momentum import aggmo, ema, heavy_ball, keras, nesterov, qhm, sgd
from optax_momentum._methods import momentum


class Method(NamedTuple):
    """A method, at settings at which it differs from all other methods."""

    # beta: a number, a tracer or a schedule
    build: Callable[..., optax.GradientTransformation]
    # gradients, beta → updates and buffers of every step
    reference: Callable[..., tuple[np.ndarray, np.ndarray]]


def momentum_states(state) -> list[Any]:
    """Returns every `MomentumState` in a state, typed as `Any` to read its buffer."""
    return list(momentum.momentum_states(state))


def buffers(state) -> list[Any]:
    """Returns the buffers in a state, each a tree like the parameters."""
    return [momentum_state.buffer for momentum_state in momentum_states(state)]


RATES = 0.3 / (1 + 0.25 * np.arange(100))


def falling_rate(step):
    """Returns RATES[step]: the learning rate of the methods that include one."""
    return 0.3 / (1 + 0.25 * jnp.asarray(step, float))


def _sgd_reference(gradients, beta, **options):
    updates, buffers = reference.heavy_ball(gradients, beta, **options)
    rates = RATES[: len(gradients)].reshape(-1, *[1] * (updates.ndim - 1))
    return -rates * updates, buffers


def _keras_reference(gradients, beta, **options):
    return reference.keras(gradients, RATES[: len(gradients)], beta, **options)


def _nesterov_reference(gradients, beta):
    return reference.nesterov(gradients, RATES[: len(gradients)], beta)


def _aggmo(beta, **options):
    return aggmo([0.6, beta, 0, 0.6], **options)


def _aggmo_reference(gradients, beta):
    updates, buffers = reference.aggmo(gradients, [0.6, beta, 0, 0.6])
    return updates, buffers[:, [0, 1, 3]]


def _method(build, reference, **options) -> Method:
    return Method(partial(build, **options), partial(reference, **options))


_keras, _sgd = partial(keras, falling_rate), partial(sgd, falling_rate)
METHODS = {
    "aggmo": Method(_aggmo, _aggmo_reference),
    "ema": Method(ema, reference.ema),
    "ema, debiased": _method(ema, reference.ema, debias=True),
    "heavy_ball": Method(heavy_ball, reference.heavy_ball),
    "heavy_ball, dampened": _method(heavy_ball, reference.heavy_ball, dampening=0.3),
    "heavy_ball, nesterov": _method(heavy_ball, reference.heavy_ball, nesterov=True),
    "keras": Method(_keras, _keras_reference),
    "keras, nesterov": _method(_keras, _keras_reference, nesterov=True),
    "keras, corrected": _method(_keras, _keras_reference, momentum_correction=True),
    "keras, nesterov, corrected": _method(
        _keras, _keras_reference, nesterov=True, momentum_correction=True
    ),
    "nesterov": Method(partial(nesterov, falling_rate), _nesterov_reference),
    "qhm": _method(qhm, reference.qhm, nu=0.35),
    "sgd": Method(_sgd, _sgd_reference),
    "sgd, nesterov": _method(_sgd, _sgd_reference, nesterov=True),
}

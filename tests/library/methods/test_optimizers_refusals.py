"""What `sgd` refuses, and in which words."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optax_momentum import heavy_ball, sgd


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -0.1}, "sgd: learning_rate must lie in [0, inf), got -0.1."),
        ({"learning_rate": np.nan}, "sgd: learning_rate must lie in [0, inf), got nan"),
        ({"beta": 1.0}, "sgd: beta must lie in [0, 1), got 1.0."),
        ({"dampening": 1.5}, "sgd: dampening must lie in [0, 1], got 1.5."),
        ({"weight_decay": -0.1}, "sgd: weight_decay must lie in [0, inf), got -0.1."),
        ({"weight_decay": np.nan}, "sgd: weight_decay must lie in [0, inf), got nan."),
        ({"weight_decay": jnp.asarray(-2.5)}, "[0, inf), got -2.5. It shrinks the"),
        (
            {"decay": "l2"},
            "sgd: decay must be 'coupled' (PyTorch's), 'decoupled' (Keras's, AdamW's) "
            "or 'independent' (of the learning rate), got 'l2'.",
        ),
        ({"nesterov": 0.5}, "sgd: nesterov must be True or False, got 0.5."),
        ({"maximize": 2}, "sgd: maximize must be True or False, got 2."),
        (
            {"nesterov": True, "dampening": 0.3},
            "sgd: nesterov=True needs dampening=0, got 0.3;",
        ),
        (
            {"beta": None, "nesterov": True},
            "sgd: nesterov=True needs a beta, got None. Pass beta=0.9.",
        ),
        (
            {"beta": None, "dampening": 0.3},
            "sgd: dampening=0.3 needs beta > 0, got None; without momentum PyTorch ",
        ),
        ({"beta": 0, "dampening": 0.3}, "sgd: dampening=0.3 needs beta > 0, got 0;"),
    ],
)
def test_sgd_refuses(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sgd(**{"learning_rate": 0.1, "beta": 0.9, **options})


def test_sgd_refuses_a_bad_schedule_at_the_first_update():
    params = jnp.zeros(2)
    for name in ("learning_rate", "beta", "weight_decay"):
        arguments: Any = {"learning_rate": 0.1, name: lambda step: -1.5}
        optimizer = sgd(**arguments)
        with pytest.raises(ValueError, match=f"sgd: {name} must lie in .* got -1.5"):
            optimizer.update(params, optimizer.init(params), params)


def test_sgd_needs_the_parameters_to_decay_them():
    optimizer = sgd(0.1, 0.9, weight_decay=0.01)
    message = "sgd with weight_decay: update needs the parameters, got params=None."
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.update(jnp.ones(2), optimizer.init(jnp.ones(2)))


def test_sgd_refuses_the_state_of_another():
    with pytest.raises(TypeError, match="must be a MomentumState, got dict"):
        sgd(0.1).update(jnp.ones(2), {"step": 0})
    chained: Any = optax.chain(heavy_ball(0.9)).init(jnp.ones(2))
    with pytest.raises(TypeError, match="must be a MomentumState, got tuple"):
        sgd(0.1, 0.9).update(jnp.ones(2), chained)


@pytest.mark.parametrize("beta", [None, 0.9])
def test_sgd_refuses_gradients_that_are_not_of_its_parameters(beta):
    optimizer = sgd(0.1, beta, weight_decay=0.1)
    params = {"w": jnp.ones((3, 1))}
    state = optimizer.init(params)
    for gradient, error, message in [
        (jnp.ones(3), ValueError, "updates['w'] has shape (3,)"),
        (jnp.ones((3, 1), jnp.int32), TypeError, "updates['w'] is of type int32"),
        (jnp.ones((3, 1), jnp.complex64), TypeError, "an imaginary part would be lost"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            optimizer.update({"w": gradient}, state, params)
    with pytest.raises(TypeError, match=re.escape("updates['w'] is of type int32")):
        plain = sgd(0.1, beta)
        plain.update({"w": jnp.ones((3, 1), jnp.int32)}, plain.init(params))

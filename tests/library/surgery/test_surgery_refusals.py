"""States, leaves, factors and conventions on which surgery is refused."""

import re
from typing import Any

import jax.numpy as jnp
import optax
import pytest

from optax_momentum import (
    ema,
    ema_coefficients,
    heavy_ball_coefficients,
    keras_coefficients,
)
from optax_momentum._surgery.surgery import (
    change_convention,
    rescale_momentum,
    reset_momentum,
)

STATE: Any = ema(0.83).init({"body": jnp.ones(3), "head": jnp.ones(5)})


def test_a_state_without_momentum_is_refused():
    state = optax.sgd(0.1, momentum=0.9).init(jnp.ones(3))
    both = ema_coefficients(0.9)
    for call, operate in [
        ("reset_momentum", reset_momentum),
        ("rescale_momentum", lambda state: rescale_momentum(state, 0.5)),
        ("change_convention", lambda state: change_convention(state, both, both)),
    ]:
        message = f"{call}: there is no MomentumState in the state, a tuple. Pass the"
        with pytest.raises(ValueError, match=re.escape(message)):
            operate(state)


def test_a_tree_of_bools_that_does_not_fit_is_refused():
    for operate in (reset_momentum, lambda s, w: rescale_momentum(s, 0.5, w)):
        with pytest.raises(
            ValueError, match="one bool for each leaf or subtree of the"
        ):
            operate(STATE, {"body": True, "feet": False})


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_factor_that_is_not_finite_is_refused(wrong):
    message = f"rescale_momentum: factor must be finite, got {wrong}. To clear m, use "
    with pytest.raises(ValueError, match=re.escape(message)):
        rescale_momentum(STATE, wrong)
    with pytest.raises(TypeError, match="rescale_momentum: factor must be a number"):
        rescale_momentum(STATE, "0.5")  # pyright: ignore[reportArgumentType]


def test_another_beta_is_refused():
    message = (
        "change_convention: beta must be equal in `old` and `new`, got 0.83 and 0.9"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        change_convention(STATE, ema_coefficients(0.83), heavy_ball_coefficients(0.9))


def test_a_unit_that_no_gradient_tells_is_refused():
    message = "change_convention: the gain of `old` must not be 0, got 0.0."
    with pytest.raises(ValueError, match=re.escape(message)):
        change_convention(STATE, keras_coefficients(0, 0.83), ema_coefficients(0.83))

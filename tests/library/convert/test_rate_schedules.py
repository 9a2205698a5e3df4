"""Learning-rate schedules against those that PyTorch and Keras recorded."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import load
from jax.example_libraries.optimizers import piecewise_constant

from optax_momentum import convert
from optax_momentum.convert import (
    keras_cosine_decay,
    keras_inverse_time_decay,
    keras_piecewise_constant,
    keras_polynomial_decay,
    pytorch_cosine_annealing,
    pytorch_cyclic,
    pytorch_one_cycle,
    pytorch_warm_restarts,
    stepped_per_epoch,
)

GOLDEN = load("schedules").runs
A = 0.3  # the recorded optimizer's rate

# What this library's documentation says for each scheduler.
RATES = {
    "step": lambda: optax.exponential_decay(A, 4, 0.3, staircase=True),
    "multi_step": lambda: optax.piecewise_constant_schedule(
        A, {3: 0.2, 9: 0.2, 10: 0.2}
    ),
    "exponential": lambda: optax.exponential_decay(A, 1, 0.9),
    "linear": lambda: optax.linear_schedule(0.25 * A, 0.75 * A, 7),
    "polynomial": lambda: optax.polynomial_schedule(A, 0.0, 1.7, 9),
    "cosine": lambda: pytorch_cosine_annealing(A, 9, 0.02),
    "warm_restarts": lambda: pytorch_warm_restarts(A, 5, eta_min=0.02),
    "warm_restarts_longer": lambda: pytorch_warm_restarts(A, 3, 2),
    "sequential": lambda: optax.join_schedules(
        [optax.linear_schedule(0.1 * A, A, 5), pytorch_cosine_annealing(A, 9)], [5]
    ),
    "lambda": lambda: lambda step: A * (1 / (1 + step)),
    "keras_exponential": lambda: optax.exponential_decay(0.3, 4, 0.7),
    "keras_exponential_staircase": lambda: optax.exponential_decay(
        0.3, 4, 0.7, staircase=True
    ),
    "keras_cosine": lambda: keras_cosine_decay(0.3, 9, 0.1),
    "keras_cosine_warmup": lambda: keras_cosine_decay(
        0.1, 9, 0.1, warmup_target=0.4, warmup_steps=4
    ),
    "keras_piecewise": lambda: keras_piecewise_constant(
        {3: 0.3, 9: 0.1, math.inf: 0.02}
    ),
    "keras_inverse_time": lambda: keras_inverse_time_decay(0.3, 4, 0.5),
    "keras_inverse_time_staircase": lambda: keras_inverse_time_decay(
        0.3, 4, 0.5, staircase=True
    ),
    "keras_polynomial": lambda: keras_polynomial_decay(0.3, 9, 0.02, 1.5),
    "keras_polynomial_cycle": lambda: keras_polynomial_decay(
        0.3, 5, 0.02, 1.5, cycle=True
    ),
}
CYCLES = {
    "one_cycle": lambda: pytorch_one_cycle(0.5, 23),
    "one_cycle_linear": lambda: pytorch_one_cycle(
        0.5,
        23,
        pct_start=0.4,
        linear=True,
        base_beta=0.7,
        max_beta=0.9,
        div_factor=10,
        final_div_factor=100,
    ),
    "one_cycle_three_phase": lambda: pytorch_one_cycle(0.5, 23, three_phase=True),
    "cyclic": lambda: pytorch_cyclic(0.1, 0.5, 4, 3),
    "cyclic_triangular2": lambda: pytorch_cyclic(
        0.1, 0.5, 4, scale_of_cycle=lambda cycle: 0.5 ** (cycle - 1)
    ),
    "cyclic_exp_range": lambda: pytorch_cyclic(
        0.1, 0.5, 4, scale_of_step=lambda step: 0.9**step
    ),
}

pytestmark = pytest.mark.usefixtures("float64")


def values(schedule, steps):
    """At each step, traced, as an optimizer evaluates it."""
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedules need it
        return jax.jit(jax.vmap(schedule))(jnp.arange(steps, dtype=jnp.int64))


def test_every_recorded_schedule_is_compared():
    assert {*RATES, *CYCLES} == {*GOLDEN}


@pytest.mark.parametrize("name", RATES)
def test_rates_equal_the_recorded_ones(name):
    recorded = GOLDEN[name]["rates"]
    found = values(RATES[name](), len(recorded))
    # Some are powers that PyTorch takes as products, one a step.
    np.testing.assert_allclose(found, recorded, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("name", CYCLES)
def test_rates_and_momentum_cycle_as_recorded(name):
    recorded, cycled = GOLDEN[name], CYCLES[name]()
    steps = len(recorded["rates"])
    rates, betas = (values(schedule, steps) for schedule in cycled)
    np.testing.assert_allclose(rates, recorded["rates"], rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(betas, recorded["betas"], rtol=1e-12)
    assert np.ptp(recorded["betas"]) > 0.06


def test_a_scheduler_that_is_stepped_once_an_epoch():
    schedule = stepped_per_epoch(optax.piecewise_constant_schedule(1.0, {2: 0.5}), 3)
    np.testing.assert_array_equal(values(schedule, 8), [1, 1, 1, 1, 1, 1, 0.5, 0.5])


def test_the_boundaries_of_three_libraries():
    """Optax, as PyTorch, changes at the boundary; Keras and JAX one step later."""
    at_boundary = [1, 1, 1, 0.5, 0.5, 0.5]
    one_step_later = [1, 1, 1, 1, 0.5, 0.5]
    for schedule, expected in [
        (optax.piecewise_constant_schedule(1.0, {3: 0.5}), at_boundary),
        (keras_piecewise_constant({3: 1.0, math.inf: 0.5}), one_step_later),
        (piecewise_constant([3], [1.0, 0.5]), one_step_later),
    ]:
        np.testing.assert_array_equal(values(schedule, 6), expected)


def test_warm_restarts_are_exact_at_their_steps():
    """A logarithm would round just below the restarts of long periods."""
    rate: Any = pytorch_warm_restarts(1.0, 7, 3)
    starts = [7 * (3**n - 1) // 2 for n in range(17)]
    assert all(float(rate(jnp.int64(step))) == 1 for step in starts)
    assert all(float(rate(jnp.int64(step - 1))) < 0.06 for step in starts[1:])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: convert.pytorch_cosine_annealing(1.0, 0),
            "t_max must lie in (0, inf)",
        ),
        (lambda: convert.pytorch_warm_restarts(1.0, 5, 0), "t_mult must be at least 1"),
        (lambda: convert.pytorch_one_cycle(1.0, 1), "total_steps must be at least 2"),
        (
            lambda: convert.pytorch_one_cycle(1.0, 9, pct_start=1.0),
            "pct_start must lie",
        ),
        (
            lambda: convert.pytorch_cyclic(0.1, 1.0, 0),
            "step_size_up must be at least 1",
        ),
        (
            lambda: convert.stepped_per_epoch(lambda _: 1.0, 0),
            "steps_per_epoch must be",
        ),
        (lambda: convert.keras_polynomial_decay(1.0, -1), "decay_steps must lie in"),
        (lambda: convert.keras_piecewise_constant({3: 1.0}), "a value for math.inf"),
    ],
)
def test_what_is_out_of_range_is_refused(build, message):
    with pytest.raises(ValueError) as error:
        build()
    assert message in str(error.value)

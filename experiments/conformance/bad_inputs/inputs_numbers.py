"""Bad inputs 1 to 12: numbers and schedules that an optimizer is built of."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.conformance.bad_inputs.expectations import (
    BETA,
    described,
    expect_refused,
    of_ones,
)
from experiments.conformance.bad_inputs.modes import Mode, built_inside
from experiments.conformance.bad_inputs.systems import Build, System
from optax_momentum.testing import (
    DoesNotApply,
    expect,
    expect_close,
    expect_same_bits,
    trees,
)
from optax_momentum.testing.refusals import ARGUMENT


def a_negative_beta(system: System, mode: Mode) -> None:
    """Refused, naming beta; `linear_momentum` takes it, for the momentum of games."""
    _expect_beta_refused(system, mode, -0.5)
    _expect_unchecked(system, mode, -0.5, [1.0, 0.5, 0.75])


def a_beta_of_one(system: System, mode: Mode) -> None:
    """Refused, naming beta; `linear_momentum` takes it, as the sum that it is."""
    _expect_beta_refused(system, mode, 1.0)
    _expect_unchecked(system, mode, 1.0, [1.0, 2.0, 3.0])


def a_beta_above_one(system: System, mode: Mode) -> None:
    """Refused, naming beta: it diverges."""
    _expect_beta_refused(system, mode, 1.5)


def a_beta_of_nan_or_infinity(system: System, mode: Mode) -> None:
    """Refused, naming beta."""
    for beta in (np.nan, np.inf):
        _expect_beta_refused(system, mode, beta)


def a_beta_that_is_an_array_or_traced(system: System, mode: Mode) -> None:
    """Works as the number does; of a traced one, the value is trusted."""
    want = of_ones(mode(system.heavy_ball(BETA)))
    array = mode(built_inside(lambda: system.heavy_ball(jnp.asarray(BETA))))
    expect_close("beta as an array", of_ones(array), want, 1e-6)

    @jax.jit
    def traced(beta: Any) -> Any:
        return of_ones(mode(system.heavy_ball(beta)))

    expect_close("beta traced", traced(BETA), want, 1e-6)
    expect_close("a traced beta of 1.5", traced(1.5), [1.0, 2.5, 4.75], 1e-6)


def a_beta_of_several_numbers(system: System, mode: Mode) -> None:
    """Refused, naming beta; under `jax.vmap` each lane has its own."""
    betas = jnp.asarray([0.5, BETA])
    _expect_beta_refused(system, mode, betas)
    lanes = jax.vmap(lambda beta: of_ones(mode(system.heavy_ball(beta))))(betas)
    for lane, beta in zip(lanes, betas, strict=True):
        want = of_ones(mode(system.heavy_ball(float(beta))))
        expect_close(f"the lane of {beta}", lane, want, 1e-6)


def a_beta_of_numpy_in_float64(system: System, mode: Mode) -> None:
    """Cast: bfloat16 gradients give, in bfloat16, what a Python number gives."""
    gradients = jnp.asarray([0.3, -1.7, 0.9], jnp.bfloat16)

    def updates(beta: Any) -> Any:
        transformation = mode(built_inside(partial(system.heavy_ball, beta)))
        state = transformation.init(gradients[0])
        return trees.run(transformation.update, state, gradients, gradients[0])[0]

    expect_same_bits("the updates", updates(np.float64(BETA)), updates(BETA))


def a_beta_of_the_integer_zero(system: System, mode: Mode) -> None:
    """Plain SGD, bit for bit."""
    params = trees.default_params()
    gradients = trees.gradients_like(params, steps=3)
    got, want = (
        trees.run(optimizer.update, optimizer.init(params), gradients, params)[0]
        for optimizer in (mode(system.sgd(0.1, 0)), mode(system.sgd(0.1, None)))
    )
    expect_same_bits("the updates", got, want)


def a_beta_that_float32_hardly_tells_from_one(system: System, mode: Mode) -> None:
    """1 − 2⁻²⁴, 1 − 10⁻⁷: 1 − β keeps its digits; a debiased average of ones is 1."""
    for share in (2**-24, 1e-7):
        beta, steps = 1 - share, np.arange(1, 4)
        plain = of_ones(mode(system.average(beta, debias=False)))
        expect_close("the average of ones", plain, 1 - beta**steps, 1e-6)
        debiased = of_ones(mode(system.average(beta, debias=True)))
        expect_close("the debiased average of ones", debiased, np.ones(3), 1e-6)


def nesterov_with_dampening(system: System, mode: Mode) -> None:
    """Refused, naming dampening, as in PyTorch."""
    if system.dampened is None:
        raise DoesNotApply(f"{system.name} has no dampening")
    expect_refused(("dampening",), _built(mode, system.dampened, BETA))


def a_learning_rate_below_zero_or_nan(system: System, mode: Mode) -> None:
    """Refused, naming learning_rate: it would climb, or make NaN of everything."""
    for learning_rate in (-0.1, np.nan):
        build = partial(system.sgd, beta=BETA)
        expect_refused(("learning_rate",), _built(mode, build, learning_rate))


def a_schedule_of_other_dtypes(system: System, mode: Mode) -> None:
    """An int, NumPy's float64 or bfloat16 is cast: the updates have the gradients'."""
    for returned in (2, np.float64(0.25), jnp.bfloat16(0.25)):
        for dtype in (jnp.float32, jnp.bfloat16):
            gradients = jnp.asarray([0.3, -1.7, 0.9], dtype)
            got, want = (
                trees.run(tx.update, tx.init(gradients[0]), gradients, gradients[0])[0]
                for tx in (
                    mode(system.sgd(lambda step, rate=returned: rate, BETA)),
                    mode(system.sgd(float(returned), BETA)),
                )
            )
            kind = type(returned).__name__
            expect_same_bits(f"the updates by a {kind}", got, want)


NUMBERS = (
    a_negative_beta,
    a_beta_of_one,
    a_beta_above_one,
    a_beta_of_nan_or_infinity,
    a_beta_that_is_an_array_or_traced,
    a_beta_of_several_numbers,
    a_beta_of_numpy_in_float64,
    a_beta_of_the_integer_zero,
    a_beta_that_float32_hardly_tells_from_one,
    nesterov_with_dampening,
    a_learning_rate_below_zero_or_nan,
    a_schedule_of_other_dtypes,
)


def _expect_beta_refused(system: System, mode: Mode, beta: Any) -> None:
    expect_refused(ARGUMENT, _built(mode, system.heavy_ball, beta))


def _expect_unchecked(system: System, mode: Mode, beta: float, want: Any) -> None:
    updates = of_ones(mode(built_inside(partial(system.unchecked, beta))))
    expect(updates.tolist() == want, f"unchecked, {described(updates)}")


def _built(mode: Mode, build: Build, number: Any) -> Any:
    """Builds in the mode, and returns what three steps then give."""
    return lambda: described(of_ones(mode(built_inside(lambda: build(number)))))

"""The public test kit: our methods pass it, and broken ones do not."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import reference
from support.linear_methods import (
    LINEAR,
    average_claim,
    heavy_ball_claim,
    nesterov_claim,
)

from optax_momentum import Coefficients, ema, heavy_ball, keras, qhm, testing
from optax_momentum.testing import Claim, dtypes, equations, trees
from optax_momentum.testing import _claims as claims

BETA = 0.83


def ours(name: str) -> tuple[testing.Optimizer, Claim]:
    build, claim = LINEAR[name]
    return testing.stepping(lambda rate: build(rate, BETA)), claim(BETA)


@pytest.mark.parametrize("name", LINEAR)
def test_our_methods_keep_every_equation_of_their_claims(name):
    results = testing.check_equations(*ours(name))
    assert [result for result in results if result.passed is False] == []
    assert sum(result.passed is None for result in results) <= 3


def test_our_methods_keep_the_types_of_their_state():
    dtypes.the_state_never_changes_its_types(ema(BETA), trees.default_params())


@pytest.mark.parametrize(
    "wrong",
    [
        heavy_ball_claim(BETA)._replace(rate_inside=True),
        heavy_ball_claim(BETA)._replace(coupled_decay=0.01),
        heavy_ball_claim(BETA)._replace(decoupled_decay=0.01),
        Claim((Coefficients(BETA + 1e-6, 1.0),)),
        Claim((Coefficients(BETA, 1.0),), first_gain=0.9),
        nesterov_claim(BETA),
        average_claim(BETA),
    ],
)
def test_a_wrong_claim_is_detected(wrong):
    with pytest.raises(AssertionError, match=r"changing rate|learning rate"):
        equations.a_changing_rate_acts_as_claimed(ours("heavy_ball")[0], wrong)


@pytest.mark.parametrize(
    ("after", "equation"),
    [
        (optax.scale(1 + 1e-6), equations.an_impulse_fades_by_beta_a_step),
        (optax.scale(1 + 1e-6), equations.a_constant_gradient_settles_at_the_gain),
        (optax.scale(1 + 1e-6), equations.a_quadratic_follows_its_closed_form),
        (optax.trace(1e-6), equations.the_quadratic_invariant_shrinks_by_q),
        (optax.scale(0.94), equations.it_is_stable_up_to_its_limit_and_not_beyond),
        (optax.scale(1.06), equations.it_is_stable_up_to_its_limit_and_not_beyond),
        (optax.clip(0.2), equations.gradients_superpose),
        (optax.clip(0.2), equations.gradients_times_two_to_the_k_scale_updates_exactly),
        (
            optax.keep_params_nonnegative(),
            equations.zero_gradients_move_nothing_but_what_is_in_motion,
        ),
    ],
)
def test_a_manipulated_update_breaks_the_equation(after, equation):
    def tampered(rate):
        return optax.chain(ema(BETA), after, optax.scale_by_learning_rate(rate))

    with pytest.raises(AssertionError):
        equation(testing.stepping(tampered), average_claim(BETA))


def stateful(update) -> Any:
    """A transformation with this `update`, and a state that starts at zero."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    return optax.GradientTransformation(init, update)


def with_memory() -> Any:
    calls = []

    def update(updates, state, params=None):
        calls.append(None)
        return jax.tree.map(lambda g: g * len(calls), updates), state

    return stateful(update)


def normalized(updates, state, params=None):
    total = optax.tree.norm(updates)
    return jax.tree.map(lambda g: g / total, updates), state


def counting(updates, state, params=None):
    return updates, jnp.asarray(state + 1, jnp.int32)  # the first state is weakly typed


COUNTER = optax.GradientTransformation(lambda params: 0, counting)


BROKEN = [
    (with_memory(), "calls are pure", "numbers differ, by at most"),
    (optax.trace(0.9), "the state never changes its types", "became float32[5] from"),
    (optax.trace(0.9), "updates have the dtype of the gradients", "gave float32 at"),
    (optax.trace(0.9), "strict promotion is enough", "TypePromotionError"),
    (COUNTER, "one compilation serves every step", "2 compilations in 4 steps"),
    (optax.trace(0.9), "nothing shares memory", "updates and new state share"),
    (optax.trace(0.9), "a leaf without gradient is passed on", "tree changed"),
    (stateful(normalized), "the shape of the tree changes no bit", "differ"),
    (stateful(normalized), "a poisoned element poisons no other", "beside nan"),
    (optax.scale(0.5), "zero gradients move only what is in motion", "stopped"),
    (
        optax.trace(0.9),
        "a state that was restored as a dictionary",
        "without saying where: AttributeError",
    ),
    (optax.trace(0.9), "integer parameters", "it is accepted"),
    (optax.trace(0.9), "a gradient that would broadcast", "float32[1, 1] is accepted"),
]


@pytest.mark.parametrize(("transformation", "name", "reason"), BROKEN)
def test_a_broken_promise_is_reported_with_its_reason(transformation, name, reason):
    promises = testing.CONTRACT + testing.CONTRACT_OF_LINEAR + testing.REFUSALS
    (promise,) = (p for p in promises if testing.name_of(p) == name)
    with jax.numpy_dtype_promotion("standard"):
        (result,) = testing.judge([promise], transformation, trees.default_params())
    assert result.passed is False
    assert reason in result.detail


@pytest.mark.slow
def test_the_contract_judges_other_transformations_without_raising():
    lion, params = optax.scale_by_lion(), jnp.linspace(-1, 1, 6)
    with jax.numpy_dtype_promotion("standard"):
        results = testing.check_contract(lion, params, linear=False)
        results += testing.check_refusals(lion, params)
    assert len(results) == len(testing.CONTRACT) + len(testing.REFUSALS)
    assert {True, False} == {result.passed for result in results}


@pytest.mark.parametrize("build", [ema, heavy_ball, partial(keras, 0.1), qhm])
def test_our_methods_refuse_a_bad_beta(build):
    assert all(result.passed for result in testing.check_bad_beta(build))


def test_an_accepted_beta_is_a_broken_promise():
    results = {r.name: r for r in testing.check_bad_beta(optax.trace)}
    assert results["a beta above one"].detail == "1.5 is accepted"


def test_a_promise_that_does_not_apply_says_why():
    optimizer, claim = ours("ema, debiased")
    results = {r.name: r for r in testing.check_equations(optimizer, claim)}
    skipped = results["a quadratic follows its closed form"]
    assert skipped.passed is None
    assert skipped.detail == "its debiasing changes from step to step"


GRADIENTS = np.random.default_rng(23).normal(size=(30, 2))
RATES = 0.4 / (1 + np.arange(30))


@pytest.mark.parametrize(
    ("claim", "updates"),
    [
        (heavy_ball_claim(BETA), reference.heavy_ball(GRADIENTS, BETA)[0]),
        (
            Claim((Coefficients(BETA, 0.7),), first_gain=1.0),
            reference.heavy_ball(GRADIENTS, BETA, dampening=0.3)[0],
        ),
        (nesterov_claim(BETA), reference.heavy_ball(GRADIENTS, BETA, nesterov=True)[0]),
        (
            average_claim(BETA)._replace(debiased=True),
            reference.ema(GRADIENTS, BETA, debias=True)[0],
        ),
    ],
)
def test_the_closed_form_of_a_claim_is_the_recurrence(claim, updates):
    got = claims.path(claim, lambda _, t: GRADIENTS[t], np.ones(2), RATES)
    want = reference.sgd(np.ones(2), updates, RATES)
    np.testing.assert_allclose(got, want, 1e-12, 1e-13)


@pytest.mark.parametrize("kernel", [(0.9, 1, 1, 0), (0.9, 1, 0.9, 1), (0.7, 0.3, 1, 0)])
def test_the_stability_limit_is_its_closed_form(kernel):
    beta, a, b, c = kernel
    limit = claims.stability_limit(Claim((Coefficients(*kernel),)), 2.5)
    want = 2 * (1 + beta) / (a * b + c * (1 + beta)) / 2.5
    np.testing.assert_allclose(limit, want, 1e-9)

"""The public kit: our methods pass it, and what is broken does not."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from support.linear_methods import (
    LINEAR,
    average_claim,
    heavy_ball_claim,
    nesterov_claim,
)

from optax_momentum import Coefficients, ema, heavy_ball, keras, qhm, testing
from optax_momentum.testing import Claim, dtypes, equations, trees

BETA = 0.83


def ours(name: str) -> tuple[testing.Optimizer, Claim]:
    build, claim = LINEAR[name]
    return testing.stepping(lambda rate: build(rate, BETA)), claim(BETA)


@pytest.mark.parametrize("name", LINEAR)
def test_our_methods_keep_every_equation_of_their_claims(name):
    results = testing.check_equations(*ours(name))
    assert [result for result in results if result.passed is False] == []
    assert sum(result.passed is None for result in results) <= 3


def test_our_methods_keep_their_state():
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
def test_a_wrong_claim_is_seen(wrong):
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
        (
            optax.clip(0.2),
            equations.gradients_times_two_to_the_k_scale_updates_exactly,
        ),
        (
            optax.keep_params_nonnegative(),
            equations.zero_gradients_move_nothing_but_what_is_in_motion,
        ),
    ],
)
def test_an_update_that_is_tampered_with_breaks_the_equation(after, equation):
    def tampered(rate):
        return optax.chain(ema(BETA), after, optax.scale_by_learning_rate(rate))

    with pytest.raises(AssertionError):
        equation(testing.stepping(tampered), average_claim(BETA))


def stateful(update) -> Any:
    """A transformation whose state is what `update` makes of the last one."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    return optax.GradientTransformation(init, update)


def with_memory() -> Any:
    seen = []

    def update(updates, state, params=None):
        seen.append(None)
        return jax.tree.map(lambda g: g * len(seen), updates), state

    return stateful(update)


def in_one_piece(updates, state, params=None):
    total = optax.tree.norm(updates)
    return jax.tree.map(lambda g: g / total, updates), state


def counting(updates, state, params=None):
    return updates, jnp.asarray(state + 1, jnp.int32)  # its first state is weakly typed


COUNTER = optax.GradientTransformation(lambda params: 0, counting)


BROKEN = [
    (with_memory(), "calls are pure", "numbers differ, by at most"),
    (optax.trace(0.9), "the state never changes its types", "became float32[5] from"),
    (optax.trace(0.9), "updates have the dtype of the gradients", "gave float32 at"),
    (optax.trace(0.9), "strict promotion is enough", "TypePromotionError"),
    (COUNTER, "one compilation serves every step", "2 compilations in 4 steps"),
    (optax.trace(0.9), "nothing shares memory", "updates and new state share"),
    (optax.trace(0.9), "a leaf without gradient is passed on", "tree changed"),
    (stateful(in_one_piece), "the shape of the tree changes no bit", "differ"),
    (stateful(in_one_piece), "a poisoned element poisons no other", "beside nan"),
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
def test_a_broken_promise_is_named_with_its_reason(transformation, name, reason):
    promises = testing.CONTRACT + testing.CONTRACT_OF_LINEAR + testing.REFUSALS
    (promise,) = (each for each in promises if testing.name_of(each) == name)
    with jax.numpy_dtype_promotion("standard"):
        (result,) = testing.judge([promise], transformation, trees.default_params())
    assert result.passed is False
    assert reason in result.detail


def test_the_whole_contract_judges_what_is_no_momentum_without_raising():
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

"""Bad inputs 35 to 40: values that are hardly numbers, and states from elsewhere."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.conformance.bad_inputs.expectations import BETA, expect_refused
from experiments.conformance.bad_inputs.modes import Mode
from experiments.conformance.bad_inputs.systems import System
from optax_momentum.testing import expect, expect_same_bits, refusals, trees


def nan_in_one_element(system: System, mode: Mode) -> None:
    """Stays in that element, for good; `guard` skips such steps, however many come."""
    updates = _poisoned(system, mode, [np.nan, 0.5, 0.5])
    expect(np.isnan(updates).all(), f"its updates are {_shown(updates)}")
    _expect_skipped(system, mode, [np.nan] * 3)


def infinities_that_cancel(system: System, mode: Mode) -> None:
    """∞, then −∞: NaN, in that element alone; `guard` skips both steps."""
    updates = _poisoned(system, mode, [np.inf, -np.inf])
    expect(np.isnan(updates[1]), f"its updates are {_shown(updates)}")
    _expect_skipped(system, mode, [np.inf, -np.inf])


def numbers_at_the_ends_of_float32(system: System, mode: Mode) -> None:
    """1e-45 stays or becomes 0, a sum beyond 3.4e38 infinite; `guard` skips that."""
    least, most = (_poisoned(system, mode, [value] * 2) for value in (1e-45, 3e38))
    expect(0 <= least[1] <= 4e-45, f"1e-45 became {least[1]}")
    expect(most[1] == np.inf, f"3e38 became {most[1]}")
    skipping = mode(system.skipping(system.heavy_ball(BETA)))
    last = _updates(skipping, jnp.asarray([[0.5, 1e-45, 3e38]] * 2, jnp.float32))[1]
    expect(not last.any(), f"an update of {_shown(last)} is let in")


def negative_zeros(system: System, mode: Mode) -> None:
    """β·m + g has the sign of zero that IEEE 754 gives it."""
    transformation = mode(system.heavy_ball(0.5))
    gradients = jnp.asarray([-0.0, -0.0, 1.0, -0.0])
    filled = jax.tree.map(
        lambda leaf: -leaf if jnp.ndim(leaf) else leaf,
        transformation.init(jnp.zeros(4)),
    )
    first, state = transformation.update(gradients, filled, jnp.zeros(4))
    negative = np.signbit(first).tolist()
    expect(negative == [True, True, False, True], f"−0.5·0 − 0 gave {first}")
    opposite = jnp.asarray([0.0, -0.0, -0.5, 0.0])
    second, _ = transformation.update(opposite, state, jnp.zeros(4))
    signs = np.signbit(second).tolist()
    expect(signs == [False, True, False, False], f"then {opposite} gave {second}")


def a_state_of_another_optimizer(system: System, mode: Mode) -> None:
    """Refused, naming the state; of our own kind in another storage, by the path."""
    params = {"w": jnp.ones(3)}
    transformation = mode(system.heavy_ball(BETA))

    def step(state: Any) -> str:
        updates: Any = transformation.update(params, state, params)[0]
        return f"gradients of 1 give {updates['w']}"

    for other in (optax.adam(0.1), optax.scale_by_adam(), optax.sgd(0.1)):
        expect_refused(("state",), partial(step, other.init(params)))
    narrow = system.narrow(BETA).init(params)
    expect_refused(("['w']",), partial(step, narrow))


def a_state_restored_as_a_dictionary_or_donated(system: System, mode: Mode) -> None:
    """Refused, saying so; of one that is only old, the step is what it was then."""
    params = trees.default_params()
    transformation = mode(system.heavy_ball(BETA))
    refusals.a_state_that_was_restored_as_a_dictionary(transformation, params)
    _, old = transformation.update(params, transformation.init(params), params)
    first = transformation.update(params, old, params)
    transformation.update(params, first[1], params)
    again = transformation.update(params, old, params)
    expect_same_bits("an old state's step", again, first)
    jax.tree.map(lambda leaf: leaf.delete(), old)
    expect_refused(("deleted",), lambda: str(transformation.update(params, old)[0]))


VALUES = (
    nan_in_one_element,
    infinities_that_cancel,
    numbers_at_the_ends_of_float32,
    negative_zeros,
    a_state_of_another_optimizer,
    a_state_restored_as_a_dictionary_or_donated,
)


def _updates(transformation: optax.GradientTransformation, gradients: Any) -> Any:
    """Of every step; `gradients` are [step, element]."""
    params = jnp.zeros_like(gradients[0])
    state = transformation.init(params)
    return trees.run(transformation.update, state, gradients, params)[0]


def _poisoned(system: System, mode: Mode, values: list[float]) -> np.ndarray:
    """The updates of an element that is given them; raises if others differ for it."""
    transformation = mode(system.heavy_ball(BETA))
    gradients = jnp.asarray([[0.5, value] for value in values], jnp.float32)
    updates = _updates(transformation, gradients)
    healthy = _updates(transformation, gradients.at[:, 1].set(0.5))
    expect_same_bits("beside it", updates[:, 0], healthy[:, 0])
    return np.asarray(updates[:, 1])


def _expect_skipped(system: System, mode: Mode, poison: list[float]) -> None:
    """Raises unless the poisoned steps, between two good ones, leave no trace."""
    good = jnp.asarray([[0.3, -1.7], [0.9, 0.5]])
    bad = jnp.asarray([[0.5, value] for value in poison])
    skipping = mode(system.skipping(system.heavy_ball(BETA)))
    updates = _updates(skipping, jnp.concatenate([good[:1], bad, good[1:]]))
    for step, update in enumerate(updates[1:-1], start=1):
        message = f"number {step} in a row is let in: the update is {_shown(update)}"
        expect(not update.any(), message)
    want = _updates(mode(system.heavy_ball(BETA)), good)
    expect_same_bits("the next step", updates[-1], want[-1])


def _shown(update: Any) -> str:
    return str(np.round(np.asarray(update, np.float64), 3).tolist())

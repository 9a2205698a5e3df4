"""Bad parameters, updates and states are refused by an error that names the leaf."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_momentum import ema, storage


def init(params):
    return ema(0.9).init(params)


def update(updates, state):
    return ema(0.9).update(updates, state)


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        (jnp.arange(3), "int32"),
        (jnp.asarray([True]), "bool"),
        (jax.random.key(0), "key<fry>"),
        (jnp.ones(2, jnp.float8_e4m3fn), "float8_e4m3fn"),
        ("adam", "str"),
        (3, "int"),
        (jax.nn.relu, "custom_jvp"),
    ],
)
def test_a_leaf_that_holds_no_momentum_is_refused_by_path(leaf, kind):
    message = f"init: params['layer'][1] is of type {kind}, which holds no momentum."
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        init({"layer": [jnp.ones(2), leaf]})
    assert "`optax.masked` or `optax.partition`" in str(raised.value)


PARAMS = {"layer": {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(3)}}


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (
            {"kernel": jnp.ones(3), "bias": jnp.ones(3)},
            ValueError,
            "updates['layer']['kernel'] has shape (3,), its buffer (3, 1); "
            "broadcasting would change the parameters' shape. Call init on the same ",
        ),
        (
            {"kernel": jnp.ones((3, 1)), "bias": jnp.arange(3)},
            TypeError,
            "updates['layer']['bias'] is of type int32; a gradient is a floating-point",
        ),
        (
            {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(3, jnp.complex64)},
            TypeError,
            "updates['layer']['bias'] is of type complex64, its buffer float32; an "
            "imaginary part would be lost.",
        ),
        (
            {"kernel": jnp.ones((3, 1))},
            ValueError,
            "  only in the state: ['layer']['bias']",
        ),
        (
            {"kernel": None, "bias": jnp.ones(3), "scale": jnp.ones(3)},
            ValueError,
            "  only in updates: ['layer']['scale']",
        ),
        (
            {"kernel": {"deep": jnp.ones(3)}, "bias": jnp.ones(3)},
            ValueError,
            "  only in updates: ['layer']['kernel']['deep']\n"
            "  only in the state: ['layer']['kernel']",
        ),
        (
            jnp.ones(3),
            ValueError,
            "  only in updates: ['layer']\n"
            "  only in the state: ['layer']['bias']\n"
            "  only in the state: ['layer']['kernel']",
        ),
        (
            [jnp.ones((3, 1)), jnp.ones(3)],
            ValueError,
            "Call init on the same params you train.\n  only in updates: ['layer'][0]",
        ),
    ],
)
def test_updates_that_init_did_not_see_are_refused_by_path(layer, error, message):
    state = init(PARAMS)
    with pytest.raises(error, match=re.escape(message)):
        update({"layer": layer}, state)


def test_an_absent_leaf_is_no_difference():
    state = init({"a": {"b": jnp.ones(2)}, "c": jnp.ones(2)})
    with pytest.raises(ValueError) as raised:
        update({"a": None, "d": jnp.ones(2)}, state)
    assert str(raised.value).split("\n")[1:] == [
        "  only in updates: ['d']",
        "  only in the state: ['c']",
    ]


def test_containers_of_another_type_are_shown():
    state = init((jnp.ones(2),))
    with pytest.raises(ValueError, match=re.escape("  updates:   PyTreeDef([*])\n")):
        update([jnp.ones(2)], state)


def test_a_gradient_for_a_parameter_without_buffer_is_refused():
    state = init({"a": jnp.ones(2), "b": None})
    with pytest.raises(ValueError, match=re.escape("only in updates: ['b']")):
        update({"a": jnp.ones(2), "b": jnp.ones(2)}, state)


@pytest.mark.parametrize("state", [{"step": 0}, (), [0, 1.0, 2.0]])
def test_a_state_of_another_type_is_refused(state):
    message = f"update: the state must be a MomentumState, got {type(state).__name__}."
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        update(jnp.ones(2), state)
    assert "restore a checkpoint into that structure" in str(raised.value)


@pytest.mark.parametrize("kept", [None, storage.int8(min_size=1)])
def test_a_gradient_on_another_device_is_refused_by_path(kept):
    here, there = jax.devices()[:2]
    transformation: Any = ema(0.9, storage=kept)
    state = transformation.init(jax.device_put(PARAMS, here))
    message = (
        f"update: the gradient at updates['layer']['bias'] is on ['{there}'], its "
        f"buffer on ['{here}']. Put them together, by `jax.device_put`."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        transformation.update(jax.device_put(PARAMS, there), state)
    transformation.update(PARAMS, state)  # committed to no device, it is moved


def test_a_float64_parameter_of_which_float32_is_kept_is_warned_of():
    message = "init: params['w'] is float64, of which JAX keeps float32 while `jax_"
    with pytest.warns(UserWarning, match=re.escape(message)) as warned:
        state: Any = init({"b": jnp.ones(2), "w": np.ones(3)})
    assert state.buffer["w"].dtype == jnp.float32
    (warning,) = warned
    assert "Switch that on, or make the leaf what is kept." in str(warning.message)
    init({"w": np.ones(3, np.float32), "number": 0.5})
    with jax.enable_x64(True):
        init({"w": np.ones(3)})

"""Bad arguments, parameters, gradients and states are refused by precise errors.

Each error names the call, the argument or leaf, the value, the bound and the remedy.
"""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_momentum import (
    adaptive_restart,
    aggmo,
    as_qhm,
    ema,
    heavy_ball,
    keras,
    linear_momentum,
    nesterov,
    qhm,
    schedules,
    sgd,
    srsgd,
    storage,
    two_point_nesterov,
)

NAN, INF, BELOW = float("nan"), float("inf"), jnp.asarray(-1.5)
BETA = "fraction of the buffer kept at each step; `linear_momentum` accepts any coeff"
DAMPENING = "fraction of each gradient kept out of the buffer; 0 disables dampening."
RATE = "To ascend instead of descend, negate the gradients before this call."
SCALAR = "To run several values at once, `jax.vmap` over the function that builds"


OUT_OF_RANGE = [
    ("ema: beta", ema, "[0, 1)", BETA, [1, 1.5, -0.1, NAN, INF]),
    ("heavy_ball: beta", heavy_ball, "[0, 1)", BETA, [1.0, 2, np.float64(1.5)]),
    (
        "heavy_ball: beta",
        heavy_ball,
        "[0, 1)",
        BETA,
        [np.float64(1.5), jnp.asarray(1.5)],
    ),
    ("keras: beta", partial(keras, 0.1), "[0, 1)", BETA, [1.0, -0.5, NAN]),
    (
        "heavy_ball: dampening",
        lambda v: heavy_ball(0.9, dampening=v),
        "[0, 1]",
        DAMPENING,
        [-0.1, 1.1, NAN, jnp.asarray(1.5)],
    ),
    ("keras: learning_rate", lambda v: keras(v, 0.9), "[0, inf)", RATE, [-0.1, NAN]),
    (
        "keras: learning_rate",
        lambda v: keras(v, 0.9),
        "[0, inf)",
        RATE,
        [INF, BELOW],
    ),
    (
        "keras: correction_threshold",
        lambda v: keras(0.1, 0.9, correction_threshold=v),
        "[1, inf)",
        "It is the factor by which the learning rate must change: 1.1 in Detectron.",
        [0.9, NAN, INF],
    ),
]


@pytest.mark.parametrize(
    ("name", "build", "bound", "remedy", "value"),
    [(*case, value) for *case, values in OUT_OF_RANGE for value in values],
)
def test_bad_value_is_refused_at_construction(name, build, bound, remedy, value):
    message = f"{name} must lie in {bound}, got {value!s}."
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        build(value)
    assert remedy in str(raised.value)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda v: ema(v), "ema: beta"),
        (lambda v: ema(0.9, debias=v), "ema: debias"),
        (lambda v: heavy_ball(v), "heavy_ball: beta"),
        (lambda v: heavy_ball(0.9, dampening=v), "heavy_ball: dampening"),
        (lambda v: heavy_ball(0.9, nesterov=v), "heavy_ball: nesterov"),
        (lambda v: keras(v, 0.9), "keras: learning_rate"),
        (lambda v: keras(0.1, v), "keras: beta"),
        (lambda v: keras(0.1, 0.9, nesterov=v), "keras: nesterov"),
        (lambda v: linear_momentum(lambda _: v, debias=v), "linear_momentum: debias"),
        (lambda v: keras(1, 0.9, momentum_correction=v), "keras: momentum_correction"),
        (
            lambda v: keras(0.1, 0.9, correction_threshold=v),
            "keras: correction_threshold",
        ),
        (lambda v: qhm(v, 0.7), "qhm: beta"),
        (lambda v: qhm(0.9, v), "qhm: nu"),
        (lambda v: aggmo([0.5, v]), "aggmo: betas[1]: beta"),
        (lambda v: nesterov(v, 0.9), "nesterov: learning_rate"),
        (lambda v: nesterov(0.1, v), "nesterov: beta"),
        (lambda v: srsgd(0.1, v), "srsgd: restart_every"),
        (
            lambda v: adaptive_restart(ema(0.9), min_steps=v),
            "adaptive_restart: min_steps",
        ),
        (lambda v: schedules.demon(v, 9), "demon: beta"),
        (lambda v: as_qhm.accsgd(0.1, kappa=v), "accsgd: kappa"),
    ],
)
def test_argument_that_is_not_a_real_scalar_is_refused_with_its_name(build, name):
    for wrong, message in [
        ("0.9", "must be a number or a traced scalar, got '0.9' of type str."),
        (None, "must be a number or a traced scalar, got None of type NoneType."),
        (0.5j, "must be real, got 0.5j."),
    ]:
        with pytest.raises(TypeError, match=re.escape(f"{name} {message}")):
            build(wrong)
    with pytest.raises(ValueError, match=re.escape(f"{name} must be a scalar")) as e:
        build(np.ones(2))
    assert "got shape (2,)" in str(e.value) and SCALAR in str(e.value)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: ema(0.9, debias=2), "ema: debias"),
        (lambda: heavy_ball(0.9, nesterov=0.5), "heavy_ball: nesterov"),
        (lambda: keras(0.1, 0.9, nesterov=NAN), "keras: nesterov"),
    ],
)
def test_switch_that_is_neither_on_nor_off_is_refused(build, name):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got"):
        build()


def test_nesterov_with_dampening_is_refused():
    message = "heavy_ball: nesterov=True needs dampening=0, got 0.3; PyTorch defines "
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        heavy_ball(0.9, dampening=0.3, nesterov=True)
    assert "Drop one of the two." in str(raised.value)
    heavy_ball(0.9, dampening=0.0, nesterov=True)


@pytest.mark.parametrize(
    ("transformation", "name"),
    [
        (ema(lambda step: 1.5), "ema: beta"),
        (heavy_ball(lambda step: jnp.asarray(-0.5)), "heavy_ball: beta"),
        (keras(lambda step: NAN, 0.9), "keras: learning_rate"),
    ],
)
def test_a_schedule_out_of_range_is_refused_at_the_first_update(transformation, name):
    state = transformation.init(jnp.zeros(2))
    with pytest.raises(ValueError, match=f"{name} must lie in"):
        transformation.update(jnp.zeros(2), state)


def test_momentum_is_another_name_of_beta():
    gradients = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)

    def updates(optimizer):
        state, emitted = optimizer.init(jnp.ones(3)), []
        for gradient in gradients:
            update, state = optimizer.update(gradient, state)
            emitted.append(update)
        return np.asarray(emitted)

    for build in sgd, keras, nesterov, two_point_nesterov:
        named = updates(build(0.3, momentum=0.7))
        np.testing.assert_array_equal(named, updates(build(0.3, 0.7)))
        scheduled = build(0.3, momentum=lambda step: 0.7)
        np.testing.assert_allclose(updates(scheduled), named, 1e-6)
        message = f"{build.__name__}: got beta=0.7 and momentum=0.9, which are two"
        with pytest.raises(TypeError, match=re.escape(message)):
            build(0.3, 0.7, momentum=0.9)
        with pytest.raises(ValueError, match="beta must lie in"):
            build(0.3, momentum=1.5)
    for build in keras, nesterov, two_point_nesterov:
        with pytest.raises(TypeError, match="beta must be a number or a traced scalar"):
            build(0.3)


def test_traced_arguments_are_trusted():
    def first(beta):
        tx = ema(beta)
        return tx.update(1.0, tx.init(1.0))[0]

    assert jax.jit(first)(1.5) == -0.5
    np.testing.assert_array_equal(jax.vmap(first)(jnp.asarray([0.5, 1.5])), [0.5, -0.5])


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
def test_parameter_of_an_unsupported_type_is_refused_with_its_path(leaf, kind):
    message = f"init: params['layer'][1] is of type {kind}, which can't have momentum."
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        init({"layer": [jnp.ones(2), leaf]})
    assert "`optax.masked` or `optax.partition`" in str(raised.value)


KERNEL, BIAS = jnp.ones((3, 1)), jnp.ones(3)
PARAMS = {"layer": {"kernel": KERNEL, "bias": BIAS}}


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (
            {"kernel": BIAS, "bias": BIAS},
            ValueError,
            "updates['layer']['kernel'] has shape (3,), its buffer (3, 1); "
            "broadcasting would change the parameters' shape. Call init on the same ",
        ),
        (
            {"kernel": KERNEL, "bias": jnp.arange(3)},
            TypeError,
            "updates['layer']['bias'] is of type int32; a gradient must be a float",
        ),
        (
            {"kernel": KERNEL, "bias": jnp.ones(3, jnp.complex64)},
            TypeError,
            "updates['layer']['bias'] is of type complex64, its buffer float32; an "
            "imaginary part would be lost.",
        ),
        ({"kernel": KERNEL}, ValueError, "  only in the state: ['layer']['bias']"),
        (
            {"kernel": None, "bias": BIAS, "scale": BIAS},
            ValueError,
            "  only in updates: ['layer']['scale']",
        ),
        (
            {"kernel": {"deep": BIAS}, "bias": BIAS},
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
            [KERNEL, BIAS],
            ValueError,
            "Call init on the same params you train.\n  only in updates: ['layer'][0]",
        ),
    ],
)
def test_gradients_that_differ_from_the_params_are_refused_with_the_path(
    layer, error, message
):
    state = init(PARAMS)
    with pytest.raises(error, match=re.escape(message)):
        update({"layer": layer}, state)


def test_an_absent_gradient_is_not_reported_as_a_difference():
    state = init({"a": {"b": jnp.ones(2)}, "c": jnp.ones(2)})
    with pytest.raises(ValueError) as raised:
        update({"a": None, "d": jnp.ones(2)}, state)
    lines = str(raised.value).split("\n")[1:]
    assert lines == ["  only in updates: ['d']", "  only in the state: ['c']"]


def test_a_difference_in_container_types_is_shown():
    state = init((jnp.ones(2),))
    with pytest.raises(ValueError, match=re.escape("  updates:   PyTreeDef([*])\n")):
        update([jnp.ones(2)], state)


def test_a_gradient_for_a_parameter_without_a_buffer_is_refused():
    state = init({"a": jnp.ones(2), "b": None})
    with pytest.raises(ValueError, match=re.escape("only in updates: ['b']")):
        update({"a": jnp.ones(2), "b": jnp.ones(2)}, state)


@pytest.mark.parametrize("state", [{"step": 0}, (), [0, 1.0, 2.0]])
def test_a_state_of_another_type_is_refused(state):
    message = f"update: the state must be a MomentumState, got {type(state).__name__}."
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        update(jnp.ones(2), state)
    assert "restore a checkpoint into that structure" in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [None, storage.int8(min_size=1)])
def test_a_gradient_on_another_device_is_refused_with_its_path(encoding):
    here, there = jax.devices()[:2]
    transformation: Any = ema(0.9, storage=encoding)
    state = transformation.init(jax.device_put(PARAMS, here))
    message = (
        f"update: the gradient at updates['layer']['bias'] is on ['{there}'], its "
        f"buffer on ['{here}']. Move both to the same devices with `jax.device_put`."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        transformation.update(jax.device_put(PARAMS, there), state)
    transformation.update(PARAMS, state)  # JAX moves uncommitted arrays.


def test_a_float64_parameter_that_jax_converts_to_float32_warns():
    message = "init: params['w'] is float64, which JAX converts to float32 while `jax_"
    with pytest.warns(UserWarning, match=re.escape(message)) as warned:
        state: Any = init({"b": jnp.ones(2), "w": np.ones(3)})
    assert state.buffer["w"].dtype == jnp.float32
    (warning,) = warned
    assert "Turn that on, or cast the leaf to float32." in str(warning.message)
    init({"w": np.ones(3, np.float32), "number": 0.5})
    with jax.enable_x64(True):
        init({"w": np.ones(3)})

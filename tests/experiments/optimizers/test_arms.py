"""Arms take the steps that the comparisons rely on."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.optimizers.arms import ARMS, STORAGES, with_decay
from optax_momentum import keras


def updates(arm, learning_rate, beta, gradients):
    """The updates of one parameter, shape [steps]."""
    transformation = ARMS[arm].transformation(learning_rate, beta)
    param = jnp.zeros(())
    state = transformation.init(param)
    values = []
    for gradient in gradients:
        update, state = transformation.update(jnp.float32(gradient), state, param)
        values.append(float(jnp.asarray(update)))
    return np.array(values)


@pytest.mark.parametrize(
    ("arm", "factor"), [("sgd", 1), ("ema", 1), ("sgd_large_step", 4), ("keras", 4)]
)
def test_arm_settles_at_its_step_size(arm, factor):
    settled = updates(arm, 0.02, 0.75, [3.0] * 80)[-1]
    assert settled == pytest.approx(-0.02 * 3.0 * factor, rel=1e-6)


def test_ema_and_keras_are_the_tutorials_equation_and_code():
    gradients = np.random.default_rng(5).normal(size=9)
    velocity, keras_velocity, expected, keras_expected = 0.0, 0.0, [], []
    for g in gradients:
        velocity = 0.8 * velocity + (1 - 0.8) * g
        expected.append(-0.03 * velocity)
        keras_velocity = 0.8 * keras_velocity - 0.03 * g
        keras_expected.append(keras_velocity)
    for arm, values in (("ema", expected), ("keras", keras_expected)):
        np.testing.assert_allclose(updates(arm, 0.03, 0.8, gradients), values, 1e-5)


def test_arms_have_one_line_titles_and_equations():
    assert list(ARMS) == ["sgd", "ema", "sgd_large_step", "keras"]
    for arm in (*ARMS.values(), *STORAGES.values()):
        assert "\n" not in arm.title + arm.equation
        assert "θ ←" in arm.equation


def test_storages_differ_in_the_dtype_of_the_buffer():
    params = jnp.ones((64, 64))
    buffers: dict[str, Any] = {}
    for name, arm in STORAGES.items():
        state: Any = arm.transformation(0.02, 0.75).init(params)
        buffers[name] = state.buffer
    assert buffers["keras"].dtype == jnp.float32
    assert buffers["keras_bfloat16"].dtype == jnp.bfloat16
    assert buffers["keras_int8"].codes.dtype == jnp.int8


def test_decay_is_added_to_the_gradient_before_momentum_and_may_spare_vectors():
    params = {"kernel": jnp.full((2, 1), 3.0), "bias": jnp.full(2, 5.0)}
    gradients = {"kernel": jnp.full((2, 1), 0.5), "bias": jnp.full(2, 0.25)}
    for kernels_only, of_bias in ((False, 0.25 + 0.2 * 5), (True, 0.25)):
        optimizer = with_decay(keras(0.1, 0.6), 0.2, kernels_only)
        state: Any = optimizer.init(params)
        for expected_steps in (1.0, 1.6):  # momentum of a constant gradient
            updates, state = optimizer.update(gradients, state, params)
            found: Any = updates
            of_kernel = -0.1 * expected_steps * (0.5 + 0.2 * 3)
            np.testing.assert_allclose(found["kernel"], of_kernel, rtol=1e-6)
            expected = -0.1 * expected_steps * of_bias
            np.testing.assert_allclose(found["bias"], expected, rtol=1e-6)
    plain = keras(0.1, 0.6)
    assert with_decay(plain, 0.0) is plain

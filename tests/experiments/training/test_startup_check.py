"""The start-up check accepts correct steps and stops runs that compute nonsense."""

import json
import math
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.usage_errors import usage_error

from experiments.data.examples import Examples
from experiments.distributed.devices import on_all_devices
from experiments.problems.image_classification import image_classification
from experiments.training import startup_check
from experiments.training.scoring import score
from experiments.training.startup_check import check, reference
from optax_momentum import keras

RIGHT = keras(0.3, 0.7)


def changed(change) -> optax.GradientTransformationExtraArgs:
    """The right momentum, with `change` applied to each of its updates."""

    def update(updates, state, params=None, **extra_args):
        updates, state = RIGHT.update(updates, state, params, **extra_args)
        return jax.tree.map(change, updates), state

    return optax.GradientTransformationExtraArgs(RIGHT.init, update)


def complaint(transformation=RIGHT) -> str:
    return usage_error("", check, transformation)


def test_startup_check_passes_here_and_its_result_is_json():
    found = check()
    assert 0 < found.largest_error < 1e-5
    assert found.repeats_equal is True
    assert found.seconds > 0
    assert json.loads(json.dumps(found._asdict())) == found._asdict()


@pytest.mark.usefixtures("own_cache")
def test_startup_check_names_the_fault_the_system_and_the_remedy():
    message, device = complaint(keras(0.3, 0.8)), jax.devices()[0]
    start, end = (
        f"the start-up check failed, with jax {jax.__version__} and jaxlib "
        f"{metadata.version('jaxlib')} on 2 × {device.platform}: {device.device_kind}: "
        "steps of training differ from NumPy's by ",
        ". Nothing was trained, because no number could be trusted: install another "
        f'version, for example with pip install "jax!={jax.__version__}", and report '
        "the error at github.com/jax-ml/jax/issues.",
    )
    assert message.startswith(start) and message.endswith(end)
    difference = message.removeprefix(start).removesuffix(end)
    assert 0.01 < float(difference) < 1


@pytest.mark.parametrize(
    "wrong",
    [
        optax.sgd(0.3),
        changed(lambda update: 2 * update),
        changed(lambda update: update * (1 + 2e-4)),
    ],
    ids=["no momentum", "doubled", "a little off"],
)
def test_startup_check_stops_steps_that_differ_from_numpy(wrong):
    assert "steps of training differ from NumPy's by " in complaint(wrong)


def test_startup_check_stops_nan():
    lost = changed(lambda update: update.at[0].set(jnp.nan))
    assert "differ from NumPy's by nan. Nothing" in complaint(lost)


def test_startup_check_stops_results_that_are_not_the_same_each_time():
    calls = iter(range(10**6))

    def noise(update):
        drawn = jax.pure_callback(
            lambda: np.float32(1e-8 * next(calls)), jax.ShapeDtypeStruct((), "float32")
        )
        return update + drawn

    message = complaint(changed(noise))
    assert "3 equal calls of one program gave results that differ. Nothing" in message


@pytest.mark.usefixtures("own_cache")
def test_startup_check_names_the_cache_that_a_bad_program_may_come_from(tmp_path):
    cache = f"{tmp_path}/kept here"
    jax.config.update("jax_compilation_cache_dir", cache)
    message = complaint(optax.sgd(0.3))
    assert f": empty the cache of programs, {cache}, or install" in message


def test_many_rows_are_scored_correctly_despite_a_known_compiler_error():
    """jax-ml/jax#39103 affects programs of another form, from 32,769 rows on."""
    random = np.random.default_rng(11)
    images = random.random((40_000, 4, 4, 1), np.float32)
    labels = random.integers(0, 3, 40_000, np.int32)
    params = {"kernel": random.normal(size=(16, 3)), "bias": random.normal(size=3)}
    arguments = images, labels, np.arange(40_000), 40_000, 0.3, 0.7
    _, loss = reference(params, *arguments)
    params = jax.tree.map(np.float32, params)
    params, *examples = on_all_devices((params, images, labels))
    task = image_classification(startup_check._SoftmaxRegression, 3)
    found = score(task, params, Examples(*examples))
    assert found.loss == pytest.approx(loss, rel=1e-5)


def test_reference_takes_the_gradient_of_the_loss():
    """One step without momentum, against differences of the loss itself."""
    random = np.random.default_rng(3)
    images, labels = random.random((5, 2, 2, 1)), np.array([0, 2, 1, 1, 0])
    params = {"kernel": random.normal(size=(4, 3)), "bias": random.normal(size=3)}
    order = np.array([3, 1, 4, 0, 2])

    def loss(params) -> float:
        return reference(params, images, labels, order, 5, 0.0, 0.0)[1]

    after, _ = reference(params, images, labels, order, 5, 0.25, 0.9)
    zeros = jax.tree.map(np.zeros_like, params)
    assert loss(zeros) == pytest.approx(math.log(3))
    for name, value in params.items():
        for place in np.ndindex(value.shape):
            moved = [dict(params), dict(params)]
            for sign, own in zip((1, -1), moved, strict=True):
                own[name] = value.copy()
                own[name][place] += sign * 1e-6
            slope = (loss(moved[0]) - loss(moved[1])) / 2e-6
            step = after[name][place] - value[place]
            assert step == pytest.approx(-0.25 * slope, abs=1e-9)


def test_reference_keeps_momentum_between_batches_of_any_size():
    """Compares with a calculation by hand; the last batch has one of three images."""
    images, labels = np.full((3, 1, 1, 1), 0.5), np.zeros(3, int)
    params = {"kernel": np.zeros((1, 2)), "bias": np.zeros(2)}
    after, loss = reference(params, images, labels, np.arange(3), 2, 0.4, 0.7)
    first = 0.4 * 0.5  # rate times the slope of the bias, at equal logits
    logit = 2 * first * (1 + 0.5 * 0.5)  # between the classes, after one step
    share = 1 / (1 + math.exp(logit))
    second = 0.7 * first + 0.4 * share
    np.testing.assert_allclose(after["bias"], [first + second, -first - second])
    np.testing.assert_allclose(after["kernel"], [0.5 * after["bias"]])
    losses = [math.log(2), math.log(2), -math.log(1 - share)]
    assert loss == pytest.approx(sum(losses) / 3)

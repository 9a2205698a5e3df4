"""Claim 1: paths in the ravine against theory, and the paths of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.examples import Examples, Splits
from experiments.networks import mlp
from experiments.problems.image_classification import image_classification
from experiments.problems.problem import Task
from experiments.studies.claims import trajectory, trajectory_network
from experiments.studies.claims.trajectory import closed_form, deviation, paths, shape
from experiments.training.engine import compile_to_fit, train_runs
from experiments.training.points import Point
from experiments.training.step import TrainSpec
from optax_momentum import keras


def ravine_paths(settled_steps, beta):
    """Paths of 90 steps without noise from three starts."""
    angles = np.linspace(0.4, 2.9, 3)
    starts = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return paths(np.array(settled_steps), beta, starts, np.zeros((3, 90, 2)))


@pytest.mark.parametrize(
    ("settled_step", "beta", "curvature"),
    [
        (1.7, 0.0, 0.9),  # alternating
        (0.4, 0.0, 1.3),  # straight
        (1.0, 0.0, 1.0),  # a double root, at 0
        (2.3, 0.83, 1.1),  # complex
        (0.01, 0.83, 1.1),  # real
        ((1 - 0.64**0.5) ** 2 / 0.36, 0.64, 1.0),  # double
    ],
)
def test_the_closed_form_obeys_the_recurrence(settled_step, beta, curvature):
    x = closed_form(settled_step, beta, curvature, 30)
    h = (1 - beta) * settled_step * curvature
    expected = [1.0, 1 - h]
    for _ in range(29):
        expected.append((1 + beta - h) * expected[-1] - beta * expected[-2])
    np.testing.assert_allclose(x, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("beta", [0.0, 0.87])
def test_measured_paths_agree_with_theory(beta):
    settled_steps = np.array([0.07, 0.6, 1.7])
    visited = ravine_paths(settled_steps, beta)
    assert visited.shape == (3, 3, 91, 2)
    assert deviation(visited, settled_steps, beta) < 1e-12
    assert deviation(visited, 1.01 * settled_steps, beta) > 1e-3  # can fail
    x = visited[1, 0, :, 0] / visited[1, 0, 0, 0]
    along = closed_form(0.6, beta, 1 / trajectory.CONDITION, 90)
    np.testing.assert_allclose(x, along, rtol=0, atol=1e-12)


def test_the_shape_of_a_path_agrees_with_one_computed_by_hand():
    x = np.zeros((1, 1, 5, 2))
    x[0, 0, :, 0] = [3.0, 2.0, 1.0, 0.0, 0.0]
    x[0, 0, :, 1] = [4.0, -2.0, 2.0, 2.0, -1.0]
    measured = shape(x)
    assert measured.sign_changes.item() == pytest.approx(3 / 4)
    assert measured.travel.item() == pytest.approx((6 + 4 + 0 + 3) / 4)
    length = 37**0.5 + 17**0.5 + 1 + 3
    assert measured.length.item() == pytest.approx(length / 5)
    assert measured.amplitude.item() == pytest.approx(((4 + 4 + 1) / 3) ** 0.5)
    # At settled step 1, y reaches 0 in one step and stays there.
    assert (shape(ravine_paths([1.0], 0.0)).sign_changes == 0).all()


def test_a_path_that_diverges_has_no_shape():
    measured = shape(ravine_paths([0.5, 2.5], 0.0))
    assert np.isfinite(measured.length[0]).all()
    assert all(np.isnan(values[1]).all() for values in measured)


def test_noisy_paths_have_the_variance_of_theory_and_noise_repeats():
    # In theory the variance is s²σ²(1 − β²)/(h(2(1 + β) − h)), with h = (1 − β)·s.
    starts, step, noise = np.zeros((400, 2)), 0.6, trajectory.draw_noise(7, 400, 300)
    for beta in (0.0, 0.8):
        y = paths(np.array([step]), beta, starts, noise)[0, :, 100:, 1]
        h = (1 - beta) * step
        variance = (step * trajectory.NOISE) ** 2 * (1 - beta**2)
        variance /= h * (2 * (1 + beta) - h)
        assert np.var(y) == pytest.approx(variance, rel=0.1)
    np.testing.assert_array_equal(noise, trajectory.draw_noise(7, 400, 300))


@pytest.fixture(scope="module")
def walks():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 150).astype(np.int32)
    images = rng.normal(labels[:, None, None, None], 0.5, (150, 3, 4, 1))
    examples = Examples(jnp.asarray(images, jnp.float32), jnp.asarray(labels))
    points = [Point(0.3, 0.0, 4), Point(0.03, 0.9, 4), Point(0.03, 0.9, 5)]
    return trajectory_network.walk(
        image_classification(mlp, 3), points, examples, epochs=4
    )


def test_a_walk_records_every_step(walks):
    assert walks.losses.shape == (3, 4 * 3)
    assert (walks.losses[:, -1] < walks.losses[:, 0]).all()
    assert (walks.straightness >= 1).all()
    rises = (np.diff(walks.losses, axis=1) > 0).mean(axis=1)
    np.testing.assert_allclose(walks.rises, rises, rtol=1e-6)


def test_momentum_turns_less_than_sgd_between_steps(walks):
    sgd, momentum, other_seed = walks.cosine
    assert momentum > sgd + 0.05 and momentum != other_seed


def test_the_straightness_of_a_straight_walk_is_one():
    def loss(params, model_state, batch, key, *, training):
        total = jnp.sum(params["bias"])  # its gradient is constant
        return jnp.full(batch.shape, total), {}, model_state

    task = Task(lambda key, batch: ({"bias": jnp.ones(3)}, ()), loss)
    walk = trajectory_network.walk(task, [Point(0.1, 0.7, 1)], jnp.zeros(70), epochs=2)
    np.testing.assert_allclose(walk.straightness, 1, rtol=1e-5)
    np.testing.assert_allclose(walk.cosine, 1, rtol=1e-5)
    assert walk.rises.item() == 0


@pytest.mark.slow
def test_a_walk_takes_the_steps_that_training_takes():
    """Those of the engine, with model state, noise and a smaller last batch."""

    def init(key, batch):
        return {"w": jax.random.normal(key, (3,))}, {"mean": jnp.zeros((1, 3))}

    def loss(params, model_state, batch, key, *, training):
        noise = jax.random.normal(key, batch["x"].shape) if training else 0.0
        mean = batch["x"].mean(0, keepdims=True) if training else model_state["mean"]
        residual = (batch["x"] - mean + noise) @ params["w"] - batch["y"]
        after = jax.tree.map(lambda m: 0.7 * m + 0.3 * mean, model_state)
        return residual**2, {}, after if training else model_state

    task = Task(init, loss, lambda key, b: {**b, "x": 1.5 * b["x"]}, "loss", True)
    rng = np.random.default_rng(3)
    train = {"x": rng.normal(0.4, 1, (150, 3)), "y": rng.normal(0, 1, 150)}
    train = {name: jnp.asarray(x, jnp.float32) for name, x in train.items()}
    point = Point(0.03, 0.8, 7)
    walk = trajectory_network.walk(task, [point], train, epochs=2)

    few = {name: x[:128] for name, x in train.items()}
    spec = TrainSpec(keras, 64, task)
    splits = Splits(train, few, few)
    compiled = compile_to_fit(spec, 1, splits, test=False)
    trained = train_runs(compiled, [point], splits, 2, test=False)
    after_epochs = walk.losses[:, [2, 5]]
    np.testing.assert_allclose(after_epochs, trained.validation.loss, rtol=1e-5)

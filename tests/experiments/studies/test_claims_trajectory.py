"""Claim 1: paths in the ravine against theory, and the paths of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.examples import Examples
from experiments.networks import mlp
from experiments.problems.image_classification import image_classification
from experiments.studies.claims import trajectory, trajectory_network
from experiments.studies.claims.trajectory import closed_form, deviation, paths, shape
from experiments.training.points import Point


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


def test_the_straightness_of_a_straight_walk_is_one(monkeypatch):
    def loss(task, params, model_state, examples, indices, weights, training):
        total = jnp.sum(params["dense1"]["bias"])  # its gradient is constant
        return total * jnp.sum(weights), jnp.zeros(())

    monkeypatch.setattr(trajectory_network, "weighted_sums", loss)
    examples = Examples(jnp.zeros((70, 2, 2, 1)), jnp.zeros(70, jnp.int32))
    jax.clear_caches()
    walk = trajectory_network.walk(
        image_classification(mlp, 2), [Point(0.1, 0.7, 1)], examples, epochs=2
    )
    np.testing.assert_allclose(walk.straightness, 1, rtol=1e-5)
    np.testing.assert_allclose(walk.cosine, 1, rtol=1e-5)
    assert walk.rises.item() == 0

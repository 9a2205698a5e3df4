"""Grids: every lane is the run that it would be alone, compiled once, in memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data.examples import Examples, Splits
from experiments.networks import mlp
from experiments.optimizers.arms import ARMS
from experiments.records.config import Config, UsageError
from experiments.training import fit, grid, train
from experiments.training.grid import compile_grid, fit_grid
from experiments.training.lanes import Point, as_arrays, compile_lanes

pytestmark = pytest.mark.usefixtures("small_network")

RNG = np.random.default_rng(5)
BATCH, EPOCHS = 8, 3


def examples(count: int) -> Examples:
    images = RNG.integers(0, 256, (count, 6, 5, 1), dtype=np.uint8)
    labels = RNG.integers(0, 3, count, dtype=np.int32)
    return Examples(jnp.asarray(images), jnp.asarray(labels))


SPLITS = Splits(examples(29), examples(10), examples(7), classes=3)
POINTS = [
    Point(learning_rate, beta, seed)
    for learning_rate in (0.03, 0.2)
    for beta in (0.5, 0.8)
    for seed in (4, 7)
][:5]


def fitted(points, arm="keras", *, test=False, **options) -> grid.Outcome:
    transformation = ARMS[arm].transformation
    program = compile_grid(transformation, points, SPLITS, BATCH, **options)
    return fit_grid(program, points, SPLITS, EPOCHS, test=test)


@pytest.fixture(scope="module")
def whole(small_network) -> grid.Outcome:
    return fitted(POINTS, test=True)


def alone(arm: str, point: Point) -> fit.Outcome:
    rates = (float(np.float32(rate)) for rate in point[:2])
    transformation = ARMS[arm].transformation(*rates)
    program = fit.compile_program(transformation, SPLITS, BATCH)
    config = Config("made up", "0" * 16, arm, *point[:2], BATCH, EPOCHS, point.seed)
    return fit.fit(program, SPLITS, config)


def lane(outcome: grid.Outcome, index: int) -> list[np.ndarray]:
    return [x[index] for x in jax.tree.leaves(outcome[:3])]


@pytest.mark.parametrize("arm", ARMS)
def test_a_lane_is_the_run_that_fit_makes_of_its_point(arm):
    points = POINTS[:3] if arm == "keras" else POINTS[2:3]  # two devices: 4 lanes, 1
    together = fitted(points, arm, test=True)
    assert together.train.loss.shape == (len(points), EPOCHS)
    for index, point in enumerate(points):
        solo = alone(arm, point)
        expected = np.array(solo.epochs, np.float32).T
        for ours, theirs in zip(
            lane(together, index), (*expected, *solo.test), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_lanes_start_where_train_starts_bit_for_bit():
    program = compile_lanes(ARMS["keras"].transformation, 4, SPLITS, BATCH, mlp)
    params, state, sums = program.start(as_arrays(POINTS[:4]))
    np.testing.assert_array_equal(sums, np.zeros((2, 4)))
    for index, point in enumerate(POINTS[:4]):
        own = jax.tree.map(lambda x, i=index: x[i], params)
        alone = train.initial_params(SPLITS.train, SPLITS.classes, point.seed, mlp)
        jax.tree.map(np.testing.assert_array_equal, own, alone)
    assert state.step.shape == (4,)


def with_a_diverging_lane() -> grid.Outcome:
    wild = Point(1e38, 0.9, 3)
    outcome = fitted([POINTS[0], wild, *POINTS[2:]], test=True)
    assert not np.isfinite(outcome.train.loss[1, -1])
    return outcome


def assert_others_equal(first: grid.Outcome, second: grid.Outcome) -> None:
    for index in (0, 2, 3, 4):  # on its device, and on the other at the same time
        for a, b in zip(lane(first, index), lane(second, index), strict=True):
            assert np.isfinite(a).all()
            np.testing.assert_array_equal(a, b)


def test_a_diverging_lane_changes_no_bit_of_the_others(whole):
    assert_others_equal(whole, with_a_diverging_lane())


def test_lanes_in_step_are_the_same_runs_and_as_far_apart(whole, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # in name alone
    in_step = fitted(POINTS, test=True)
    for a, b in zip(*map(jax.tree.leaves, (whole[:3], in_step[:3])), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)
    assert_others_equal(in_step, with_a_diverging_lane())


def counting(traces: list[None]):
    def transformation(learning_rate, beta) -> optax.GradientTransformation:
        inner = ARMS["keras"].transformation(learning_rate, beta)

        def update(updates, state, params=None):
            traces.append(None)
            return inner.update(updates, state, params)

        return optax.GradientTransformation(inner.init, update)

    return transformation


def test_one_compilation_serves_all_points_chunks_and_epochs():
    traces = []
    program = compile_grid(counting(traces), POINTS[:2], SPLITS, BATCH)
    once = len(traces)
    fit_grid(program, POINTS, SPLITS, EPOCHS)  # in three chunks of 2, 2 and 1
    fit_grid(program, [Point(0.1, 0.7, 8), Point(0.1, 0.7, 9)], SPLITS, EPOCHS)
    assert len(traces) == once
    compile_grid(counting(traces), POINTS, SPLITS, BATCH)
    assert len(traces) == 2 * once  # five points are traced no more often than two


def test_chunks_of_a_grid_are_the_grid(whole):
    program = compile_grid(ARMS["keras"].transformation, POINTS[:2], SPLITS, BATCH)
    calls = []
    chunked = fit_grid(
        program, POINTS, SPLITS, 3, test=True, on_epoch=lambda: calls.append(None)
    )
    assert len(calls) == 3 * EPOCHS
    for a, b in zip(*map(jax.tree.leaves, (whole[:3], chunked[:3])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_test_split_is_read_only_when_asked():
    unread = SPLITS._replace(test=None)
    program = compile_grid(ARMS["sgd"].transformation, POINTS, unread, BATCH)
    assert fit_grid(program, POINTS, unread, 1).test is None


def test_a_grid_is_cut_into_equal_chunks_that_fit():
    transformation = ARMS["keras"].transformation
    points = [Point(0.1, 0.8, seed) for seed in range(90)]
    half = compile_lanes(transformation, 45, SPLITS, BATCH)
    assert (half.lanes, half.filled) == (45, 46)
    limited = compile_grid(
        transformation, points, SPLITS, BATCH, memory_limit=half.memory
    )
    assert (limited.lanes, limited.memory) == (45, half.memory)
    data = sum(x.nbytes for x in SPLITS.train)
    params_and_buffers = 2 * (6 * 5 * 3 + 3) * 4
    assert half.memory > 2 * data + 46 * params_and_buffers


def test_a_run_that_does_not_fit_is_refused_in_one_line():
    with pytest.raises(UsageError) as refused:
        fitted(POINTS[:2], memory_limit=10)
    assert re.fullmatch(
        r"one run needs 0\.0\d\d MB, but the limit is 0\.000 MB: "
        r"lower --batch-size, or raise the limit\.",
        str(refused.value),
    )


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "the grid is empty: give it at least one point."),
        (
            [Point(0.1, 0.9, 0), Point(0.2, 0.9, 0), Point(0.1, 0.9 + 1e-10, 0)],
            "the grid repeats Point(learning_rate=0.1, beta=0.9, seed=0): "
            "Point(learning_rate=0.1, beta=0.9000000001, seed=0) equals it in float32. "
            "Leave one out.",
        ),
        (
            [Point(0.0, 0.9, 0)],
            "the grid has Point(learning_rate=0.0, beta=0.9, seed=0): in float32 its "
            "learning rate must be above 0 and finite, and its beta in [0, 1). Leave "
            "it out.",
        ),
        (
            [Point(0.1, 1 - 1e-10, 0)],
            "the grid has Point(learning_rate=0.1, beta=0.9999999999, seed=0): in "
            "float32 its learning rate must be above 0 and finite, and its beta in "
            "[0, 1). Leave it out.",
        ),
        ([Point(0.1, 0.9, -1)], "--seed must lie in [0, 2^32), got -1."),
        ([Point(0.1, 0.9, 2**32)], "--seed must lie in [0, 2^32), got 4294967296."),
    ],
)
def test_a_bad_grid_is_refused_in_one_line(points, message):
    with pytest.raises(UsageError) as refused:
        compile_grid(ARMS["sgd"].transformation, points, SPLITS, BATCH)
    assert str(refused.value) == message


def test_no_epochs_and_no_batch_are_refused():
    program = compile_grid(ARMS["sgd"].transformation, POINTS[:1], SPLITS, BATCH)
    with pytest.raises(UsageError, match=r"^--epochs must be at least 1, got 0: "):
        fit_grid(program, POINTS[:1], SPLITS, 0)
    with pytest.raises(UsageError, match=r"^--batch-size must be at least 1, got 0: "):
        compile_grid(ARMS["sgd"].transformation, POINTS[:1], SPLITS, 0)


def test_another_network_is_trained_when_given():
    labels = jnp.arange(60, dtype=jnp.int32) % 3
    images = jnp.broadcast_to(
        (labels * 100).astype(jnp.uint8)[:, None, None, None], (60, 4, 4, 1)
    )
    split = Examples(images, labels)
    splits = Splits(split, split, split, classes=3)
    points = [Point(0.1, 0.8, seed) for seed in (0, 1)]
    transformation = ARMS["keras"].transformation
    program = compile_grid(transformation, points, splits, BATCH, network=mlp)
    outcome = fit_grid(program, points, splits, 40, test=True)
    assert outcome.test is not None
    np.testing.assert_array_equal(outcome.test.accuracy, [1.0, 1.0])
    np.testing.assert_array_equal(outcome.validation.loss[:, -1], outcome.test.loss)
    assert outcome.images_per_second > 0

"""The engine: runs equal those trained alone, compile once and fit in memory."""

import re
from dataclasses import replace
from itertools import product
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.usage_errors import usage_error

from experiments.data.examples import Examples, Splits
from experiments.networks import cnn, mlp
from experiments.optimizers.arms import ARMS
from experiments.problems.image_classification import image_classification
from experiments.records.config import UsageError
from experiments.training import step
from experiments.training.engine import (
    Outcome,
    check_points,
    compile_to_fit,
    seconds_per_step,
    train_runs,
)
from experiments.training.points import Point, as_arrays
from experiments.training.program import Program, compile_program
from experiments.training.step import TrainSpec

pytestmark = pytest.mark.usefixtures("small_network")

RNG = np.random.default_rng(5)
BATCH, EPOCHS = 8, 3


def examples(count: int) -> Examples:
    images = RNG.integers(0, 256, (count, 6, 5, 1), dtype=np.uint8)
    labels = RNG.integers(0, 3, count, dtype=np.int32)
    return Examples(jnp.asarray(images), jnp.asarray(labels))


SPLITS = Splits(examples(29), examples(10), examples(7))
CNN, MLP = image_classification(cnn, 3), image_classification(mlp, 3)
POINTS = [Point(*values) for values in product((0.03, 0.2), (0.5, 0.8), (4, 7))][:5]


def compiled(lanes, optimizer=ARMS["keras"].transformation, **options) -> Program:
    return compile_to_fit(TrainSpec(optimizer, BATCH, CNN), lanes, SPLITS, **options)


def trained(points, arm="keras") -> Outcome:
    program = compiled(len(points), ARMS[arm].transformation)
    return train_runs(program, points, SPLITS, EPOCHS, test=True)


@pytest.fixture(scope="module")
def whole(small_network) -> Outcome:
    return trained(POINTS)


def alone(arm: str, point: Point) -> Outcome:
    """The run on all devices, with learning rate and beta as constants."""
    rates = (float(np.float32(rate)) for rate in point[:2])
    optimizer = step.constant(ARMS[arm].transformation(*rates))
    return train_runs(compiled(1, optimizer), [point], SPLITS, EPOCHS, test=True)


def lane(outcome: Outcome, index: int) -> list[np.ndarray]:
    return [x[index] for x in jax.tree.leaves(outcome[:3])]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_a_lane_equals_its_run_alone(arm):
    points = POINTS[:3] if arm == "keras" else POINTS[2:3]  # two devices: 4 lanes, 1
    together = trained(points, arm)
    assert together.train.loss.shape == (len(points), EPOCHS)
    for index, point in enumerate(points):
        solo = alone(arm, point)
        for ours, theirs in zip(lane(together, index), lane(solo, 0), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_equal_seeds_are_paired_and_equal_runs_equal():
    program = compiled(1)
    points = [Point(0.05, 0.8, seed) for seed in (4, 4, 5)]
    runs = [train_runs(program, [point], SPLITS, 2, test=True) for point in points]
    first, again, other = runs
    jax.tree.map(np.testing.assert_array_equal, first[:3], again[:3])
    assert (first.train.loss != other.train.loss).all()
    sgd = train_runs(compiled(1, ARMS["sgd"].transformation), points[:1], SPLITS, 2)
    assert (sgd.train.loss != first.train.loss).any()


def test_lanes_start_like_a_run_alone_bit_for_bit():
    spec = TrainSpec(ARMS["keras"].transformation, BATCH, MLP)
    program = compile_program(spec, 4, SPLITS)
    params, opt_state, sums, _ = program.start(as_arrays(POINTS[:4]))
    np.testing.assert_array_equal(sums, np.zeros((2, 4)))
    for index, point in enumerate(POINTS[:4]):
        lane_params = jax.tree.map(lambda x, i=index: x[i], params)
        drawn, _ = step.initial_variables(MLP, SPLITS.train, point.seed)
        jax.tree.map(np.testing.assert_array_equal, lane_params, drawn)
    assert opt_state.step.shape == (4,)


def with_a_diverging_lane() -> Outcome:
    outcome = trained([POINTS[0], Point(1e38, 0.9, 3), *POINTS[2:]])
    assert not np.isfinite(outcome.train.loss[1, -1])
    return outcome


def assert_others_equal(first: Outcome, second: Outcome) -> None:
    for index in (0, 2, 3, 4):  # on its device, and on the other at the same time
        for a, b in zip(lane(first, index), lane(second, index), strict=True):
            assert np.isfinite(a).all()
            np.testing.assert_array_equal(a, b)


def test_a_diverging_lane_changes_no_bit_of_the_others(whole):
    assert_others_equal(whole, with_a_diverging_lane())


def test_lanes_in_lockstep_train_the_same_independent_runs(whole, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # in name only
    in_step = trained(POINTS)
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
    program = compiled(2, counting(traces))
    once = len(traces)
    train_runs(program, POINTS, SPLITS, EPOCHS)  # in three chunks of 2, 2 and 1
    train_runs(program, [Point(0.1, 0.7, 8), Point(0.1, 0.7, 9)], SPLITS, EPOCHS)
    assert len(traces) == once
    compiled(5, counting(traces))
    assert len(traces) == 2 * once  # five points are traced no more often than two


def test_chunks_of_a_grid_equal_the_whole_grid(whole):
    epoch = Mock()
    chunked = train_runs(compiled(2), POINTS, SPLITS, 3, test=True, on_epoch=epoch)
    assert epoch.call_count == 3 * EPOCHS
    for a, b in zip(*map(jax.tree.leaves, (whole[:3], chunked[:3])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_test_split_is_read_only_on_request():
    unread = SPLITS._replace(test=None)
    spec = TrainSpec(ARMS["sgd"].transformation, BATCH, CNN)
    program = compile_to_fit(spec, len(POINTS), unread)
    assert train_runs(program, POINTS, unread, 1).test is None


@pytest.mark.slow
def test_runs_are_cut_into_equal_chunks_that_fit():
    half = compile_program(
        TrainSpec(ARMS["keras"].transformation, BATCH, CNN), 45, SPLITS
    )
    assert (half.lanes, half.padded_lanes) == (45, 46)
    limited = compiled(90, memory_limit=half.memory)
    assert (limited.lanes, limited.memory) == (45, half.memory)
    data = sum(x.nbytes for x in SPLITS.train)
    params_and_buffers = 2 * (6 * 5 * 3 + 3) * 4
    assert half.memory > 2 * data + 46 * params_and_buffers


def test_a_run_that_does_not_fit_is_refused_in_one_line():
    message = usage_error("one run needs 0.0", compiled, 2, memory_limit=10)
    rest = (
        r" MB of memory, but there are 0\.000 MB for it: choose smaller examples or a "
    )
    assert re.fullmatch(rf"\d\d{rest}smaller network\.", message)


def square(side: int, batch_size: int, **options) -> Program:
    def images(count: int) -> Examples:
        pixels = jnp.zeros((count, side, side, 1), jnp.uint8)
        return Examples(pixels, jnp.zeros(count, jnp.int32))

    splits = Splits(images(40), images(10), images(7))
    spec = TrainSpec(ARMS["keras"].transformation, batch_size, CNN)
    return compile_to_fit(spec, 1, splits, **options)


@pytest.mark.slow
def test_sizes_that_would_fit_are_named_and_do():
    needed = square(64, 32).memory
    limit = needed * 85 // 100
    message = usage_error("one run needs ", square, 64, 32, memory_limit=limit)
    found = re.search(r"choose --image-size (\d+) or --batch-size (\d+)\.$", message)
    assert found
    side, batch_size = map(int, found.groups())
    assert side == 55 and square(side, 32).memory <= limit
    assert 8 < batch_size < 32 and square(64, batch_size).memory <= limit


def test_a_step_is_timed_without_touching_a_run(monkeypatch):
    program, counts = compiled(2), []
    before = train_runs(program, POINTS[:2], SPLITS, 1).train.loss

    def counting(lanes, state, epoch, start_step, stop_step, train):
        counts.append(stop_step - start_step)
        return program.train_steps(lanes, state, epoch, start_step, stop_step, train)

    assert seconds_per_step(replace(program, train_steps=counting), SPLITS) > 0
    assert counts[0] == 1 and sum(counts) <= 10
    after = train_runs(program, POINTS[:2], SPLITS, 1).train.loss
    np.testing.assert_array_equal(after, before)


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
        *(
            (
                [point],
                f"the grid has {point}: in float32 its learning rate must be above 0 "
                "and finite, and its beta in [0, 1). Leave it out.",
            )
            for point in (Point(0.0, 0.9, 0), Point(0.1, 1 - 1e-10, 0))
        ),
        ([Point(0.1, 0.9, -1)], "--seed must lie in [0, 2^32), got -1."),
        ([Point(0.1, 0.9, 2**32)], "--seed must lie in [0, 2^32), got 4294967296."),
    ],
)
def test_a_bad_grid_is_refused_in_one_line(points, message):
    assert usage_error("", check_points, points) == message


def test_no_epochs_and_no_batch_are_refused():
    program = compiled(1)
    with pytest.raises(UsageError, match=r"^--epochs must be at least 1, got 0: "):
        train_runs(program, POINTS[:1], SPLITS, 0)
    with pytest.raises(UsageError, match=r"^--batch-size must be at least 1, got 0: "):
        compile_to_fit(TrainSpec(ARMS["sgd"].transformation, 0, CNN), 1, SPLITS)


@pytest.mark.slow
def test_a_given_network_is_trained():
    labels = jnp.arange(60, dtype=jnp.int32) % 3
    pixels = (labels * 100).astype(jnp.uint8)[:, None, None, None]
    images = jnp.broadcast_to(pixels, (60, 4, 4, 1))
    split = Examples(images, labels)
    splits = Splits(split, split, split)
    points = [Point(0.1, 0.8, seed) for seed in (0, 1)]
    spec = TrainSpec(ARMS["keras"].transformation, BATCH, MLP)
    program = compile_to_fit(spec, len(points), splits, test=True)
    outcome = train_runs(program, points, splits, 40, test=True)
    assert outcome.test is not None
    np.testing.assert_array_equal(outcome.test.metric, [1.0, 1.0])
    np.testing.assert_array_equal(outcome.validation.loss[:, -1], outcome.test.loss)
    assert outcome.images_per_second > 0

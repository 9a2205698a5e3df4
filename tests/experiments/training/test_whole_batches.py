"""Steps on whole batches: BatchNorm, Dropout and augmentation, exact everywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small_problem import (
    TEST,
    TRAIN,
    VALIDATION,
    linen_functions,
    small_problem,
)

from experiments.data.examples import Splits
from experiments.networks.network import random_key
from experiments.optimizers.arms import ARMS
from experiments.problems.problem import task_of
from experiments.training import scoring, step
from experiments.training.engine import compile_to_fit, train_runs
from experiments.training.points import Point, as_arrays
from experiments.training.program import Program, compile_program
from experiments.training.scoring import score
from experiments.training.step import TrainSpec, TrainState

BATCH, STEPS = 8, 4  # batches of 8, 8, 8 and 5
SPLITS = Splits(TRAIN, VALIDATION, TEST)
POINT = Point(0.05, 0.8, 3)


@pytest.fixture(scope="module", params=["nnx", "linen"])
def problem(request):
    return small_problem(linen_functions() if request.param == "linen" else None)


@pytest.fixture(scope="module")
def task(problem):
    return task_of(problem)


def program(task, lanes=1, halted=None) -> Program:
    spec = TrainSpec(ARMS["keras"].transformation, BATCH, task, halted)
    return compile_program(spec, lanes, SPLITS, test=True)


def after(program: Program, *calls: tuple[int, int, int], points=(POINT,)):
    lanes = as_arrays(points)
    state = program.start(lanes)
    for call in calls:
        state = program.train_steps(lanes, state, *call, SPLITS.train)
    return state


def plain_loop(task, point: Point, epochs: int) -> TrainState:
    """The same run, batch by batch, as anyone would write it."""
    key = jax.random.fold_in(random_key(point.seed), 0)
    params, model_state = task.init(key, jax.tree.map(lambda x: x[:8], TRAIN))
    optimizer = ARMS["keras"].transformation(point.learning_rate, point.beta)
    opt_state = optimizer.init(params)
    sums = np.zeros(2)
    for epoch in range(epochs):
        order = jax.random.permutation(
            step.order_key(point.seed, epoch), len(TRAIN["y"])
        )
        root = jax.random.fold_in(jax.random.fold_in(random_key(point.seed), 2), epoch)
        sums = np.zeros(2)
        for number in range(STEPS):
            rows = np.asarray(order[number * BATCH : (number + 1) * BATCH])
            batch = jax.tree.map(lambda x, rows=rows: jnp.asarray(x[rows]), TRAIN)
            keys = jax.random.split(jax.random.fold_in(root, number))
            batch = task.augment(keys[1], batch)

            def mean(params, batch=batch, key=keys[0], model_state=model_state):
                losses, metrics, after = task.loss(
                    params, model_state, batch, key, training=True
                )
                return losses.mean(), (
                    losses.sum(),
                    metrics["squared_error"].sum(),
                    after,
                )

            gradients, (loss, error, model_state) = jax.grad(mean, has_aux=True)(params)
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            params = optax.apply_updates(params, updates)
            sums += float(loss), float(error)
    return TrainState(
        params, opt_state, step.Score(*map(jnp.asarray, sums)), model_state
    )


def assert_close(ours, theirs, **tolerance) -> None:
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 2e-5, "atol": 2e-6, **tolerance})


def lane(state, index=0):
    return jax.tree.map(lambda x: x[index], state)


@pytest.mark.slow
def test_a_run_equals_a_plain_loop_with_its_last_batch_smaller(task):
    assert task.whole_batches
    got = lane(after(program(task), (0, 0, STEPS), (1, 0, STEPS)))
    expected = plain_loop(task, POINT, epochs=2)
    assert_close(got._replace(opt_state=()), expected._replace(opt_state=()))
    assert jax.tree.leaves(got.model_state)


def test_the_division_of_an_epoch_changes_no_bit(task):
    compiled = program(task)
    whole = after(compiled, (0, 0, 4), (1, 0, 2))
    for cuts in [(1,), (3,), (1, 2, 3)]:
        parts = zip((0, *cuts), (*cuts, 4), strict=True)
        got = after(compiled, *((0, *part) for part in parts), (1, 0, 1), (1, 1, 2))
        jax.tree.map(np.testing.assert_array_equal, got, whole)


@pytest.mark.slow
def test_no_step_follows_a_halt(task):
    halting = program(task, halted=lambda opt_state: opt_state.step >= 3)
    got = after(halting, (0, 0, 4))
    jax.tree.map(np.testing.assert_array_equal, got, after(program(task), (0, 0, 3)))


@pytest.mark.slow
def test_statistics_are_those_of_the_whole_batch_on_any_number_of_devices():
    """Statistics of each device's share would differ in the first digits."""
    program = "support.whole_batches_on_devices"
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-m", program],
        capture_output=True,
        check=True,
        cwd=root,
        env={**os.environ, "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "4"},
    )
    for count, found in json.loads(result.stdout).items():
        assert found["params"] < 1e-5, count
        assert found["model_state"] < 1e-5, count
        assert found["reduces"]
        assert not found["gathers"]


@pytest.mark.slow
def test_a_lane_equals_its_run_alone_and_others_change_no_bit(task):
    points = [POINT, Point(0.02, 0.5, 4), Point(0.05, 0.8, 5)]
    together = program(task, 3)
    padded = [*points, *points[-1:] * (together.padded_lanes - 3)]
    state = after(together, (0, 0, STEPS), points=padded)
    for index, point in enumerate(points):
        alone = after(program(task), (0, 0, STEPS), points=[point])
        assert_close(lane(state, index), lane(alone))
    broken = [padded[0], Point(1e38, 0.9, 4), *padded[2:]]
    beside = after(together, (0, 0, STEPS), points=broken)
    for index in (0, 2):
        jax.tree.map(
            np.testing.assert_array_equal, lane(beside, index), lane(state, index)
        )


@pytest.mark.slow
def test_lanes_in_lockstep_train_the_same_runs(task, monkeypatch):
    points = [POINT, Point(0.02, 0.5, 4), Point(0.05, 0.8, 5), Point(0.1, 0.3, 6)]
    in_turn = after(program(task, 4), (0, 0, STEPS), points=points)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # in name only
    in_step = after(program(task, 4), (0, 0, STEPS), points=points)
    assert_close(in_step, in_turn)


def test_evaluation_uses_running_statistics_whatever_its_batches(task, monkeypatch):
    compiled = program(task)
    state = after(compiled, (0, 0, STEPS))
    found = compiled.score(state, SPLITS.test)
    monkeypatch.setattr(scoring, "_BATCH", 3)
    smaller = score(task, lane(state.params), SPLITS.test, lane(state.model_state))
    np.testing.assert_allclose(smaller.loss, found.loss[0], rtol=1e-6)
    params, model_state = lane(state).params, lane(state).model_state
    losses, metrics, _ = task.loss(
        params, model_state, TEST, random_key(9), training=False
    )
    assert found.loss[0] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert found.metric[0] == pytest.approx(
        float(metrics["squared_error"].mean()), rel=1e-5
    )


@pytest.mark.slow
def test_metrics_of_the_epochs_reach_the_outcome(task):
    spec = TrainSpec(ARMS["keras"].transformation, BATCH, task)
    compiled = compile_to_fit(spec, 2, SPLITS, test=True)
    points = [POINT, Point(0.02, 0.5, 4)]
    outcome = train_runs(compiled, points, SPLITS, 30, test=True)
    assert outcome.validation.metric.shape == (2, 30)
    assert (outcome.train.metric[:, -1] < outcome.train.metric[:, 0]).all()

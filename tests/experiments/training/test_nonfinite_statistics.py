"""A batch that overflows in BatchNorm: each policy, and the running statistics."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from support import overflowing_problem
from support.overflowing_problem import BAD_TRAIN, EXAMPLE
from support.small_problem import TEST, VALIDATION

from experiments.__main__ import main
from experiments.data.examples import Splits
from experiments.optimizers.arms import ARMS
from experiments.problems.problem import task_of
from experiments.training.checkpoints import read
from experiments.training.nonfinite import train_spec
from experiments.training.points import Point, as_arrays
from experiments.training.program import compile_program
from experiments.training.step import epoch_order, order_key

BATCH, SEED = 8, 0
FILE = overflowing_problem.__file__
SPLITS = Splits(BAD_TRAIN, VALIDATION, TEST)
ORDER = np.asarray(epoch_order(order_key(SEED, 0), len(BAD_TRAIN["y"])))
STEP = int(np.argwhere(ORDER == EXAMPLE)[0, 0]) // BATCH  # of the first epoch


@pytest.fixture(scope="module")
def states():
    """Runs, in one lane, just before and just after the step that overflows."""

    def trained(policy):
        task = task_of(overflowing_problem.problem())
        spec = train_spec(ARMS["keras"].transformation, BATCH, task, policy)
        program = compile_program(spec, 1, SPLITS)
        lanes = as_arrays([Point(0.05, 0.8, SEED)] * program.padded_lanes)
        steps = [(0, STEP), (STEP, STEP + 1)]
        state, found = program.start(lanes), []
        for start, stop in steps:
            state = program.train_steps(lanes, state, 0, start, stop, SPLITS.train)
            found.append(jax.device_get(state))
        return found

    return {policy: trained(policy) for policy in ("skip", "record")}


def test_a_skipped_step_keeps_the_running_statistics(states):
    before, after = states["skip"]
    assert after.opt_state.skipped[0] == before.opt_state.skipped[0] + 1 == 1
    assert jax.tree.leaves(before.model_state)
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, after.model_state, before.model_state)


def test_a_recorded_step_changes_them_as_the_network_does(states):
    before, after = states["record"]
    assert np.isfinite(before.model_state["norm"]["var"]).all()
    assert not np.isfinite(after.model_state["norm"]["var"]).any()


def compare(output: Path, capsys) -> tuple[int, str, str]:
    words = f"compare --seeds 1 --epochs 2 --batch-size {BATCH} --nonfinite stop"
    words = [*words.split(), "--problem", f"{FILE}:problem", "--output", str(output)]
    status = main([*words, "--arms", f"{FILE}:optimizers"])
    return status, *capsys.readouterr()


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_stopping_names_step_and_leaf_and_resumes_before_that_step(tmp_path, capsys):
    assert STEP == 2  # so that the checkpoint holds statistics of training
    for attempt in range(2):
        status, out, err = compare(tmp_path, capsys)
        assert (status, err.count("\n")) == (2, 1)
        named = f"error: keras, seed 0: at step {STEP + 1} of epoch 1 the gradient of "
        assert err.startswith(f"{named}params['first']")
        assert ("Resuming from" in out) == (attempt == 1)
    (saved,) = tmp_path.glob(f"checkpoints/*/00000000-{STEP:08}")
    work = json.loads((saved / "manifest.json").read_bytes())["work"]
    statistics = {k: v for k, v in read(saved, work).items() if "model_state" in k}
    assert len(statistics) == 2
    for value in statistics.values():
        assert np.isfinite(value).all()
        assert value.any()

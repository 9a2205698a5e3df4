"""Runs: equal seeds paired, one program for all of them, and what can be is learned."""

import jax
import jax.numpy as jnp
import optax
import pytest
from support.small_splits import SPLITS

from experiments.data.examples import Examples, Splits
from experiments.optimizers.arms import ARMS
from experiments.records.config import Config
from experiments.training.fit import Program, compile_program, fit

pytestmark = pytest.mark.usefixtures("small_network")

BATCH = 8


def config(arm="keras", seed=0, epochs=2) -> Config:
    return Config("made up", "0" * 16, arm, 0.05, 0.8, BATCH, epochs, seed)


def optimizer(arm="keras") -> optax.GradientTransformation:
    return ARMS[arm].transformation(0.05, 0.8)


@pytest.fixture
def program(small_network) -> Program:
    return compile_program(optimizer(), SPLITS, BATCH)


def test_equal_seeds_are_paired_and_equal_runs_equal(program):
    first = fit(program, SPLITS, config(seed=4))
    again = fit(program, SPLITS, config(seed=4))
    other = fit(program, SPLITS, config(seed=5))
    assert first.epochs == again.epochs
    assert first.test == again.test
    assert first.epochs != other.epochs
    sgd = compile_program(optimizer("sgd"), SPLITS, BATCH)
    assert fit(sgd, SPLITS, config("sgd", seed=4)).epochs != first.epochs


def test_one_compilation_serves_all_seeds_and_epochs():
    traces = []

    def update(updates, state, params=None):
        traces.append(None)
        return jax.tree.map(lambda g: -0.05 * g, updates), state

    counting = optax.GradientTransformation(optax.init_empty_state, update)
    compiled = compile_program(counting, SPLITS, BATCH)
    for seed in range(3):
        fit(compiled, SPLITS, config("sgd", seed=seed))
    assert len(traces) == 1


def test_a_run_learns_what_can_be_learned():
    labels = jnp.arange(60, dtype=jnp.int32) % 3
    images = jnp.broadcast_to(
        (labels * 100).astype(jnp.uint8)[:, None, None, None], (60, 18, 18, 1)
    )
    split = Examples(images, labels)
    splits = Splits(split, split, split, classes=3)
    program = compile_program(optimizer(), splits, BATCH)
    outcome = fit(program, splits, config(epochs=30))
    assert outcome.test.accuracy == 1.0
    assert len(outcome.epochs) == 30
    assert outcome.epochs[-1].validation_loss == pytest.approx(outcome.test.loss)
    assert 0 < outcome.images_per_second and 0 < outcome.seconds

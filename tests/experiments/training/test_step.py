"""Steps: an epoch uses every image once, wherever it is divided into calls."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small_splits import SPLITS, TASK

from experiments.data.examples import Examples, in_batches
from experiments.distributed import devices
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.training import scoring, step
from experiments.training.points import Point, as_arrays
from experiments.training.program import Program, compile_program
from experiments.training.scoring import score, score_lanes
from experiments.training.step import TrainSpec, TrainState, order_key

pytestmark = pytest.mark.usefixtures("small_network")

BATCH = 8


def optimizer(arm="keras") -> optax.GradientTransformation:
    return ARMS[arm].transformation(0.05, 0.8)


def program(arm="keras", halted=None) -> Program:
    spec = TrainSpec(step.constant(optimizer(arm)), BATCH, TASK, halted)
    return compile_program(spec, 1, SPLITS)


def initial_params(seed: int) -> Any:
    return step.initial_variables(TASK, SPLITS.train, seed)[0]


def after(program: Program, *calls: tuple[int, int, int], seed=3) -> TrainState:
    """The state after calls of (epoch, start step, stop step)."""
    points = as_arrays([Point(0.05, 0.8, seed)])
    state = program.start(points)
    for call in calls:
        state = program.train_steps(points, state, *call, SPLITS.train)
    return jax.tree.map(lambda x: x[0], state)


@pytest.fixture(params=[16, 3])
def compiled(request, small_network, monkeypatch) -> Iterator[Program]:
    """Computes gradients in slices; slices of 3 images need padding."""
    with monkeypatch.context() as patch:
        patch.setattr(devices, "_CPU_SLICE", request.param)
        jax.clear_caches()  # programs may have been traced with the other size
        yield program()
    jax.clear_caches()


@pytest.mark.slow
def test_an_epoch_equals_a_plain_loop_over_all_images(compiled):
    got = after(compiled, (1, 0, 4))

    def loss_of(params, images, labels):
        logits = cnn.apply(params, images.astype(jnp.float32) / 255)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (losses.sum(), (logits.argmax(-1) == labels).sum())

    params = initial_params(3)
    opt_state = optimizer().init(params)
    order = jax.random.permutation(order_key(3, 1), 29)
    losses, hits = 0.0, 0
    for batch in (order[i : i + BATCH] for i in range(0, 29, BATCH)):  # 8, 8, 8, 5
        examples = SPLITS.train.images[batch], SPLITS.train.labels[batch]
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (_, (loss, hit)), gradients = grad(params, *examples)
        losses, hits = losses + float(loss), hits + int(hit)
        updates, opt_state = optimizer().update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
    for a, b in zip(jax.tree.leaves(got.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)
    assert got.opt_state.step == 4
    assert got.sums.loss == pytest.approx(losses, rel=1e-5)
    assert got.sums.metric == pytest.approx(hits, rel=1e-6)


def test_the_division_of_an_epoch_changes_no_bit(compiled):
    def cut(*cuts: int) -> TrainState:
        """An epoch of four steps, in parts, and a step of the next."""
        parts = zip((0, *cuts), (*cuts, 4), strict=True)
        return after(compiled, *((0, *part) for part in parts), (1, 0, 1))

    whole = cut()
    assert whole.sums.loss < 8 * 5  # one batch, not 37 images: sums restart
    for cuts in [(1,), (3,), (1, 2, 3)]:
        jax.tree.map(np.testing.assert_array_equal, cut(*cuts), whole)


def test_no_step_follows_a_halt():
    halting = program(halted=lambda opt_state: opt_state.step >= 2)
    got = after(halting, (0, 0, 4))
    assert got.opt_state.step == 2
    jax.tree.map(np.testing.assert_array_equal, got, after(program(), (0, 0, 2)))


def test_the_first_step_of_momentum_equals_that_of_sgd():
    steps = [after(program(arm), (0, 0, 1), seed=4).params for arm in ("sgd", "keras")]
    for a, b in zip(*map(jax.tree.leaves, steps), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-7)


@pytest.mark.slow
def test_score_reads_every_image(monkeypatch):
    params = initial_params(0)
    logits = cnn.apply(params, SPLITS.test.images.astype(jnp.float32) / 255)
    labels = SPLITS.test.labels
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    accuracy = (logits.argmax(-1) == labels).mean()
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), params)
    for batch in (1, 3, 500):  # 7 images on 2 devices: in 4 batches, in 2, in one
        monkeypatch.setattr(scoring, "_BATCH", batch)
        jax.clear_caches()
        apart = score_lanes(devices.device_mesh(2), TASK, lanes, (), SPLITS.test)
        for got in (
            score(TASK, params, SPLITS.test),
            jax.tree.map(lambda x: x[1], apart),
        ):
            assert got.loss == pytest.approx(float(loss), rel=1e-5)
            assert got.metric == pytest.approx(float(accuracy), rel=1e-6)


def test_padding_an_incomplete_batch_has_no_weight():
    indices, weights = in_batches(jnp.arange(10, 23), 5)
    assert indices.shape == weights.shape == (3, 5)
    np.testing.assert_array_equal(weights.reshape(-1), [1.0] * 13 + [0.0] * 2)
    np.testing.assert_array_equal(indices.reshape(-1)[:13], np.arange(10, 23))


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return jax.random.permutation(order_key(seed, epoch), 29).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9
    assert sorted(order(1, 2)) == list(range(29))


def test_float_images_are_used_unchanged():
    scaled = SPLITS.test.images.astype(jnp.float32) / 255
    params = initial_params(0)
    got = score(TASK, params, Examples(scaled, SPLITS.test.labels))
    assert got == score(TASK, params, SPLITS.test)

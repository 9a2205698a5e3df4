"""Training: every image once an epoch, none dropped, wherever it is cut."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small_splits import SPLITS

from experiments.data.examples import Examples, in_batches
from experiments.distributed import devices
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.training import scoring, train
from experiments.training.scoring import score, score_apart

pytestmark = pytest.mark.usefixtures("small_network")

BATCH = 8


def optimizer(arm="keras") -> optax.GradientTransformation:
    return ARMS[arm].transformation(0.05, 0.8)


@pytest.fixture(params=[16, 3])
def advance(request, small_network, monkeypatch) -> train.Advance:
    """Its gradients are taken in slices; of 3 images, they need filling to be whole."""
    monkeypatch.setattr(devices, "_CPU_SLICE", request.param)
    jax.clear_caches()  # as it may have been traced with the other
    return train.compile_steps(optimizer(), SPLITS.train, SPLITS.classes, BATCH)


def begin(arm="keras", seed=0) -> train.Underway:
    return train.begin(optimizer(arm), SPLITS.train, SPLITS.classes, seed)


def test_an_epoch_is_a_plain_loop_over_every_image_once(advance):
    key = train.order_key(3, 1)
    got = advance(begin(), key, np.int32(0), np.int32(4), SPLITS.train)

    def loss_of(params, images, labels):
        logits = cnn.apply(params, images.astype(jnp.float32) / 255)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (losses.sum(), (logits.argmax(-1) == labels).sum())

    params: Any
    params, state, _ = begin()
    order = jax.random.permutation(key, 29)
    losses, hits = 0.0, 0
    for batch in (order[i : i + BATCH] for i in range(0, 29, BATCH)):  # 8, 8, 8, 5
        chosen = SPLITS.train.images[batch], SPLITS.train.labels[batch]
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (_, (loss, hit)), gradients = grad(params, *chosen)
        losses, hits = losses + float(loss), hits + int(hit)
        updates, state = optimizer().update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for a, b in zip(jax.tree.leaves(got.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)
    assert got.state.step == 4
    assert got.sums.loss == pytest.approx(losses, rel=1e-5)
    assert got.sums.accuracy == pytest.approx(hits, rel=1e-6)


def test_where_an_epoch_is_cut_changes_no_bit(advance):
    key, other = train.order_key(3, 0), train.order_key(3, 1)

    def after(*cuts: int) -> train.Underway:
        """An epoch of four steps, in parts, and a step of the next."""
        underway = begin()
        for first, last in zip((0, *cuts), (*cuts, 4), strict=True):
            numbers = np.int32(first), np.int32(last)
            underway = advance(underway, key, *numbers, SPLITS.train)
        return advance(underway, other, np.int32(0), np.int32(1), SPLITS.train)

    whole = after()
    assert whole.sums.loss < 8 * 5  # of one batch, not of 37 images: they began anew
    for cuts in [(1,), (3,), (1, 2, 3)]:
        jax.tree.map(np.testing.assert_array_equal, after(*cuts), whole)


def test_no_step_is_taken_once_the_state_says_halt():
    def halted(state):
        return state.step >= 2

    arguments = optimizer(), SPLITS.train, SPLITS.classes, BATCH
    halting = train.compile_steps(*arguments, halted=halted)
    plain = train.compile_steps(*arguments)
    key, first = train.order_key(1, 0), np.int32(0)
    got = halting(begin(), key, first, np.int32(4), SPLITS.train)
    want = plain(begin(), key, first, np.int32(2), SPLITS.train)
    assert got.state.step == 2
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_the_first_step_of_momentum_is_that_of_sgd():
    after = {}
    for arm in ("sgd", "keras"):
        arguments = optimizer(arm), SPLITS.train, SPLITS.classes, BATCH
        advance, numbers = train.compile_steps(*arguments), (np.int32(0), np.int32(1))
        key, underway = train.order_key(4, 0), begin(arm, seed=4)
        after[arm] = advance(underway, key, *numbers, SPLITS.train).params
    for a, b in zip(*map(jax.tree.leaves, after.values()), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-7)


def test_score_reads_every_image(monkeypatch):
    params = train.initial_params(SPLITS.train, SPLITS.classes, seed=0)
    logits = cnn.apply(params, SPLITS.test.images.astype(jnp.float32) / 255)
    labels = SPLITS.test.labels
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    accuracy = (logits.argmax(-1) == labels).mean()
    for batch in (1, 3, 500):  # 7 images on 2 devices: in 4 batches, in 2, in one
        monkeypatch.setattr(scoring, "_BATCH", batch)
        jax.clear_caches()
        for got in score(params, SPLITS.test), score_apart(params, SPLITS.test):
            assert got.loss == pytest.approx(float(loss), rel=1e-5)
            assert got.accuracy == pytest.approx(float(accuracy), rel=1e-6)


def test_filling_an_incomplete_batch_has_no_weight():
    indices, weights = in_batches(jnp.arange(10, 23), 5)
    assert indices.shape == weights.shape == (3, 5)
    np.testing.assert_array_equal(weights.reshape(-1), [1.0] * 13 + [0.0] * 2)
    np.testing.assert_array_equal(indices.reshape(-1)[:13], np.arange(10, 23))


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return jax.random.permutation(train.order_key(seed, epoch), 29).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9
    assert sorted(order(1, 2)) == list(range(29))


def test_float_images_are_taken_as_they_are():
    scaled = SPLITS.test.images.astype(jnp.float32) / 255
    params = train.initial_params(SPLITS.train, SPLITS.classes, seed=0)
    got = score(params, Examples(scaled, SPLITS.test.labels))
    assert got == score(params, SPLITS.test)

"""Training: every image once an epoch, none dropped, equal seeds paired."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import devices, model, scoring, train
from experiments.arms import ARMS
from experiments.config import Config
from experiments.examples import Examples, Splits, in_batches
from experiments.scoring import score, score_apart

pytestmark = pytest.mark.usefixtures("small_network")

RNG = np.random.default_rng(5)
BATCH = 8


def examples(count: int) -> Examples:
    images = RNG.integers(0, 256, (count, 18, 18, 1), dtype=np.uint8)
    labels = RNG.integers(0, 3, count, dtype=np.int32)
    return Examples(jnp.asarray(images), jnp.asarray(labels))


SPLITS = Splits(examples(29), examples(10), examples(7), classes=3)


def config(arm="keras", seed=0, epochs=2) -> Config:
    return Config("made up", "0" * 16, arm, 0.05, 0.8, BATCH, epochs, seed)


def optimizer(arm="keras") -> optax.GradientTransformation:
    return ARMS[arm].transformation(0.05, 0.8)


@pytest.fixture(params=[16, 3])
def program(request, small_network, monkeypatch):
    """Its gradients are taken in slices; of 3 images, they need filling to be whole."""
    monkeypatch.setattr(devices, "_CPU_SLICE", request.param)
    jax.clear_caches()  # as it may have been traced with the other
    return train.compile_program(optimizer(), SPLITS, BATCH)


def start(transformation) -> tuple[Any, Any]:
    params = train.initial_params(SPLITS.train, SPLITS.classes, seed=0)
    return params, transformation.init(params)


def test_an_epoch_is_a_plain_loop_over_every_image_once(program):
    key = train.order_key(3, 1)
    params, state = start(optimizer())
    got, got_state, got_score = program.train_epoch(params, state, key, SPLITS.train)

    def loss_of(params, images, labels):
        logits = model.apply(params, images.astype(jnp.float32) / 255)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (losses.sum(), (logits.argmax(-1) == labels).sum())

    params, state = start(optimizer())
    order = jax.random.permutation(key, 29)
    losses, hits = 0.0, 0
    for batch in (order[i : i + BATCH] for i in range(0, 29, BATCH)):  # 8, 8, 8, 5
        chosen = SPLITS.train.images[batch], SPLITS.train.labels[batch]
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (_, (loss, hit)), gradients = grad(params, *chosen)
        losses, hits = losses + float(loss), hits + int(hit)
        updates, state = optimizer().update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)
    assert got_state.step == 4
    assert got_score.loss == pytest.approx(losses / 29, rel=1e-5)
    assert got_score.accuracy == pytest.approx(hits / 29, rel=1e-6)


def test_score_reads_every_image(monkeypatch):
    params = train.initial_params(SPLITS.train, SPLITS.classes, seed=0)
    logits = model.apply(params, SPLITS.test.images.astype(jnp.float32) / 255)
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


def test_equal_seeds_are_paired_and_equal_runs_equal(program):
    first = train.fit(program, SPLITS, config(seed=4))
    again = train.fit(program, SPLITS, config(seed=4))
    other = train.fit(program, SPLITS, config(seed=5))
    assert first.epochs == again.epochs
    assert first.test == again.test
    assert first.epochs != other.epochs
    sgd = train.compile_program(optimizer("sgd"), SPLITS, BATCH)
    # The first step of Keras's momentum is that of SGD: same start, same first batch.
    key = train.order_key(4, 0)
    one = jax.tree.map(lambda x: x[:BATCH], SPLITS.train)
    single = {
        arm: train.compile_epoch(optimizer(arm), one, SPLITS.classes, BATCH)
        for arm in ("sgd", "keras")
    }
    after = {}
    for arm, epoch in single.items():
        params = train.initial_params(SPLITS.train, SPLITS.classes, seed=4)
        after[arm], *_ = epoch(params, optimizer(arm).init(params), key, one)
    for a, b in zip(*(jax.tree.leaves(after[arm]) for arm in after), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-7)
    assert train.fit(sgd, SPLITS, config("sgd", seed=4)).epochs != first.epochs


def test_one_compilation_serves_all_seeds_and_epochs():
    traces = []

    def update(updates, state, params=None):
        traces.append(None)
        return jax.tree.map(lambda g: -0.05 * g, updates), state

    counting = optax.GradientTransformation(optax.init_empty_state, update)
    compiled = train.compile_program(counting, SPLITS, BATCH)
    for seed in range(3):
        train.fit(compiled, SPLITS, config("sgd", seed=seed))
    assert len(traces) == 1


def test_a_run_learns_what_can_be_learned():
    labels = jnp.arange(60, dtype=jnp.int32) % 3
    images = jnp.broadcast_to(
        (labels * 100).astype(jnp.uint8)[:, None, None, None], (60, 18, 18, 1)
    )
    split = Examples(images, labels)
    splits = Splits(split, split, split, classes=3)
    program = train.compile_program(optimizer(), splits, BATCH)
    outcome = train.fit(program, splits, config(epochs=30))
    assert outcome.test.accuracy == 1.0
    assert len(outcome.epochs) == 30
    assert outcome.epochs[-1].validation_loss == pytest.approx(outcome.test.loss)
    assert 0 < outcome.images_per_second and 0 < outcome.seconds


def test_float_images_are_taken_as_they_are():
    scaled = SPLITS.test.images.astype(jnp.float32) / 255
    params = train.initial_params(SPLITS.train, SPLITS.classes, seed=0)
    got = score(params, Examples(scaled, SPLITS.test.labels))
    assert got == score(params, SPLITS.test)

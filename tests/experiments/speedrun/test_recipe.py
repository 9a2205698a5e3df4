"""The recipe against PyTorch's equations in NumPy, and what its images go through."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.data.examples import Examples
from experiments.networks.network import random_key
from experiments.networks.whitened import whitening_kernel
from experiments.speedrun import recipe as recipes
from experiments.speedrun.recipe import Recipe, augmented, length, normalized
from experiments.speedrun.steps import order_of

RECIPE = Recipe(
    (12, 12, 3), 4, 32, length(images=130, batch_size=32, epochs=3.1), jnp.float32
)


def test_the_last_epoch_may_be_shorter():
    assert RECIPE.length == (4, 13) and RECIPE.length.epochs == 4
    assert length(50_000, 1024, 9.9) == (48, 476)


def torch_sgd(params: np.ndarray, group: str, gradients: np.ndarray) -> np.ndarray:
    """A parameter after each step of the published program, in float64.

    torch.optim.SGD(lr, momentum=0.85, nesterov=True, weight_decay) on a summed loss,
    with LambdaLR and the LookaheadState that the program calls every five steps.
    """
    per_epoch, total = RECIPE.length
    batch = RECIPE.batch_size
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    rate, decay = 11.5 / kilostep, 0.0153 * batch / kilostep
    if group == "biases":
        rate *= 64
    buffer, slow, weights = np.zeros_like(params), params.copy(), params.copy()
    after = []
    for step, gradient in enumerate(gradients):
        warmup = int(total * 0.23)
        if step < warmup:
            factor = 0.2 + 0.8 * step / warmup
        else:
            factor = 1 - 0.93 * (step - warmup) / (total - warmup)
        if group != "whitening bias" or step < 3 * per_epoch:
            g = gradient * batch + decay / rate * weights
            buffer = 0.85 * buffer + g
            weights = weights - rate * factor * (g + 0.85 * buffer)
        if (step + 1) % 5 == 0:
            share = 0.95**5 * ((step + 1) / total) ** 3
            slow = share * slow + (1 - share) * weights
            weights = slow.copy()
        after.append(weights)
    return np.stack(after)


def test_the_optimizer_is_the_published_one():
    rng = np.random.default_rng(5)
    names = {
        "kernels": ("params", "head", "kernel"),
        "biases": ("params", "norm1", "bias"),
        "whitening bias": ("params", "whitening_bias"),
    }
    start = {name: rng.normal(size=6) for name in names}
    total = RECIPE.length.total
    gradients = {name: rng.normal(size=(total, 6)) / 32 for name in names}

    def tree(of_name):
        made = {"params": {}, "statistics": {"mean": jnp.zeros(2)}}
        for name, path in names.items():
            place = made
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = jnp.asarray(of_name(name), jnp.float32)
        return made

    optimizer = recipes.optimizer(RECIPE)
    variables = tree(start.__getitem__)
    state = optimizer.init(variables)
    steps = []
    for step in range(total):
        of_step = {name: each[step] for name, each in gradients.items()}
        updates, state = optimizer.update(tree(of_step.__getitem__), state, variables)
        variables = optax.apply_updates(variables, updates)
        steps.append(variables)
    for name, path in names.items():
        expected = torch_sgd(start[name], name, gradients[name])
        for step, variables in enumerate(steps):
            found: Any = variables
            for key in path:
                found = found[key]
            np.testing.assert_allclose(found, expected[step], rtol=2e-5, atol=2e-5)


def test_lookahead_averages_running_statistics_too():
    variables: Any = {"params": {"kernel": jnp.zeros(1)}, "statistics": jnp.zeros(1)}
    optimizer = recipes.optimizer(RECIPE)
    state = optimizer.init(variables)
    for _ in range(5):
        changes = {"params": {"kernel": jnp.zeros(1)}, "statistics": jnp.ones(1)}
        updates, state = optimizer.update(changes, state, variables)
        variables = optax.apply_updates(variables, updates)
    share = 0.95**5 * (5 / 13) ** 3
    np.testing.assert_allclose(variables["statistics"], 5 * (1 - share), rtol=1e-6)


def test_whitened_patches_are_uncorrelated():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    images = jnp.asarray(rng.normal(size=(50, 9, 9, 3)) @ mixing, jnp.float32)
    kernel = whitening_kernel(images)
    results = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(-1, 24)
    np.testing.assert_allclose(results[:, 12:], -results[:, :12], rtol=1e-5, atol=1e-6)
    correlations = results[:, :12].T @ results[:, :12] / len(results)
    np.testing.assert_allclose(correlations, np.eye(12), atol=0.02)  # ε is in it


def test_every_image_is_seen_both_ways_in_two_epochs():
    first, second, third = (order_of(RECIPE, 130, 7, epoch) for epoch in (0, 1, 2))
    assert first.rows.shape == (4, 32)
    assert len(np.unique(first.rows)) == 128  # two are left out
    assert not np.array_equal(first.rows, second.rows)
    np.testing.assert_array_equal(first.mirrored, ~np.asarray(second.mirrored))
    np.testing.assert_array_equal(first.mirrored, third.mirrored)
    assert 40 < np.sum(first.mirrored) < 90


def test_images_are_moved_within_reflected_margins_and_mirrored():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 6, 5, 3)).astype(np.uint8)
    mirrored = np.arange(40) % 2 == 0
    drawn = recipes.corners(random_key(3), len(images))
    moved = np.asarray(augmented(jnp.asarray(images), drawn, jnp.asarray(mirrored)))
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    shifts = set()
    for image, whole, flip in zip(moved, padded, mirrored, strict=True):
        seen = image[:, ::-1] if flip else image
        fits = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if np.array_equal(whole[i : i + 6, j : j + 5], seen)
        ]
        assert fits
        shifts.update(fits)
    assert len(shifts) > 12


@pytest.fixture(scope="module")
def variables():
    images = jnp.asarray(
        np.random.default_rng(2).integers(0, 256, (8, 12, 12, 3)), jnp.uint8
    )
    return images, *recipes.initial_variables(RECIPE, random_key(1), images)


def test_six_views_are_averaged(variables):
    images, trained, constant = variables
    labels = jnp.arange(8, dtype=jnp.int32) % 4
    network = recipes.network_of(RECIPE, trained, constant, training=False)
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    views = {0.5: images, 0.25: padded[:, :-2, :-2], 0.25001: padded[:, 2:, 2:]}
    logits = sum(
        round(weight, 2) * network(normalized(jnp.asarray(x)[:, :, ::way])) / 2
        for weight, x in views.items()
        for way in (1, -1)
    )
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    losses, metrics, _ = recipes.multicrop_loss(RECIPE)(
        trained, constant, Examples(images, labels), random_key(0), training=False
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    hits = np.argmax(logits, axis=1) == np.asarray(labels)
    np.testing.assert_array_equal(metrics["accuracy"], hits)


def test_filters_begin_as_the_identity(variables):
    _, trained, _ = variables
    kernel = np.asarray(trained["params"]["groups"][0]["conv1"]["kernel"])
    passed = np.zeros((3, 3, 24, 24))
    passed[1, 1] = np.eye(24)
    np.testing.assert_array_equal(kernel[..., :24], passed)
    assert 0 < np.abs(kernel[..., 24:]).max() <= (9 * 24) ** -0.5

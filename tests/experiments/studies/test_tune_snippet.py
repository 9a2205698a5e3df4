"""The code that `tune` recommends builds exactly the optimizer that was trained."""

import ast
from typing import Any

import jax
import numpy as np
import optax
import pytest

from experiments.optimizers.schedules import SCHEDULES
from experiments.records.config import Config
from experiments.studies.methods import METHODS
from experiments.studies.tune.snippet import snippet

IMAGES, BATCH_SIZE = 1_149, 57  # 21 steps an epoch, the last of them smaller
RATE, BETA = 0.0372, 0.8413
GRADIENTS = np.random.default_rng(3).normal(size=(84, 5)).astype(np.float32)


def trained_with(
    arm: str, schedule: str, epochs: int = 3, dataset: str = "digits"
) -> Config:
    beta = 0.0 if arm == "sgd" else BETA
    return Config(
        dataset, "0" * 16, arm, RATE, beta, BATCH_SIZE, epochs, 0, schedule=schedule
    )


def updates(optimizer: optax.GradientTransformation, steps: int) -> Any:
    """The updates of all steps."""

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state)
        return state, updates

    # Optax's own schedules promote.
    with jax.numpy_dtype_promotion("standard"):
        return jax.lax.scan(step, optimizer.init(GRADIENTS[0]), GRADIENTS[:steps])[1]


@pytest.mark.parametrize(
    ("arm", "schedule", "epochs"),
    [
        *(("nesterov", schedule, 3) for schedule in SCHEDULES),
        ("momentum", "step", 4),
        ("sgd", "one_cycle", 4),
        ("sgd", "constant", 3),
    ],
)
def test_snippet_takes_the_same_steps_as_the_training(arm, schedule, epochs):
    config, names, steps = trained_with(arm, schedule, epochs), {}, 21 * epochs
    exec(snippet(config, IMAGES), names)
    assert names["steps"] == steps
    rate = SCHEDULES[schedule].rate(config.learning_rate, steps)
    want = updates(METHODS[arm].arm.transformation(rate, config.beta), steps)
    got = updates(names["optimizer"], steps)
    np.testing.assert_allclose(got, want, rtol=3e-5, atol=1e-8)


@pytest.mark.parametrize("arm", ["sgd", "momentum", "nesterov"])
def test_snippet_imports_only_what_it_needs(arm):
    code = snippet(trained_with(arm, "cosine"), IMAGES)
    (*imported,) = (
        alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    )
    assert imported == ["optax"] + (["optax_momentum"] if arm != "sgd" else [])


def test_snippet_has_the_values_in_full():
    config = trained_with("momentum", "cosine")
    code = snippet(config, IMAGES)
    exec(code, names := {})
    assert repr(config.learning_rate) in code and repr(config.beta) in code
    given = names["images"], names["batch_size"], names["epochs"]
    assert given == (IMAGES, BATCH_SIZE, config.epochs)


def test_snippet_says_nothing_of_the_data():
    name = '<script>"""\nimport os.npz'
    code = snippet(trained_with("momentum", "step", dataset=name), IMAGES)
    assert code == snippet(trained_with("momentum", "step"), IMAGES)
    assert code.isascii()

"""The NumPy reference, against recordings of PyTorch and Keras, and closed forms."""

from typing import Any

import numpy as np
import pytest
from golden.problem import FOLDER, SHAPES, STEPS, Golden, gradient, learning_rates, load
from support import reference

PYTORCH, KERAS = load("pytorch"), load("keras")


def recorded_gradients(golden: Golden, name: str, leaf: str) -> tuple[Any, Any]:
    """Returns the parameters before each step and the gradients there, [step, ...]."""
    before = {
        leaf: np.concatenate([start[None], golden.runs[name]["parameters"][leaf][:-1]])
        for leaf, start in golden.problem["start"].items()
    }
    setting = golden.settings[name]._replace(missing=False)
    gradients = [
        gradient(golden.problem, setting, step, {k: v[step] for k, v in before.items()})
        for step in range(STEPS)
    ]
    return before[leaf], np.stack([g[leaf] for g in gradients])


def assert_matches(golden, name, leaf, parameters, buffers):
    recorded = golden.runs[name]
    np.testing.assert_allclose(parameters, recorded["parameters"][leaf], 1e-11, 1e-12)
    np.testing.assert_allclose(buffers, recorded["buffers"][leaf], 1e-11, 1e-12)


@pytest.mark.parametrize("leaf", SHAPES)
@pytest.mark.parametrize("name", PYTORCH.settings)
def test_reference_heavy_ball_follows_pytorch(name, leaf):
    setting, problem = PYTORCH.settings[name], PYTORCH.problem
    options = dict(setting.options)
    theta, g = recorded_gradients(PYTORCH, name, leaf)
    g = -g if options.pop("maximize", False) else g
    g = g + options.pop("weight_decay", 0.0) * theta
    rates = problem["learning_rates"]
    beta = options.pop("momentum")
    beta = problem["betas"] if setting.varying_beta else beta
    present = np.ones(STEPS, bool)
    if setting.missing and leaf == "vector":
        present = ~problem["missing"]
    u, m = reference.heavy_ball(g[present], beta, **options)
    latest = np.cumsum(present) - 1  # Nothing moves at a step without a gradient.
    parameters = reference.sgd(problem["start"][leaf], u, rates[present])[latest]
    assert_matches(PYTORCH, name, leaf, parameters, m[latest])


@pytest.mark.parametrize("leaf", SHAPES)
@pytest.mark.parametrize("name", KERAS.settings)
def test_reference_keras_follows_keras(name, leaf):
    setting = KERAS.settings[name]
    options = dict(setting.options)
    rates = learning_rates(KERAS.problem, setting)
    theta, g = recorded_gradients(KERAS, name, leaf)
    decay = options.pop("weight_decay", 0.0)
    u, v = reference.keras(g, rates, options.pop("momentum"), **options)
    # Keras's weight decay is decoupled: it shrinks the parameters before the update.
    shrink = decay * np.einsum("t,t...->t...", rates, theta)
    parameters = KERAS.problem["start"][leaf] + np.cumsum(u - shrink, axis=0)
    assert_matches(KERAS, name, leaf, parameters, v)


def test_reference_heavy_ball_dampened_by_beta_is_an_average_from_the_first_gradient():
    g = np.random.default_rng(3).standard_normal((30, 2))
    m = reference.heavy_ball(g, 0.7, dampening=0.7)[1]
    seeded = [
        0.7**t * g[0] + sum(0.3 * 0.7 ** (t - k) * g[k] for k in range(1, t + 1))
        for t in range(30)
    ]
    np.testing.assert_allclose(m, seeded, 1e-12, 1e-12)


def test_reference_ema_of_a_constant_gradient_has_the_closed_form():
    steps = np.arange(1, 51)
    u, v = reference.ema(np.full(50, 3.0), 0.8, debias=True)
    np.testing.assert_allclose(v, 3.0 * (1 - 0.8**steps), rtol=1e-12)
    np.testing.assert_allclose(u, 3.0, rtol=1e-12)


def test_reference_ema_debiases_a_schedule_of_beta_by_its_product():
    random = np.random.default_rng(4)
    g, betas = random.standard_normal((40, 2)), random.uniform(0.1, 0.95, 40)
    u, v = reference.ema(g, betas, debias=True)
    weight = 1 - np.cumprod(betas)
    np.testing.assert_allclose(u, v / weight[:, None], 1e-12, 1e-12)


@pytest.mark.parametrize(
    ("golden", "libraries"), [(PYTORCH, ["torch"]), (KERAS, ["keras", "tensorflow"])]
)
def test_golden_readme_names_the_command_and_versions_of_each_file(golden, libraries):
    readme = (FOLDER / "README.md").read_text()
    assert golden.record["command"] in readme
    for library in libraries:
        assert golden.record["versions"][library].split("+")[0] in readme

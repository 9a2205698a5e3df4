"""The code that `tune` recommends builds exactly the optimizer that was trained."""

import ast
import re
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax
import pytest

from experiments.optimizers.arms import with_decay
from experiments.optimizers.schedules import SCHEDULES
from experiments.records.config import Config
from experiments.studies.methods import METHODS
from experiments.studies.tune.options import Tune
from experiments.studies.tune.snippet import make_problem, snippet, training_snippet

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


@pytest.mark.parametrize("kernels_only", [False, True])
def test_snippet_decays_the_weights_that_the_training_decayed(kernels_only):
    decay = {"weight_decay": 0.0123, "decay_kernels_only": kernels_only}
    config = replace(trained_with("momentum", "constant"), **decay)
    exec(snippet(config, IMAGES), names := {})
    params = {"kernel": GRADIENTS[:2], "bias": GRADIENTS[2]}
    steps = []
    for optimizer in (
        names["optimizer"],
        with_decay(METHODS["momentum"].arm.transformation(RATE, BETA), *decay.values()),
    ):
        steps.append(optimizer.update(params, optimizer.init(params), params)[0])
    jax.tree.map(np.testing.assert_array_equal, *steps)
    without = snippet(replace(config, weight_decay=0.0), IMAGES)
    assert without == snippet(trained_with("momentum", "constant"), IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["own_problem.py", "own-problem.2.py"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_pasted_code_trains_the_users_problem(
    file, schedule, tmp_path, monkeypatch, capsys
):
    """Its 29 examples have BatchNorm, Dropout and augmentation: 4 steps an epoch."""
    (tmp_path / file).write_text(
        "from support.small_problem import small_problem\n\n"
        "def regression():\n    return small_problem()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as of a script that is run there
    options = Tune(problem=f"{tmp_path}/{file}:regression")
    config = replace(trained_with("nesterov", schedule, epochs=12), batch_size=8)
    code = training_snippet(config, make_problem(options))
    assert str(tmp_path) not in code
    with jax.numpy_dtype_promotion("standard"):  # as in a program of the user's
        exec(code, names := {})
    losses = list(map(float, re.findall(r"loss (\S+)\n", capsys.readouterr().out)))
    assert len(losses) == 12 and losses[-1] < 0.3 * losses[0]
    assert names["steps"] == 12 * 4 and names["problem"].name == "small"
    counts = {int(x) for x in jax.tree.leaves(names["opt_state"]) if x.ndim == 0}
    assert 48 in counts
    means = names["model_state"]["norm"]["mean"]
    assert np.abs(means).max() > 0.01  # 0 at first: the model state was carried along


def test_the_users_function_is_imported_by_the_name_of_its_file():
    problem = make_problem(Tune(problem="some/where/mine.py:regression"))
    assert problem == "from mine import regression as make_problem\n"
    hostile = make_problem(Tune(problem='x"\nimport os#.py:"; exit()'))
    ast.parse(hostile)
    assert hostile.isascii() and hostile.count("\n") == 3
    assert make_problem(Tune(dataset="mine.npz")) == ""

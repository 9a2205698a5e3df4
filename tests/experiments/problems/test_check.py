"""A problem that can't be trained is refused in one line, before anything trains."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.small_problem import (
    TRAIN,
    Net,
    linen_functions,
    small_problem,
    squared_errors,
)
from support.usage_errors import usage_error

from experiments.problems import Metric, Problem, from_nnx
from experiments.problems.check import check_problem
from experiments.problems.problem import digest, task_of
from experiments.problems.user_problem import user_problem

GOOD = small_problem()


def refusal(problem, prefix="here: ") -> str:
    return usage_error(prefix, check_problem, "here", problem)


def with_loss(change) -> Problem:
    """The good problem with a loss whose result is changed."""

    def loss(params, model_state, batch, key, *, training):
        result = GOOD.loss(params, model_state, batch, key, training=training)
        return change(*result, batch, training)

    return GOOD._replace(loss=loss)


@pytest.mark.slow
@pytest.mark.parametrize("functions", [None, linen_functions()], ids=["nnx", "linen"])
def test_a_good_problem_passes_and_its_arrays_are_those_of_jax(functions):
    wide = {"x": TRAIN["x"].astype(np.float64), "y": TRAIN["y"].astype(np.float64)}
    problem = small_problem(functions)._replace(train=wide, validation=wide, test=wide)
    checked = check_problem("here", problem)
    assert checked.train["x"].dtype == np.float32
    assert task_of(checked).whole_batches
    assert digest(checked) != digest(checked._replace(test=TRAIN | {"y": TRAIN["x"]}))


def test_steps_are_divided_only_where_no_example_depends_on_others():
    def make(rngs):
        return nnx.Linear(5, 1, rngs=rngs)

    plain = small_problem(from_nnx(make, squared_errors), augment=None)
    assert not task_of(plain).whole_batches
    assert task_of(plain._replace(augment=GOOD.augment)).whole_batches

    def dropping(rngs):
        return nnx.Sequential(make(rngs), nnx.Dropout(0.5, rngs=rngs))

    noisy = small_problem(from_nnx(dropping, squared_errors), augment=None)
    assert task_of(noisy).whole_batches


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (GOOD._asdict(), "it returned dict; an experiments.problems.Problem is needed"),
        (GOOD._replace(loss=3), "loss is of type int; a function is needed."),
        (GOOD._replace(name=""), "name is ''; give printable text."),
        (GOOD._replace(metric="RMSE"), "metric is of type str; an experiments."),
        (
            GOOD._replace(metric=Metric("loss", "Loss", False, np.exp)),
            'a metric with of_mean can\'t have the title "loss"',
        ),
        (
            GOOD._replace(metric=Metric("squared_error", "x", False, np.ones)),
            "of_mean(0.25) raised TypeError; it must map a mean",
        ),
        (
            GOOD._replace(metric=Metric("error", "error", False)),
            "loss, with training=True, returned no metric 'error', which Metric names",
        ),
        (GOOD._replace(train={}), "train has no arrays."),
        (
            GOOD._replace(train={"x": [1.0, 2.0]}),
            "train['x'][0] is float; a NumPy array with an axis of examples is needed.",
        ),
        (
            GOOD._replace(test=TRAIN | {"y": TRAIN["y"][:3]}),
            "in test, ['x'] has 29, ['y'] has 3 examples; all arrays must have the",
        ),
        (
            GOOD._replace(validation=TRAIN | {"z": TRAIN["y"]}),
            "an example of validation is a tree of another structure, as one of train",
        ),
        (
            GOOD._replace(test={"x": TRAIN["x"][:3, :4], "y": TRAIN["y"][:3]}),
            "an example of test is float32[4], not float32[5], at ['x'], as one of ",
        ),
        (
            GOOD._replace(train=TRAIN | {"y": np.array(["a"] * 29)}),
            "train['y'] has dtype <U1; numbers are needed.",
        ),
        (
            GOOD._replace(train=TRAIN | {"y": np.arange(29) + 2**40}),
            "train has int64 values beyond int32; make them smaller.",
        ),
        (
            GOOD._replace(init=lambda key, batch: GOOD.init(key, batch)[0]),
            "init returned dict; the tuple (params, model_state) is needed",
        ),
        (
            GOOD._replace(init=lambda key, batch: ({}, ())),
            "there are no parameters to train.",
        ),
        (
            GOOD._replace(init=lambda key, batch: ({"n": jnp.arange(3)}, ())),
            "the parameter ['n'] is int32, which has no gradient; make it floating",
        ),
        (
            GOOD._replace(init=lambda key, batch: ({"n": jnp.array([jnp.inf])}, ())),
            "init drew a value that is not finite at [0]['n']; draw smaller ones.",
        ),
        (
            with_loss(lambda losses, *rest: losses),
            "returned float32[8]; the tuple (losses, metrics, model_state) is needed.",
        ),
        (
            with_loss(
                lambda losses, metrics, state, *_: (losses.mean(), metrics, state)
            ),
            "returned losses as float32[], but one value an example is needed, here "
            "float32[8]: don't average over the batch.",
        ),
        (
            with_loss(
                lambda losses, metrics, state, *_: (
                    losses.astype(jnp.bfloat16),
                    metrics,
                    state,
                )
            ),
            "returned losses as bfloat16[8], but one value an example is needed",
        ),
        (
            with_loss(
                lambda losses, metrics, state, *_: (losses * jnp.nan, metrics, state)
            ),
            "is not finite for the initial parameters; scale the inputs",
        ),
        (
            with_loss(
                lambda losses, metrics, state, batch, training: (
                    losses,
                    metrics if training else {},
                    state,
                )
            ),
            "loss, with training=False, returned no metric 'squared_error', which",
        ),
        (
            with_loss(
                lambda losses, metrics, state, batch, training: (
                    losses,
                    metrics if len(batch["y"]) > 5 else {},
                    state,
                )
            ),
            "returned no metric 'squared_error', which Metric names (it has none); "
            "return it for every batch.",
        ),
        (
            with_loss(
                lambda losses, metrics, state, *_: (losses, metrics, [state, losses])
            ),
            "a step changes the model state, from what init drew, to a tree of another",
        ),
        (
            with_loss(
                lambda losses, metrics, state, *_: (
                    losses - losses.mean() + 1,
                    metrics,
                    state,
                )
            ),
            "an example's result, with training=False, depends on the other examples",
        ),
        (
            GOOD._replace(augment=lambda key, batch: {"x": batch["x"]}),
            "augment returned a tree of another structure; structure, shapes and",
        ),
    ],
)
def test_a_wrong_problem_is_refused(problem, message):
    assert message in refusal(problem)


def test_a_kept_tracer_is_refused():
    kept = []

    def impure(params, model_state, batch, key, *, training):
        kept.append(batch["y"])
        result = GOOD.loss(params, model_state, batch, key, training=training)
        return result[0] + kept[0][: len(result[0])], *result[1:]

    message = refusal(GOOD._replace(loss=impure))
    assert "kept a traced value from an earlier call" in message
    assert message.endswith("make it a pure function, which stores nothing.")


TEXT = """
import numpy as np
from flax import nnx
from experiments.problems import Problem, from_nnx

def losses(module, batch):
    return (module(batch["x"])[:, 0] - 1) ** 2, {}

def problem():
    split = {"x": np.ones((6, 3))}
    functions = from_nnx(lambda rngs: nnx.Linear(3, 1, rngs=rngs), losses)
    return Problem("ones", split, split, split, *functions)

def failing():
    raise OSError("no data here")
"""


def test_a_users_function_is_called_and_named(tmp_path: Path):
    path = tmp_path / "own.py"
    path.write_text(TEXT)
    problem, code = user_problem("--problem", f"{path}:problem")
    assert (problem.name, problem.metric.title) == ("ones", "loss")
    assert len(code) == 16
    losses, metrics, state = jax.jit(lambda *a: problem.loss(*a, training=True))(
        *problem.init(jax.random.key(0), problem.train),
        problem.train,
        jax.random.key(1),
    )
    assert losses.shape == (6,) and (metrics, state) == ({}, ())
    message = usage_error(
        f"--problem {path}:failing: ", user_problem, "--problem", f"{path}:failing"
    )
    assert message == "calling it raised OSError at line 15: no data here."


def test_batchnorm_without_running_statistics_is_refused():
    """Its evaluation depends on the batch."""

    def losses(module, batch):
        module.norm.use_running_average = False
        return squared_errors(module, batch)

    assert "depends on the other examples" in refusal(
        small_problem(from_nnx(Net, losses))
    )

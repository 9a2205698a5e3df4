"""`port`: the printed code runs, and takes the steps of the system it came from."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import load

from experiments.__main__ import main

GOLDEN = load("schedules").runs
STEPS = 12
START = np.array([1.5, -0.7])
NOISE = np.random.default_rng(3).normal(size=(STEPS, 2))


def printed(capsys, *words: str) -> str:
    assert main(["port", *words]) == 0
    return capsys.readouterr().out


def run(code: str, **names) -> dict:
    exec(code, names)
    return names


def trained(optimizer) -> np.ndarray:
    """The parameters after each step, whose gradients depend on them."""
    theta: Any = jnp.asarray(START)
    state, after = optimizer.init(theta), []
    for noise in NOISE:
        updates, state = optimizer.update(noise + 0.4 * theta, state, theta)
        theta = optax.apply_updates(theta, updates)
        after.append(theta)
    return np.stack(after)


def pytorch(rates, beta=0.0, decay=0.0, nesterov=False, dampening=0.0, sign=1.0):
    theta, buffer, after = START, None, []
    for noise, rate in zip(NOISE, rates, strict=False):
        d = sign * (noise + 0.4 * theta) + decay * theta
        buffer = d if buffer is None else beta * buffer + (1 - dampening) * d
        theta = theta - rate * (
            d + beta * buffer if nesterov else buffer if beta else d
        )
        after.append(theta)
    return np.stack(after)


def keras(rates, beta=0.0, decay=0.0, nesterov=False):
    theta, v, after = START, 0.0, []
    for noise, rate in zip(NOISE, rates, strict=False):
        g = noise + 0.4 * theta
        theta = theta - rate * decay * theta
        v = beta * v - rate * g
        theta = theta + (beta * v - rate * g if nesterov else v)
        after.append(theta)
    return np.stack(after)


MULTI_STEP = np.where(np.arange(STEPS) < 6, 0.1, 0.02)
CASES = [
    (
        "torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.2, nesterov=True)",
        lambda: pytorch(np.full(STEPS, 0.1), 0.9, 0.2, nesterov=True),
    ),
    (
        "optim.SGD(model.parameters(), 0.1, 0.8, 0.3)",
        lambda: pytorch(np.full(STEPS, 0.1), 0.8, dampening=0.3),
    ),
    ("SGD(p, lr=0.2 * 2)", lambda: pytorch(np.full(STEPS, 0.4))),
    (
        "torch.optim.SGD(p, lr=0.1, momentum=0.5, weight_decay=0.1, maximize=True)",
        lambda: pytorch(np.full(STEPS, 0.1), 0.5, 0.1, sign=-1.0),
    ),
    (
        "keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
        lambda: keras(np.full(STEPS, 0.1), 0.9, 0.01, nesterov=True),
    ),
    (
        "tf.keras.optimizers.SGD(learning_rate=keras.optimizers.schedules."
        "PiecewiseConstantDecay([5], [0.1, 0.02]), momentum=0.7, weight_decay=0.1)",
        lambda: keras(MULTI_STEP, 0.7, 0.1),
    ),
    (
        "tf.compat.v1.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True)",
        lambda: pytorch(np.full(STEPS, 0.1), 0.9, nesterov=True),
    ),
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("expression", "expected"), CASES, ids=range(len(CASES)))
def test_the_code_takes_the_steps_of_the_expression(expression, expected, capsys):
    optimizer = run(printed(capsys, expression))["optimizer"]
    np.testing.assert_allclose(trained(optimizer), expected(), rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_scheduler_that_is_stepped_each_epoch(capsys):
    code = printed(
        capsys,
        "torch.optim.SGD(params, lr=0.1, momentum=0.9)",
        "--scheduler",
        "MultiStepLR(milestones=[2, 3], gamma=0.2)",
        "--steps-per-epoch",
        "3",
    )
    rates = np.repeat([0.1, 0.1, 0.02, 0.004], 3)
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedules need it
        found = trained(run(code)["optimizer"])
    np.testing.assert_allclose(found, pytorch(rates, 0.9), rtol=1e-12)


SCHEDULERS = {
    "step": "StepLR(optimizer, 4, gamma=0.3)",
    "multi_step": "torch.optim.lr_scheduler.MultiStepLR(o, [3, 9, 10], gamma=0.2)",
    "exponential": "ExponentialLR(o, 0.9)",
    "linear": "LinearLR(o, 0.25, 0.75, total_iters=7)",
    "polynomial": "PolynomialLR(o, 9, power=1.7)",
    "cosine": "CosineAnnealingLR(o, 9, eta_min=0.02)",
    "warm_restarts": "CosineAnnealingWarmRestarts(o, 5, eta_min=0.02)",
    "warm_restarts_longer": "CosineAnnealingWarmRestarts(T_0=3, T_mult=2)",
    "one_cycle": "OneCycleLR(o, 0.5, total_steps=23)",
    "one_cycle_linear": "OneCycleLR(o, 0.5, total_steps=23, pct_start=0.4, "
    "anneal_strategy='linear', base_momentum=0.7, max_momentum=0.9, div_factor=10, "
    "final_div_factor=100)",
    "one_cycle_three_phase": "OneCycleLR(o, 0.5, total_steps=23, three_phase=True)",
    "cyclic": "CyclicLR(o, 0.1, 0.5, 4, 3)",
    "cyclic_triangular2": "CyclicLR(o, 0.1, 0.5, 4, mode='triangular2')",
    "cyclic_exp_range": "CyclicLR(o, 0.1, 0.5, 4, mode='exp_range', gamma=0.9)",
    "sequential": "SequentialLR(o, [LinearLR(o, 0.1, total_iters=5), "
    "CosineAnnealingLR(o, 9)], milestones=[5])",
}
KERAS_SCHEDULES = {
    "keras_exponential": "ExponentialDecay(0.3, 4, 0.7)",
    "keras_exponential_staircase": "ExponentialDecay(0.3, 4, 0.7, staircase=True)",
    "keras_cosine": "CosineDecay(0.3, 9, alpha=0.1)",
    "keras_cosine_warmup": "CosineDecay(0.1, 9, alpha=0.1, warmup_target=0.4, "
    "warmup_steps=4)",
    "keras_piecewise": "PiecewiseConstantDecay([3, 9], [0.3, 0.1, 0.02])",
    "keras_inverse_time": "InverseTimeDecay(0.3, 4, 0.5)",
    "keras_inverse_time_staircase": "InverseTimeDecay(0.3, 4, 0.5, staircase=True)",
    "keras_polynomial": "PolynomialDecay(0.3, 9, 0.02, power=1.5)",
    "keras_polynomial_cycle": "PolynomialDecay(0.3, 5, 0.02, power=1.5, cycle=True)",
}


def check_rates(names: dict, recorded: dict) -> None:
    steps = jnp.arange(len(recorded["rates"]))
    with jax.numpy_dtype_promotion("standard"):  # Optax's schedules need it
        rates = jax.vmap(names["learning_rate"])(steps)
    np.testing.assert_allclose(rates, recorded["rates"], rtol=1e-12, atol=1e-16)
    if "beta" in names:
        betas = jax.vmap(names["beta"])(steps)
        np.testing.assert_allclose(betas, recorded["betas"], rtol=1e-12)


def test_every_recorded_schedule_but_a_function_is_ported():
    assert {*SCHEDULERS, *KERAS_SCHEDULES} == {*GOLDEN} - {"lambda"}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_of_pytorch_give_the_recorded_rates(name, capsys):
    optimizer = "torch.optim.SGD(params, lr=0.3, momentum=0.9)"
    code = printed(capsys, optimizer, "--scheduler", SCHEDULERS[name])
    names = run(code)
    check_rates(names, GOLDEN[name])
    assert ("beta" in names) == (np.ptp(GOLDEN[name]["betas"]) > 0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", KERAS_SCHEDULES)
def test_schedules_of_keras_give_the_recorded_rates(name, capsys):
    schedule = f"keras.optimizers.schedules.{KERAS_SCHEDULES[name]}"
    code = printed(capsys, f"keras.optimizers.SGD({schedule}, momentum=0.9)")
    check_rates(run(code), GOLDEN[name])


@pytest.mark.usefixtures("float64")
def test_parameter_groups_become_a_partition(capsys):
    code = printed(
        capsys,
        "torch.optim.SGD([{'params': decay, 'weight_decay': 0.1}, "
        "{'params': rest, 'lr': 0.3}], lr=0.1, momentum=0.9, foreach=True)",
    )
    labels = {"a": "group 0", "b": "group 1"}
    optimizer = run(code, groups=labels)["optimizer"]
    assert "# decay" in code and "# rest" in code
    assert "# Not carried over: foreach" in code and "write `groups`" in code
    theta: Any = {"a": jnp.asarray(START), "b": jnp.asarray(START)}
    state = optimizer.init(theta)
    for noise in NOISE:
        gradients = jax.tree.map(lambda x: noise + 0.4 * x, theta)  # noqa: B023
        updates, state = optimizer.update(gradients, state, theta)
        theta = optax.apply_updates(theta, updates)
    for leaf, expected in [
        ("a", pytorch(np.full(STEPS, 0.1), 0.9, 0.1)),
        ("b", pytorch(np.full(STEPS, 0.3), 0.9)),
    ]:
        np.testing.assert_allclose(theta[leaf], expected[-1], rtol=1e-12)


def test_what_keras_has_beside_the_step_is_carried_over_or_named(capsys):
    code = printed(
        capsys,
        "keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=1.0, clipnorm=0.5, "
        "use_ema=True, gradient_accumulation_steps=4)",
    )
    assert "optax.clip_by_global_norm(1.0)" in code and "MultiSteps" in code
    notes = [line for line in code.splitlines() if line.startswith("# Not carried")]
    assert len(notes) == 2 and "clipnorm" in notes[0] and "parameter_ema" in notes[1]
    run(code)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["torch.optim.SGD(p, lr=args.lr)"], "lr is args.lr, and nothing of the expr"),
        (["torch.optim.Adam(p)"], "torch.optim.Adam is unknown: known are"),
        (["torch.optim.SGD(p, lr=0.1, betas=(0.9, 0.99))"], "has no argument betas"),
        (
            ["torch.optim.SGD(p, lr=0.1, momentum=1.5)"],
            "momentum in [0, 1), got lr=0.1",
        ),
        (["torch.optim.SGD(p, 0.1, nesterov=True)"], "nesterov needs momentum above 0"),
        (["0.1"], "is not a call"),
        (["torch.optim.SGD(lr=0.1)"], "torch.optim.SGD needs params."),
        (["tf.train.MomentumOptimizer(0.1)"], "MomentumOptimizer needs momentum."),
        (
            ["keras.optimizers.SGD(schedules.InverseTimeDecay(0.1, 3))"],
            "InverseTimeDecay needs decay_rate.",
        ),
        (["torch.optim.SGD("], "is not an expression of Python"),
        (["((" * 40], "is too long for a call"),
        (
            ["keras.optimizers.SGD(0.1)", "--steps-per-epoch", "3"],
            "belong to PyTorch's",
        ),
        (
            ["SGD(p, 0.1)", "--steps-per-epoch", "0"],
            "--steps-per-epoch must be at leas",
        ),
        (["SGD(p, 0.1)", "--scheduler", "LambdaLR(o, f)"], "which is not run: write"),
        (["SGD(p, 0.1)", "--scheduler", "Foo(o)"], "Foo is unknown; known are StepLR"),
        (["SGD(p, 0.1)", "--scheduler", "StepLR(o)"], "StepLR needs step_size"),
        (["SGD(p, 0.1)", "--scheduler", "OneCycleLR(o, 1.0, 9)"], "cycles momentum"),
        (
            ["SGD(p, 0.1)", "--scheduler", "StepLR(o, 3, last_epoch=4)"],
            "continues a run",
        ),
    ],
)
def test_what_cannot_be_ported_is_said_in_one_line(words, said, capsys):
    assert main(["port", *words]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and not out


def test_nothing_of_an_expression_is_run(capsys, tmp_path):
    path = tmp_path / "made"
    attack = f"__import__('pathlib').Path({str(path)!r}).touch()"
    for expression in (f"torch.optim.SGD({attack}, lr=0.1)", f"SGD(p, lr={attack})"):
        main(["port", expression])
    assert not path.exists() and "pathlib" not in capsys.readouterr().out


def test_no_framework_is_imported(capsys, monkeypatch):
    before = {*sys.modules}
    printed(capsys, "torch.optim.SGD(params, lr=0.1)")
    assert not {"torch", "keras", "tensorflow"} & ({*sys.modules} - before)

"""Each call of the phrasebook against the system's own update in NumPy float64.

The updates are written from the sources that the phrasebook names, in the order of
their statements. Rates rise, jump and fall; weight decay is on.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_momentum
from optax_momentum.convert import phrasebook

BETA, DAMPENING, DECAY, STEPS = 0.8, 0.3, 0.07, 12
RATES = np.array([0.01, 0.03, 0.05, 0.3, 0.3, 0.31, 0.12, 0.1, 0.03, 0.031, 0.2, 0.01])
START = np.array([1.5, -0.7, 0.2])
NOISE = np.random.default_rng(8).normal(size=(STEPS, 3))


def gradient(step, theta):
    """Depends on the parameters, so that an error grows."""
    return NOISE[step] + 0.4 * theta


def pytorch(nesterov=False, dampening=0.0, decay=DECAY):
    theta, buffer = START, None
    for step, rate in enumerate(RATES):
        d = gradient(step, theta) + decay * theta
        if buffer is None:
            buffer = d
        else:
            buffer = BETA * buffer + (1 - dampening) * d
        theta = theta - rate * (d + BETA * buffer if nesterov else buffer)
        yield theta


def keras(nesterov=False):
    theta, m = START, 0.0
    for step, rate in enumerate(RATES):
        g = gradient(step, theta)
        theta = theta - theta * DECAY * rate
        m = m * BETA - g * rate
        theta = theta + m * BETA - g * rate if nesterov else theta + m
        yield theta


def tensorflow_1(nesterov=False):
    theta, accumulator = START, 0.0
    for step, rate in enumerate(RATES):
        g = gradient(step, theta)
        accumulator = accumulator * BETA + g
        if nesterov:
            theta = theta - (g * rate + accumulator * BETA * rate)
        else:
            theta = theta - accumulator * rate
        yield theta


def optax_ema():
    theta, m = START, 0.0
    for step, rate in enumerate(RATES):
        m = (1 - BETA) * gradient(step, theta) + BETA * m
        theta = theta - rate * m / (1 - BETA ** (step + 1))
        yield theta


def caffe(nesterov=False, decay=DECAY):
    theta, history = START, 0.0
    for step, rate in enumerate(RATES):
        d = gradient(step, theta) + decay * theta
        before, history = history, rate * d + BETA * history
        step_taken = (1 + BETA) * history - BETA * before if nesterov else history
        theta = theta - step_taken
        yield theta


def detectron():
    theta, m, current = START, 0.0, 0.0
    for step, rate in enumerate(RATES):
        if rate != current:
            ratio = max(rate / max(current, 1e-10), current / max(rate, 1e-10))
            if current > 1e-7 and ratio > 1.1:
                m = m * (rate / current)
            current = rate
        m = BETA * m + rate * (gradient(step, theta) + DECAY * theta)
        theta = theta - m
        yield theta


def mxnet_sgd():
    theta, m = START, 0.0
    for step, rate in enumerate(RATES):
        m = BETA * m - rate * DECAY * theta - rate * gradient(step, theta)
        theta = theta + m
        yield theta


def mxnet_nag(version):
    theta, m = START, 0.0
    for step, rate in enumerate(RATES):
        d = gradient(step, theta)
        e = d + DECAY * theta
        if version == "1.4":
            m = BETA * m + e
            theta = theta - rate * (e + BETA * m)
        elif version == "1.5":
            m = BETA * m + d + DECAY * theta
            theta = theta - rate * (BETA * m + d)
        else:
            m = BETA * m - rate * e
            theta = theta + BETA * m - rate * e
        yield theta


def paddle_2(nesterov=False):
    theta, velocity = START, 0.0
    for step, rate in enumerate(RATES):
        g = gradient(step, theta) + DECAY * theta
        velocity = velocity * BETA + g
        theta = theta - ((g + velocity * BETA) if nesterov else velocity) * rate
        yield theta


def paddle_1(torch_momentum=False):
    theta, m, first_time = START, 0.0, True
    for step, rate in enumerate(RATES):
        factor = 1 - BETA if torch_momentum and not first_time else 1.0
        m = BETA * m - rate * factor * (gradient(step, theta) + DECAY * theta)
        theta = theta + m
        first_time = False
        yield theta


def mlx():
    theta, v = START, np.zeros(3)
    for step, rate in enumerate(RATES):
        g = gradient(step, theta) + DECAY * theta
        v = BETA * v + (1 - DAMPENING) * g
        theta = theta - rate * v
        yield theta


def tinygrad(classic=False):
    theta, b = START, 0.0
    for step, rate in enumerate(RATES):
        g = gradient(step, theta) + DECAY * theta
        if classic:
            g = g * rate
        b = BETA * b + g
        theta = theta - (b if classic else b * rate)
        yield theta


def fastai(decoupled=True):
    theta, average = START, np.zeros(3)
    for step, rate in enumerate(RATES):
        g = gradient(step, theta)
        if decoupled:
            theta = theta * (1 - rate * DECAY)
        else:
            g = g + DECAY * theta
        average = average * BETA + g
        theta = theta - rate * average
        yield theta


def average_of_gradients():
    """fastai's `average_grad(dampening=True)` and autograd's `sgd`."""
    theta, velocity = START, np.zeros(3)
    for step, rate in enumerate(RATES):
        velocity = BETA * velocity - (1 - BETA) * gradient(step, theta)
        theta = theta + rate * velocity
        yield theta


def muon():
    theta, m = START, np.zeros(3)
    for step, rate in enumerate(RATES):
        g = gradient(step, theta)
        m = m + (1 - BETA) * (g - m)
        update = g + BETA * (m - g)
        theta = theta * (1 - rate * DECAY) - rate * update
        yield theta


def timm():
    theta, buffer = START, None
    for step, rate in enumerate(RATES):
        g = gradient(step, theta)
        theta = theta * (1 - rate * DECAY)
        buffer = g if buffer is None else buffer * BETA + g
        theta = theta - rate * (g + BETA * buffer)
        yield theta


def optimisers_jl(nesterov=False):
    theta, velocity = START, np.zeros(3)
    for step, rate in enumerate(RATES):
        dx = gradient(step, theta) + DECAY * theta
        if nesterov:
            change = -(BETA**2) * velocity + (1 + BETA) * rate * dx
            velocity = BETA * velocity - rate * dx
        else:
            change = velocity = BETA * velocity + rate * dx
        theta = theta - change
        yield theta


REPLAYS = {
    "PyTorch, torch.optim.SGD": lambda: pytorch(dampening=DAMPENING),
    "PyTorch, torch.optim.SGD(nesterov=True)": lambda: pytorch(nesterov=True),
    "Keras 3, SGD": keras,
    "Keras 3, SGD(nesterov=True)": lambda: keras(nesterov=True),
    "TensorFlow 1, MomentumOptimizer": tensorflow_1,
    "TensorFlow 1, MomentumOptimizer(use_nesterov=True)": lambda: tensorflow_1(True),
    "Optax, sgd and trace": lambda: pytorch(decay=0.0),
    "Optax, sgd(nesterov=True)": lambda: pytorch(nesterov=True, decay=0.0),
    "Optax, ema": optax_ema,
    "JAX, example_libraries.optimizers.momentum": lambda: pytorch(decay=0.0),
    "JAX, example_libraries.optimizers.nesterov": lambda: pytorch(True, decay=0.0),
    "Caffe, SGD solver": caffe,
    "Caffe, Nesterov solver": lambda: caffe(nesterov=True),
    "Caffe2, MomentumSGDUpdate": lambda: caffe(decay=0.0),
    "Detectron, with momentum correction": detectron,
    "MXNet, SGD": mxnet_sgd,
    "MXNet, NAG up to 1.4": lambda: mxnet_nag("1.4"),
    "MXNet, NAG of 1.5": lambda: mxnet_nag("1.5"),
    "MXNet, NAG from 1.6 on": lambda: mxnet_nag("2.0"),
    "Paddle 2, Momentum": paddle_2,
    "Paddle 2, Momentum(use_nesterov=True)": lambda: paddle_2(nesterov=True),
    "Paddle 1, momentum": paddle_1,
    "Paddle 1, torch_momentum": lambda: paddle_1(torch_momentum=True),
    "MindSpore, nn.Momentum": paddle_2,
    "MindSpore, nn.SGD": lambda: pytorch(dampening=DAMPENING),
    "MLX, SGD": mlx,
    "tinygrad, SGD": tinygrad,
    "tinygrad, SGD(classic=True)": lambda: tinygrad(classic=True),
    "Sonnet 2, Momentum": tensorflow_1,
    "Haiku, ImageNet example": lambda: paddle_2(nesterov=True),
    "fastai, SGD": fastai,
    "fastai, SGD(decouple_wd=False)": lambda: fastai(decoupled=False),
    "fastai, average_grad(dampening=True)": average_of_gradients,
    "autograd, misc.optimizers.sgd": average_of_gradients,
    "Muon, its momentum (KellerJordan, DeepSpeed)": muon,
    "timm, SGDW(nesterov=True)": timm,
    "Flux and Lux (Optimisers.jl), Momentum": optimisers_jl,
    "Flux and Lux (Optimisers.jl), Nesterov": lambda: optimisers_jl(nesterov=True),
}


def optimizer(convention, rates=RATES, beta=BETA, decay=DECAY):
    """What the phrasebook's expression gives for these settings."""
    names = {**vars(optax_momentum), "optax": optax, "jnp": jnp}
    names["learning_rate"] = lambda step: jnp.asarray(rates)[step]
    names |= {"beta": beta, "weight_decay": decay, "dampening": DAMPENING}
    return eval(convention.call, names)


def tolerance(convention):
    """The weights of a debiased average are summed in float32."""
    return 1e-7 if "debias" in convention.call else 1e-12


def test_every_system_has_a_replay_and_a_name_of_its_own():
    assert [convention.system for convention in phrasebook] == [*REPLAYS]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("convention", phrasebook, ids=lambda each: each.system)
def test_the_call_takes_the_systems_steps(convention):
    transformation = optimizer(convention)

    @jax.jit
    def step(gradients, state, theta):
        updates, state = transformation.update(gradients, state, theta)
        return optax.apply_updates(theta, updates), state

    theta = jnp.asarray(START)
    state = transformation.init(theta)
    for number, expected in enumerate(REPLAYS[convention.system]()):
        theta, state = step(gradient(number, theta), state, theta)
        bound = tolerance(convention)
        np.testing.assert_allclose(theta, expected, rtol=bound, atol=bound)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("convention", phrasebook, ids=lambda each: each.system)
def test_first_and_settled_step_are_as_the_phrasebook_says(convention):
    rate = 0.25
    transformation = optimizer(convention, np.full(1, rate), decay=0.0)
    parameters, one = jnp.zeros(1), jnp.ones(1)
    state, steps = transformation.init(parameters), []
    for _ in range(200):
        updates, state = transformation.update(one, state, parameters)
        steps.append(-float(updates[0]) / rate)
    symbols = {"β": BETA, "τ": DAMPENING}
    for found, text in [
        (steps[0], convention.first_step),
        (steps[-1], convention.settles_at),
    ]:
        expected = eval(text.replace("−", "-").replace("²", "**2"), dict(symbols))
        assert found == pytest.approx(expected, rel=2 * tolerance(convention))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("convention", phrasebook, ids=lambda each: each.system)
def test_the_place_of_the_rate_is_as_the_phrasebook_says(convention):
    """After a drop to a tenth, steps that keep their old rate stand out."""
    rates = np.where(np.arange(202) < 200, 1.0, 0.1)
    transformation = optimizer(convention, rates, decay=0.0)
    parameters, one = jnp.zeros(1), jnp.ones(1)
    state, steps = transformation.init(parameters), []
    for _ in range(201):
        updates, state = transformation.update(one, state, parameters)
        steps.append(-float(updates[0]))
    at_once = steps[-1] == pytest.approx(steps[-2] / 10)
    corrected = "momentum_correction" in convention.call
    assert at_once == (convention.rate == "outside" or corrected)


def test_the_page_has_the_whole_table():
    page = (Path(__file__).parents[3] / "docs" / "porting.md").read_text()
    rows = [
        "| system | a step | α | λ | first, settled step / α | here | to know |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in phrasebook:
        steps = f"{each.first_step}, {each.settles_at}"
        cells = each.system, each.update, each.rate, each.decay or "–", steps
        rows.append(f"| {' | '.join(cells)} | `{each.call}` | {each.differs} |")
    assert "\n".join(rows) in page, "\n".join(rows)
    for each in phrasebook:
        assert each.source in page

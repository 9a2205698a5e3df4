"""Claim 1 on the network: how straight its path is, and how often its loss rises."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree
from matplotlib.figure import Figure as Canvas

from experiments.distributed.devices import device_mesh, on_all_devices
from experiments.networks.network import RandomKey
from experiments.problems.problem import Batch, ModelState, Task, examples_in, take
from experiments.records.config import JSON
from experiments.records.metric import ANY
from experiments.reporting.drawing import (
    BLUE,
    GREEN,
    Stroke,
    draw_intervals,
    legend,
    panels,
    plain_axes,
)
from experiments.reporting.page import Figure, Table
from experiments.reporting.statistics import mean_and_interval
from experiments.studies.claims.budget import ClaimsBudget
from experiments.studies.claims.verdict import Measured, Prediction, difference, ratio
from experiments.studies.lifecycle import OpenStudy
from experiments.training import step as train_step
from experiments.training.points import Point, Points, as_arrays
from optax_momentum import keras

LEARNING_RATE, BETA = 0.01, 0.9
BATCH_SIZE = 64
WATCHED = 128  # training examples whose loss is computed after every step

# (learning rate, beta); at beta 0, `keras` is SGD.
ARMS = {
    "sgd": (LEARNING_RATE, 0.0),
    "sgd_large_step": (LEARNING_RATE / (1 - BETA), 0.0),
    "ema": (LEARNING_RATE * (1 - BETA), BETA),
    "keras": (LEARNING_RATE, BETA),
}
# Each method with its settled step.
TITLES = {
    "sgd": "SGD, 0.01",
    "sgd_large_step": "SGD, 0.1",
    "ema": "Momentum, 0.01",
    "keras": "Momentum, 0.1",
}
# On this page SGD is blue and momentum green, whatever else they differ in.
_LOOKS = {
    "sgd": Stroke(BLUE, "dotted"),
    "sgd_large_step": Stroke(BLUE, "dashed"),
    "ema": Stroke(GREEN, "dotted"),
    "keras": Stroke(GREEN, "solid"),
}
FIXED = {"arms": ARMS, "batch_size": BATCH_SIZE, "watched": WATCHED}


class _Metric(NamedTuple):
    """A property of walks, and the claim's expectation of it."""

    title: str
    comparison: str  # in words
    side: Literal["below", "above"]
    bound: float
    compare: Callable[[np.ndarray, np.ndarray], Measured]


_PAIRS = {  # momentum, SGD, and the value that they share
    "settled step": ("keras", "sgd_large_step", LEARNING_RATE / (1 - BETA)),
    "learning rate": ("keras", "sgd", LEARNING_RATE),
}
_LENGTH = "path length over distance"
_COSINE = "cosine of successive steps"
_RISES = "share of steps that raise the loss of the same training images"
_METRICS = {
    "straightness": _Metric(
        "Path over distance", f"{_LENGTH}, momentum / SGD", "below", 1, ratio
    ),
    "cosine": _Metric(
        "Cosine of steps", f"{_COSINE}, momentum − SGD", "above", 0, difference
    ),
    "rises": _Metric(
        "Steps up the loss", f"{_RISES}, momentum − SGD", "below", 0, difference
    ),
}
PREDICTIONS = tuple(
    Prediction(
        f"network {name} {shared}",
        f"network: {metric.comparison}, both with {shared} {value:g}",
        metric.side,
        metric.bound,
    )
    for shared, (_, _, value) in _PAIRS.items()
    for name, metric in _METRICS.items()
)


class Walk(NamedTuple):
    """The paths of training runs."""

    straightness: Float[Array, " runs"]  # path length over distance between its ends
    cosine: Float[Array, " runs"]  # of successive steps, the mean
    rises: Float[Array, " runs"]  # share of steps that raise the watched loss
    losses: Float[Array, "runs steps"]  # the watched loss after each step


def measure(study: OpenStudy, budget: ClaimsBudget) -> dict[str, JSON]:
    """The walks of all arms with all seeds, as JSON values."""
    context = study.context
    examples = on_all_devices(context.subject.problem.train)
    seeds = range(budget.seed, budget.seed + budget.seeds)
    points = [Point(*arm, seed) for arm in ARMS.values() for seed in seeds]
    walks = walk(context.subject.task, points, examples, budget.walk_epochs)
    by_arm = {
        arm: Walk._make(
            values[i * len(seeds) : (i + 1) * len(seeds)] for values in walks
        )
        for i, arm in enumerate(ARMS)
    }
    compared = {
        f"network {name} {shared}": metric.compare(
            getattr(by_arm[momentum], name), getattr(by_arm[sgd], name)
        )
        for shared, (momentum, sgd, _) in _PAIRS.items()
        for name, metric in _METRICS.items()
    }
    return {
        **compared,
        "walks": {
            arm: {
                **{name: getattr(walk, name).tolist() for name in _METRICS},
                "losses": walk.losses[0].tolist(),
            }
            for arm, walk in by_arm.items()
        },
    }


def walk(task: Task, points: Sequence[Point], examples: Batch, epochs: int) -> Walk:
    """Trains with momentum from each point; devices take equal shares of the points.

    As in `train_runs`, its seed sets the first variables of a run, the order of its
    examples, and the random numbers of its steps.
    """
    mesh = device_mesh(math.gcd(len(points), jax.device_count()))
    lanes = PartitionSpec("lanes")
    numbers = jnp.arange(epochs, dtype=jnp.int32)

    def walk_all(points: Points, examples: Batch) -> Walk:
        seeds = jnp.asarray(points.seed)

        def of_seed(seed: ArrayLike) -> PyTree:
            def of_epoch(epoch: Array) -> tuple[Array, RandomKey]:
                key = train_step.order_key(seed, epoch)
                order = train_step.epoch_order(key, examples_in(examples))
                return order, train_step.noise_key(seed, epoch)

            variables = train_step.initial_variables(task, examples, seed)
            return variables, jax.vmap(of_epoch)(numbers)

        return jax.shard_map(
            lambda runs, examples: jax.lax.map(partial(_walk, task, examples), runs),
            mesh=mesh,
            in_specs=(lanes, PartitionSpec()),
            out_specs=lanes,
            check_vma=False,
        )((points, *jax.vmap(of_seed)(seeds)), examples)

    walks = jax.jit(walk_all)(as_arrays(points), examples)
    return Walk._make(map(np.asarray, walks))


def _walk(
    task: Task,
    examples: Batch,
    run: tuple[Point, tuple[PyTree, ModelState], tuple[Array, RandomKey]],
) -> Walk:
    """Trains one run: its point, first variables, and orders and keys of its epochs."""
    point, (params, model_state), epochs = run
    transformation = keras(point.learning_rate, point.beta)
    first, unravel = ravel_pytree(params)
    watched = take(examples, slice(0, WATCHED))

    def step(carry: PyTree, batch: tuple[Array, Array, RandomKey]) -> PyTree:
        flat, state, model_state, last_move = carry
        rows, number, noise = batch
        gradients, _, model_state = train_step.whole_batch_gradients(
            task,
            lambda batch: batch,
            unravel(flat),
            model_state,
            take(examples, rows),
            jax.random.fold_in(noise, number),
        )
        updates, state = transformation.update(ravel_pytree(gradients)[0], state)
        move = jnp.asarray(updates)
        flat = flat + move
        length = jnp.linalg.norm(move)
        cosine = jnp.vdot(move, last_move) / (length * jnp.linalg.norm(last_move))
        losses, _, _ = task.loss(
            unravel(flat), model_state, watched, noise, training=False
        )
        return (flat, state, model_state, move), (length, cosine, jnp.mean(losses))

    def epoch(carry: PyTree, of_epoch: tuple[Array, RandomKey]) -> PyTree:
        order, noise = of_epoch
        full = len(order) // BATCH_SIZE
        rows = order[: full * BATCH_SIZE].reshape(full, BATCH_SIZE)
        numbers = jnp.arange(full, dtype=jnp.int32)
        carry, walked = jax.lax.scan(
            lambda carry, batch: step(carry, (*batch, noise)), carry, (rows, numbers)
        )
        if len(order) > full * BATCH_SIZE:  # the last batch is smaller
            last = order[full * BATCH_SIZE :]
            carry, more = step(carry, (last, jnp.int32(full), noise))
            walked = jax.tree.map(jnp.append, walked, more)
        return carry, walked

    start = first, transformation.init(first), model_state, jnp.ones_like(first)
    (last, *_), walked = jax.lax.scan(epoch, start, epochs)
    lengths, cosines, losses = map(jnp.ravel, walked)
    return Walk(
        jnp.sum(lengths) / jnp.linalg.norm(last - first),
        jnp.mean(cosines[1:]),  # no step precedes the first one
        jnp.mean((losses[1:] > losses[:-1]).astype(jnp.float32)),
        losses,
    )


def walks_figure(walks: dict[str, JSON]) -> Figure:
    """The metrics of each arm, with intervals over seeds."""
    intervals = {
        name: [mean_and_interval(walks[arm][name]) for arm in TITLES]
        for name in _METRICS
    }

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(_METRICS), 2.2)
        for axes, (name, metric) in zip(places, _METRICS.items(), strict=True):
            series = {"": intervals[name]}
            style: dict[str, Any] = {"scale": 1, "possible": ANY}
            style["row_colors"] = [_LOOKS[arm].color for arm in TITLES]
            draw_intervals(axes, [*TITLES.values()], series, **style)
            axes.set(title=metric.title)
            axes.margins(x=0.15)
            plain_axes(axes, ink)

    header = ("method", "measure", "mean", "low", "high", "n")
    formats: dict[str, str] = dict.fromkeys(header[2:5], "{:.3f}")
    rows = [
        (title, metric.title, *intervals[name][i].shown(), len(walks[arm][name]))
        for name, metric in _METRICS.items()
        for i, (arm, title) in enumerate(TITLES.items())
    ]
    return Figure(
        "network-walk",
        "The training path of the network, for each method and settled step: length "
        "over the distance between its ends, cosine of successive steps, and share of "
        "steps that raise the loss on a fixed set of training images; means and 95% "
        "intervals over seeds.",
        draw,
        Table("Paths of the network", header, rows, formats),
        (8.7, 2.6),
    )


def losses_figure(walks: dict[str, JSON]) -> Figure:
    """The watched losses of the first seed."""
    losses = {arm: np.array(walks[arm]["losses"], float) for arm in TITLES}

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for arm, title in TITLES.items():
            color, dash = _LOOKS[arm]
            look: dict[str, Any] = {"color": color, "linestyle": dash, "linewidth": 1.2}
            axes.plot(range(1, 1 + len(losses[arm])), losses[arm], label=title, **look)
        axes.set(xlabel="Step", ylabel="Training loss")
        plain_axes(axes, ink)
        legend(canvas, axes)

    columns = zip(*losses.values(), strict=True)
    rows = [(step, *row) for step, row in enumerate(columns, start=1)]
    formats: dict[str, str] = dict.fromkeys(TITLES.values(), "{:.4f}")
    return Figure(
        "network-losses",
        "The loss on the same training images after each step of the first seed, for "
        "each method and settled step.",
        draw,
        Table("Training losses", ("step", *TITLES.values()), rows, formats),
        (6.4, 3.6),
    )

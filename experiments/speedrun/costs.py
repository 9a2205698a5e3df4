"""What each part of the recipe costs in time, each part compiled and run alone."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from experiments.data.examples import Examples
from experiments.distributed.compilation import QuickJit
from experiments.distributed.devices import device_mesh
from experiments.networks.on_cpu import fast_on_cpu
from experiments.networks.whitened import WhitenedCNN
from experiments.speedrun import recipe as recipes
from experiments.speedrun.recipe import Recipe
from experiments.speedrun.steps import AXIS, order_of, share_of_batch
from experiments.training.step import TrainState

_TURNS = 3

Layer = Callable[[WhitenedCNN, Any], Array]


def seconds_of_parts(
    recipe: Recipe, train: Examples, state: TrainState
) -> dict[str, float]:
    """Seconds of each part of a training step, gradients included."""
    parts: dict[str, float] = {}
    order = order_of(recipe, len(train.labels), 0, 0)
    devices = device_mesh().shape[AXIS]
    draw = _on_devices(
        lambda order, train: share_of_batch(
            recipe, devices, order, jnp.zeros((), int), train
        ),
        PartitionSpec(AXIS),
    )
    parts["drawing, moving and mirroring the images"] = _seconds(draw, order, train)
    variables, constant = state.params, state.model_state
    batch = draw(order, train)
    x: Any = jax.jit(recipes.normalized)(batch.images)
    for name, layer, learns in _layers(state):
        function = partial(_forward, recipe, layer)
        both = _on_devices(
            partial(_with_gradients, function, learns), PartitionSpec(AXIS)
        )
        parts[name] = _seconds(both, variables, constant, x)
        x = both(variables, constant, x)[0]
    loss = _on_devices(_loss_gradient, PartitionSpec(AXIS))
    parts["loss"] = _seconds(loss, x, batch.labels)
    transformation = recipes.optimizer(recipe)

    def update(variables: PyTree, opt_state: PyTree) -> PyTree:
        updates, opt_state = transformation.update(variables, opt_state, variables)
        return optax.apply_updates(variables, updates), opt_state

    parts["momentum and Lookahead"] = _seconds(
        _on_devices(update, PartitionSpec()), variables, state.opt_state
    )
    return parts


def _layers(state: TrainState) -> list[tuple[str, Layer, bool]]:
    """Each layer's name, the layer, and whether it passes gradients to one before."""

    def group(number: int) -> Layer:
        return lambda network, x: network.groups[number](x)

    count = len(state.params["params"]["groups"])
    return [
        ("whitening", lambda network, images: network.whiten(images), False),
        *((f"group {n + 1}", group(n), True) for n in range(count)),
        ("head", lambda network, x: network.classify(x), True),
    ]


def _forward(
    recipe: Recipe, layer: Layer, variables: PyTree, constant: PyTree, x: Array
) -> Array:
    network = recipes.network_of(recipe, variables, constant, AXIS, training=True)
    return layer(network, x)


def _with_gradients(
    function: Callable[..., Array],
    learns: bool,
    variables: PyTree,
    constant: PyTree,
    x: Array,
) -> tuple[Array, PyTree]:
    """A layer's results, and gradients of its parameters and, if it learns, inputs."""

    def of(params: PyTree, inputs: Array) -> Array:
        return function({**variables, "params": params}, constant, inputs)

    fast = fast_on_cpu(of)
    if learns:
        y, pull = jax.vjp(fast, variables["params"], x)
    else:
        y, pull = jax.vjp(lambda params: fast(params, x), variables["params"])
    gradients = pull(y)
    return y, jax.tree.map(lambda g: g[None], gradients)


def _loss_gradient(logits: Array, labels: Array) -> Array:
    def mean(logits: Array) -> Array:
        targets = jax.nn.one_hot(labels, logits.shape[1])
        targets = optax.smooth_labels(targets, recipes.LABEL_SMOOTHING)
        return jnp.mean(optax.softmax_cross_entropy(logits, targets))

    return jax.grad(mean)(logits)


def _on_devices(function: Callable[..., Any], out_specs: PartitionSpec) -> Any:
    """The function on each device; arrays by example where their specs say so."""
    mesh = device_mesh()

    def call(*arguments: Any) -> Any:
        specs = jax.tree.map(lambda x: x.sharding.spec, arguments)
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=False
        )
        key = jax.tree.structure(arguments)
        if key not in compiled:
            compiled[key] = QuickJit(mapped)
        return compiled[key](*arguments)

    compiled: dict[Any, QuickJit] = {}
    return call


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """The median of a few calls, after one that compiles."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(_TURNS):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times)

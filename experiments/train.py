"""One training run: a step, an epoch of steps as one compiled scan, and `fit`."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from experiments import model
from experiments.config import Config
from experiments.runs import Epoch

_CPU_SLICE = 16  # images; measured, see docs/performance.md
_EVALUATION_BATCH = 500  # images scored at once: a matter of memory, not of results


class Examples(NamedTuple):
    """One split, on the device."""

    images: Array  # [examples, height, width, channels]: uint8, or float32 in [0, 1]
    labels: Array  # int32 [examples]


class Splits(NamedTuple):
    """All that a run reads; `test` is read once, after the last epoch."""

    train: Examples
    validation: Examples
    test: Examples
    classes: int


class Score(NamedTuple):
    """Means over all examples of a split."""

    loss: Array  # float32: softmax cross-entropy, in nats
    accuracy: Array  # float32 in [0, 1]


class Network(Protocol):
    """Two functions of plain arrays: the modules `model` and `mlp` are such."""

    def init(
        self, key: Array, image_shape: tuple[int, int, int], classes: int
    ) -> model.Params: ...

    def apply(self, params: model.Params, images: Array) -> Array: ...


TrainEpoch = Callable[..., tuple[model.Params, optax.OptState, Score]]


class Program(NamedTuple):
    """One arm's training, compiled once and run with every seed."""

    transformation: optax.GradientTransformation
    train_epoch: TrainEpoch
    compile_seconds: float


class Outcome(NamedTuple):
    """What `fit` measured."""

    epochs: tuple[Epoch, ...]
    test: Score
    seconds: float  # training, validation and test; compilation excluded
    images_per_second: float  # of the training epochs alone


def compile_program(
    transformation: optax.GradientTransformation, splits: Splits, batch_size: int
) -> Program:
    """Compiles an arm's epoch, and the scoring that all arms share, ahead of time."""
    start = time.perf_counter()
    epoch = compile_epoch(transformation, splits.train, splits.classes, batch_size)
    params = initial_params(splits.train, splits.classes, seed=0)
    for split in (splits.validation, splits.test):
        jax.block_until_ready(score(params, split))
    return Program(transformation, epoch, time.perf_counter() - start)


def compile_epoch(
    transformation: optax.GradientTransformation,
    train: Examples,
    classes: int,
    batch_size: int,
    network: Network = model,
) -> TrainEpoch:
    """One pass over `train` as one program, of (params, state, key, train).

    It returns the next params and state, whose memory it takes over from the arguments,
    and the mean `Score` of the batches, each before its own step.
    """
    epoch = jax.jit(_train_epoch, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
    params = initial_params(train, classes, 0, network)
    state = on_all_devices(transformation.init(params))
    arguments = (params, state, order_key(0, 0), train)
    return epoch.lower(network, transformation, batch_size, *arguments).compile()


def fit(
    program: Program,
    splits: Splits,
    config: Config,
    on_epoch: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains for all epochs, validates after each, and reads the test split once.

    The initial parameters and the order of the data are functions of the seed alone,
    so that arms with equal seeds are paired.
    """
    start = time.perf_counter()
    params = initial_params(splits.train, splits.classes, config.seed)
    state = on_all_devices(program.transformation.init(params))
    epochs, training_seconds = [], 0.0
    for epoch in range(config.epochs):
        key = order_key(config.seed, epoch)
        epoch_start = time.perf_counter()
        params, state, train = jax.block_until_ready(
            program.train_epoch(params, state, key, splits.train)
        )
        training_seconds += time.perf_counter() - epoch_start
        validation = score(params, splits.validation)
        epochs.append(Epoch(*map(float, (*train, *validation))))
        on_epoch()
    test = jax.block_until_ready(score(params, splits.test))
    seconds = time.perf_counter() - start
    images = config.epochs * len(splits.train.labels)
    return Outcome(tuple(epochs), test, seconds, images / training_seconds)


def initial_params(
    train: Examples, classes: int, seed: ArrayLike, network: Network = model
) -> model.Params:
    """Parameters for the images of a split: a function of the seed alone."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    _, height, width, channels = train.images.shape
    init = jax.jit(network.init, static_argnums=(1, 2))  # one program, not forty
    return on_all_devices(init(key, (height, width, channels), classes))


def order_key(seed: ArrayLike, epoch: ArrayLike) -> Array:
    """The key of an epoch's order of the data."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)
    return on_all_devices(key)


@partial(jax.jit, static_argnums=2)
def score(params: model.Params, split: Examples, network: Network = model) -> Score:
    """Loss and accuracy over all examples of a split, none of them dropped."""
    examples = len(split.labels)
    batch = min(_EVALUATION_BATCH, examples)
    indices, weights = in_batches(jnp.arange(examples), batch)

    def add_batch(sums: Score, rows: tuple[Array, Array]) -> tuple[Score, None]:
        loss, correct = _weighted_sums(network, params, split, *rows)
        return Score(sums.loss + loss, sums.accuracy + correct), None

    zero = jnp.zeros(())
    sums, _ = jax.lax.scan(add_batch, Score(zero, zero), (indices, weights))
    return Score(sums.loss / examples, sums.accuracy / examples)


def _train_epoch(
    network: Network,
    transformation: optax.GradientTransformation,
    batch_size: int,
    params: model.Params,
    state: optax.OptState,
    key: Array,
    train: Examples,
) -> tuple[model.Params, optax.OptState, Score]:
    """Every example once, in an order that is a pure function of the key."""
    order = jax.random.permutation(key, len(train.labels))
    size = slice_size(batch_size, jax.device_count())
    rows = in_batches(order, batch_size, size * jax.device_count())
    all_steps = jax.shard_map(
        partial(steps, network, transformation, size),
        mesh=mesh(),
        in_specs=(
            PartitionSpec(),
            PartitionSpec(),
            PartitionSpec(None, "data"),
            PartitionSpec(),
        ),
        out_specs=PartitionSpec(),
        check_vma=False,  # it can't see that the gradients' sum is the same everywhere
    )
    return all_steps(params, state, rows, train)


def steps(
    network: Network,
    transformation: optax.GradientTransformation,
    slice_size: int,
    params: model.Params,
    state: optax.OptState,
    rows: tuple[Array, Array],
    train: Examples,
) -> tuple[model.Params, optax.OptState, Score]:
    """A device's share of all steps: its part of each batch, and then the same step."""

    def loss_sum(params: model.Params, rows: Any) -> tuple[Array, Array]:
        return _weighted_sums(network, params, train, *rows)

    def step(carry: Any, rows: tuple[Array, Array]) -> tuple[Any, Score]:
        params, state = carry
        of_slice = partial(jax.value_and_grad(loss_sum, has_aux=True), params)
        sums = _sum_in_slices(of_slice, rows, slice_size), jnp.sum(rows[1])
        ((loss, correct), gradients), count = jax.lax.psum(sums, "data")
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, state = transformation.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), Score(loss, correct)

    (params, state), sums = jax.lax.scan(step, (params, state), rows)
    return params, state, Score(*(jnp.sum(x) / len(train.labels) for x in sums))


def _sum_in_slices(
    function: Callable[[Any], Any], rows: tuple[Array, Array], size: int
) -> Any:
    """The sum of `function` over slices of the rows."""
    slices = jax.tree.map(lambda x: x.reshape(-1, size), rows)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], slices))
    zero = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: Any, rows: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(rows)), None

    return jax.lax.scan(add, zero, slices)[0]


def slice_size(batch_size: int, devices: int) -> int:
    """Images whose gradients a device takes at once: a CPU what stays in its cache."""
    part = -(-batch_size // devices)
    return min(part, _CPU_SLICE) if jax.default_backend() == "cpu" else part


def mesh(lanes: int = 1) -> jax.sharding.Mesh:
    """All devices, in `lanes` equal groups, each of which shares a batch's images."""
    shape = (lanes, jax.device_count() // lanes)
    return jax.make_mesh(shape, ("lanes", "data"), axis_types=(AxisType.Auto,) * 2)


def on_all_devices(tree: Any) -> Any:
    """The arrays, replicated: what `TrainEpoch` takes."""
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def _weighted_sums(
    network: Network,
    params: model.Params,
    split: Examples,
    indices: Array,
    weights: Array,
) -> tuple[Array, Array]:
    """Sums over a batch of loss and of hits; filling has weight 0."""
    images = split.images[indices]
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255
    labels = split.labels[indices]
    logits = network.apply(params, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return jnp.sum(weights * losses), jnp.sum(weights * hits)


def in_batches(order: Array, batch_size: int, multiple: int = 1) -> tuple[Array, Array]:
    """Indices and weights, a row a step; the last batch is filled, not dropped.

    The filling repeats example 0 with weight 0; it also makes the length of the rows,
    which is `batch_size` else, a multiple of `multiple`.
    """
    examples = len(order)
    steps = -(-examples // batch_size)
    filling = (0, steps * batch_size - examples)
    weights = jnp.pad(jnp.ones(examples), filling)
    rows = (x.reshape(steps, batch_size) for x in (jnp.pad(order, filling), weights))
    wider = ((0, 0), (0, -batch_size % multiple))
    indices, weights = (jnp.pad(x, wider) for x in rows)
    return indices, weights

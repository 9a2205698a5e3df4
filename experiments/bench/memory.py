"""The memory of the compiled update: state, temporaries, and what it reuses."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float32, PyTree

from experiments.bench import table
from experiments.bench.update import compile_step
from optax_momentum import pack, sgd, storage, unpack

LEAVES, SHAPE = 16, (1024, 1024)
BATCH_SIZE = 8  # small, so that activations hardly count in the training step

PROGRAMS = {
    "optax_momentum": sgd(0.01, 0.9),
    "optax_momentum, float32()": sgd(0.01, 0.9, storage=storage.float32()),
    "optax_momentum, bfloat16()": sgd(0.01, 0.9, storage=storage.bfloat16()),
    "optax_momentum, int8()": sgd(0.01, 0.9, storage=storage.int8()),
    "Optax": optax.sgd(0.01, 0.9),
    "Optax, bfloat16": optax.sgd(0.01, 0.9, accumulator_dtype=jnp.bfloat16),
}


def bench_memory() -> None:
    """Compiles the updates, prints JSON lines to stdout and a table to stderr."""
    table.print_records("memory of the update, bytes per parameter", _measure())


def _measure() -> Iterator[Mapping[str, object]]:
    leaf = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    tree = [leaf] * LEAVES
    arrangements = {"": tree, ", packed": jax.eval_shape(pack, tree)}
    for name, transformation in PROGRAMS.items():
        for suffix, params in arrangements.items():
            record = {"benchmark": "memory", "program": name + suffix}
            yield record | memory(transformation, params)


def memory(
    transformation: optax.GradientTransformation, params: PyTree
) -> dict[str, float]:
    """Bytes per parameter of a compiled update that overwrites params and state.

    Only shapes and dtypes of `params` are used.
    """
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    state = jax.tree.leaves(jax.eval_shape(transformation.init, params))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in state)
    update = compile_step(transformation, params).memory_analysis()
    training_step = _training_step(transformation, params).memory_analysis()
    return {
        "state": round(state_bytes / count, 4),
        "temporaries": round(update.temp_size_in_bytes / count, 4),
        "of_a_training_step": round(training_step.temp_size_in_bytes / count, 4),
        "overwritten": round(update.alias_size_in_bytes / count, 4),
    }


def _training_step(transformation: optax.GradientTransformation, params: PyTree) -> Any:
    """A compiled step that also computes its gradients, of a network of such layers.

    There the updates can reuse the memory of the gradients.
    """

    def loss(params: PyTree, x: Float32[Array, "batch width"]) -> Float32[Array, ""]:
        for kernel in jax.tree.leaves(unpack(params)):
            x = jnp.tanh(x @ kernel) @ kernel.T
        return jnp.sum(x)

    def step(
        params: PyTree, state: PyTree, x: Float32[Array, "batch width"]
    ) -> tuple[PyTree, PyTree]:
        updates, state = transformation.update(jax.grad(loss)(params, x), state, params)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(transformation.init, params)
    width = jax.tree.leaves(jax.eval_shape(unpack, params))[0].shape[0]
    x = jax.ShapeDtypeStruct((BATCH_SIZE, width), jnp.float32)
    return jax.jit(step, donate_argnums=(0, 1)).lower(params, state, x).compile()

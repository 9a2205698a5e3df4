"""The compiled epoch leaves this machine: one export serves CPU, CUDA and TPU."""

from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from experiments.data.examples import Examples
from experiments.distributed.devices import device_mesh
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.training import train


def test_one_export_of_the_epoch_serves_cpu_cuda_and_tpu():
    rng = np.random.default_rng(2)
    images = jnp.asarray(rng.integers(0, 256, (11, 18, 18, 1), dtype=np.uint8))
    split = Examples(images, jnp.arange(11, dtype=jnp.int32) % 3)
    transformation = ARMS["keras"].transformation(0.05, 0.8)

    def epoch(underway, key, split):
        own: tuple[Any, Any, int, None] = (cnn, transformation, 4, None)
        rows = train.batch_rows(key, 11, 4, 2)
        last = jnp.int32(len(rows[0]))
        steps = partial(train.share_out, *own, device_mesh(), PartitionSpec())
        return steps(underway, rows, jnp.int32(0), last, split)

    underway = train.begin(transformation, split, 3, seed=0)
    arguments = (underway, train.order_key(0, 0), split)
    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(epoch), platforms=platforms)(*arguments)
    assert set(exported.platforms) == set(platforms)
    got, want = exported.call(*arguments), jax.jit(epoch)(*arguments)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)

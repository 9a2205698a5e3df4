"""The compiled epoch leaves this machine: one export serves CPU, CUDA and TPU."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data.examples import Examples
from experiments.distributed.devices import device_mesh
from experiments.networks import cnn
from experiments.optimizers.arms import ARMS
from experiments.problems.image_classification import image_classification
from experiments.training import step
from experiments.training.lanes import as_lane
from experiments.training.mesh_steps import run_on_mesh
from experiments.training.points import Point, as_arrays


@pytest.mark.slow
def test_one_export_of_the_epoch_serves_cpu_cuda_and_tpu():
    rng = np.random.default_rng(2)
    images = jnp.asarray(rng.integers(0, 256, (11, 18, 18, 1), dtype=np.uint8))
    split = Examples(images, jnp.arange(11, dtype=jnp.int32) % 3)
    transformation = ARMS["keras"].transformation(0.05, 0.8)
    task = image_classification(cnn, 3)
    spec = step.TrainSpec(step.constant(transformation), 4, task)
    points = as_arrays([Point(0.05, 0.8, 0)])

    def epoch(state, key, split):
        rows = step.batch_rows(key, 11, 4, 2)
        batches = as_lane(rows), jnp.int32(0), jnp.int32(len(rows[0])), split
        return run_on_mesh(spec, device_mesh(), points, state, *batches)

    params, _ = step.initial_variables(task, split, seed=0)
    state = as_lane(step.state_from_params(transformation, params))
    arguments = (state, step.order_key(0, 0), split)
    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(jax.jit(epoch), platforms=platforms)(*arguments)
    assert set(exported.platforms) == set(platforms)
    got, want = exported.call(*arguments), jax.jit(epoch)(*arguments)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)

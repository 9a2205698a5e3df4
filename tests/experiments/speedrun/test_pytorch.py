"""All steps of a run of the recipe equal those of the published program in PyTorch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden.problem import load

from experiments.data.examples import Examples
from experiments.networks.network import random_key
from experiments.speedrun import recipe as recipes
from experiments.speedrun.recipe import Recipe, length

GOLDEN = load("pytorch_speedrun")
RUN = GOLDEN.runs["speedrun"]
RECIPE = Recipe((12, 12, 3), 4, 32, length(128, 32, 3.1), jnp.float64, (8, 12, 16))
NAMES = {
    "kernel": "weight",
    "mean": "running_mean",
    "var": "running_var",
    "whitening": "whitening.weight",
    "whitening_bias": "whitening.bias",
}


def recorded(tree, when: str):
    """A tree like this one, of the recorded arrays."""

    def leaf(path, like):
        names = [str(getattr(key, "key", key)) for key in path]
        if names[0] in ("params", "statistics"):
            names = names[1:]
        names[-1] = NAMES.get(names[-1], names[-1])
        array = RUN[when][".".join(names)]
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif array.ndim == 2:
            array = array.T
        assert array.shape == like.shape
        return jnp.asarray(array)

    return jax.tree.map_with_path(leaf, tree)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_a_run_of_the_recipe_equals_pytorchs():
    images = jnp.asarray(GOLDEN.problem["images"].transpose(0, 1, 3, 4, 2))
    labels = jnp.asarray(GOLDEN.problem["labels"], jnp.int32)
    shapes = recipes.initial_variables(RECIPE, random_key(0), images[0])
    variables, constant = recorded(shapes[0], "before"), recorded(shapes[1], "before")
    loss, transformation = recipes.plain_loss(RECIPE), recipes.optimizer(RECIPE)

    @jax.jit
    def step(variables, opt_state, batch):
        def mean(params):
            losses, _, statistics = loss(
                {**variables, "params": params},
                constant,
                batch,
                random_key(0),
                training=True,
            )
            return jnp.mean(losses), (jnp.sum(losses), statistics)

        gradients, (total, statistics) = jax.grad(mean, has_aux=True)(
            variables["params"]
        )
        changes = jax.tree.map(jnp.subtract, statistics, variables["statistics"])
        updates, opt_state = transformation.update(
            {"params": gradients, "statistics": changes}, opt_state, variables
        )
        return optax.apply_updates(variables, updates), opt_state, total

    opt_state: Any = transformation.init(variables)
    totals = []
    for batch in map(Examples, images, labels):
        variables, opt_state, total = step(variables, opt_state, batch)
        totals.append(float(total))
    np.testing.assert_allclose(totals, RUN["losses"], 1e-5)
    for found, when in (variables, "fast"), (opt_state.slow, "slow"):
        for (path, a), b in zip(
            jax.tree.leaves_with_path(found),
            jax.tree.leaves(recorded(found, when)),
            strict=True,
        ):
            np.testing.assert_allclose(
                a, b, 1e-4, 1e-4, err_msg=f"{when} {jax.tree_util.keystr(path)}"
            )

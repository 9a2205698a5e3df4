"""What a run does if a step's gradient, or its update, is not finite."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import Int

from experiments.data.examples import Examples
from experiments.distributed.devices import to_host
from experiments.networks.cnn import Params
from experiments.records.config import Config, Nonfinite
from experiments.training.epochs import Refusal
from experiments.training.scoring import Network, weighted_sums
from experiments.training.step import (
    OptimizerOf,
    TrainSpec,
    TrainState,
    batch_rows,
    order_key,
)
from optax_momentum import GuardState, guard


def train_spec(
    optimizer: OptimizerOf, batch_size: int, network: Network, policy: Nonfinite
) -> TrainSpec:
    """A spec whose optimizer is guarded, and whose runs halt, as the policy says."""
    if policy == "record":
        return TrainSpec(optimizer, batch_size, network)

    def guarded(learning_rate: Any, beta: Any) -> optax.GradientTransformation:
        return guard(optimizer(learning_rate, beta))

    halted = _has_skipped if policy == "stop" else None
    return TrainSpec(guarded, batch_size, network, halted)


def _has_skipped(opt_state: optax.OptState) -> Array:
    assert isinstance(opt_state, GuardState)
    return opt_state.skipped > 0


def skipped_steps(opt_state: optax.OptState, lanes: int) -> Int[np.ndarray, " lanes"]:
    """The number of steps that each of the first lanes skipped."""
    if isinstance(opt_state, GuardState):
        return to_host(opt_state.skipped)[:lanes]
    return np.zeros(lanes, np.int32)


def refusal(
    config: Config,
    network: Network,
    images: Examples,
    steps: int,
    state: TrainState,
    epoch: int,
) -> Refusal | None:
    """The step that was not taken, if there is one, and where it went wrong.

    Args:
      config: of the run.
      network: what it trains.
      images: what it trains on.
      steps: per epoch.
      state: the run, in the only lane, with a guarded optimizer.
      epoch: the epoch that it is in.
    """
    opt_state = state.opt_state
    assert isinstance(opt_state, GuardState)
    if not to_host(_has_skipped(opt_state)).any():
        return None
    step = int(to_host(opt_state.accepted)[0]) - epoch * steps
    params = jax.tree.map(lambda x: x[0], state.params)
    what = _nonfinite_value(config, network, images, params, epoch, step)
    none = jnp.zeros_like(opt_state.skipped)
    before = opt_state._replace(
        skipped=none, consecutive_skips=none, longest_skips=none
    )
    message = (
        f"{config.arm}, seed {config.seed}: at step {step + 1} of epoch {epoch + 1} "
        f"{what} is not finite. Lower --learning-rate, or choose --nonfinite skip to "
        "skip such steps or --nonfinite record to train on."
    )
    return Refusal(step, state._replace(opt_state=before), message)


def _nonfinite_value(
    config: Config,
    network: Network,
    images: Examples,
    params: Params,
    epoch: int,
    step: int,
) -> str:
    """Names the first gradient of the step that is not finite, or else the update."""
    key = order_key(config.seed, epoch)
    rows = batch_rows(key, len(images.labels), config.batch_size, 1)
    indices, weights = jax.tree.map(lambda x: x[step], rows)

    @partial(jax.jit, static_argnums=0)
    def gradients(network: Network, params: Params) -> Params:
        def loss(params: Params) -> Array:
            return weighted_sums(network, params, images, indices, weights)[0]

        return jax.grad(loss)(params)

    for path, gradient in jax.tree.leaves_with_path(gradients(network, params)):
        if not jnp.isfinite(gradient).all():
            return f"the gradient of params{jax.tree_util.keystr(path)}"
    return "every gradient is finite, but the update"

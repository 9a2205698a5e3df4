"""What a run does about a step whose gradient, or whose result, is not finite."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.data.examples import Examples
from experiments.networks import cnn
from experiments.networks.cnn import Params
from experiments.records.config import Config, Nonfinite
from experiments.training.epochs import Refusal
from experiments.training.scoring import weighted_sums
from experiments.training.train import Underway, batch_rows, order_key
from optax_momentum import GuardState, guard


def guarded(
    transformation: optax.GradientTransformation, policy: Nonfinite
) -> optax.GradientTransformation:
    """The transformation as the policy wants it."""
    return transformation if policy == "record" else guard(transformation)


def skipped(state: optax.OptState) -> Array:
    """Whether a guarded transformation has left out a step."""
    assert isinstance(state, GuardState)
    return state.skipped > 0


def skipped_steps(state: optax.OptState) -> int:
    """How many steps were left out."""
    return int(state.skipped) if isinstance(state, GuardState) else 0


def refusal(
    config: Config, images: Examples, steps: int, underway: Underway, epoch: int
) -> Refusal | None:
    """The step that was not taken, if there is one, and where it went wrong.

    Args:
      config: of the run.
      images: that it trains on.
      steps: of an epoch.
      underway: the run, its transformation guarded.
      epoch: the one that it is in.
    """
    state = underway.state
    assert isinstance(state, GuardState)
    if not skipped(state):
        return None
    step = int(state.accepted) - epoch * steps
    where = _where(config, images, underway.params, epoch, step)
    none = jnp.zeros_like(state.skipped)
    before = state._replace(skipped=none, consecutive_skips=none, longest_skips=none)
    complaint = (
        f"{config.arm}, seed {config.seed}: at step {step + 1} of epoch {epoch + 1} "
        f"{where} is not finite. Lower --learning-rate; or choose --nonfinite skip, to "
        "leave such steps out, or --nonfinite record, to train on."
    )
    return Refusal(step, underway._replace(state=before), complaint)


def _where(
    config: Config, images: Examples, params: Params, epoch: int, step: int
) -> str:
    """Which gradient of the step it is, or that it is none of them."""
    key = order_key(config.seed, epoch)
    rows = batch_rows(key, len(images.labels), config.batch_size, 1)
    indices, weights = jax.tree.map(lambda x: x[step], rows)

    def loss(params: Params) -> Array:
        return weighted_sums(cnn, params, images, indices, weights)[0]

    for path, gradient in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params)):
        if not jnp.isfinite(gradient).all():
            return f"the gradient of params{jax.tree_util.keystr(path)}"
    return "its result, though every gradient is,"

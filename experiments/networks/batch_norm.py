"""Batch normalization that equals PyTorch's, for recipes that are ported from there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from experiments.records.config import UsageError


class BatchNorm(nnx.Module):
    """Normalizes each channel over the batch, as `torch.nn.BatchNorm2d` does.

    Training: y = γ (x − μ)/√(σ² + ε) + β with the batch's mean μ and biased variance σ²
    over all axes but the last, n values a channel; then the running statistics follow,

        mean ← (1 − share) mean + share μ,
        var ← (1 − share) var + share σ² n/(n − 1).

    Evaluation: y = γ (x − mean)/√(var + ε) + β.

    Differs from `flax.nnx.BatchNorm` in the unbiased running variance, in that the
    statistics have the parameters' dtype instead of float32, and in the name `share`:
    PyTorch's argument `momentum` is the share of the new, Flax's is that of the old, 1
    minus the former.

    Args:
      channels: length of the last axis.
      share: of a batch's statistics in the running ones.
      epsilon: ε.
      use_scale: whether there is a γ; else it is 1.
      dtype: of parameters and statistics.
      axis_name: of a `shard_map` whose devices share the batch; the statistics are
        then those of the whole batch.
      rngs: unused, so that it can stand where other layers stand.

    Raises:
      UsageError: there is one value a channel in training, whose variance is undefined.

    References:
      Ioffe and Szegedy 2015, arXiv:1502.03167; the documentation of
      `torch.nn.BatchNorm2d`.
    """

    def __init__(
        self,
        channels: int,
        *,
        share: float = 0.1,
        epsilon: float = 1e-5,
        use_scale: bool = True,
        dtype: DTypeLike = jnp.float32,
        axis_name: str | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        del rngs
        self.scale = nnx.Param(jnp.ones(channels, dtype)) if use_scale else None
        self.bias = nnx.Param(jnp.zeros(channels, dtype))
        self.mean = nnx.BatchStat(jnp.zeros(channels, dtype))
        self.var = nnx.BatchStat(jnp.ones(channels, dtype))
        self.share, self.epsilon, self.axis_name = share, epsilon, axis_name
        self.use_running_average = False  # `train()` and `eval()` of NNX switch it

    def __call__(
        self, x: Float[Array, "batch *axes channels"]
    ) -> Float[Array, "batch *axes channels"]:
        shape = (1,) * (x.ndim - 1) + (-1,)
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            axes = tuple(range(x.ndim - 1))
            n = x.size // x.shape[-1] * self._over_devices(jax.lax.psum, 1)
            if n == 1:
                raise UsageError(
                    "BatchNorm: a batch with one value a channel has no variance: "
                    "choose a --batch-size that leaves no last batch of one example."
                )
            mean = self._over_devices(jax.lax.pmean, jnp.mean(x, axes))
            squares = jnp.mean(jnp.square(x - mean.reshape(shape)), axes)
            var = self._over_devices(jax.lax.pmean, squares)
            self.mean[...] = self._follow(self.mean[...], mean)
            self.var[...] = self._follow(self.var[...], var * (n / (n - 1)))
        scale = 1 if self.scale is None else self.scale[...]
        factor = scale / jnp.sqrt(var + self.epsilon)
        mean, factor, bias = (
            each.reshape(shape) for each in (mean, factor, self.bias[...])
        )
        return (x - mean) * factor + bias

    def _over_devices(self, reduce: Callable[[Any, str], Any], value: Any) -> Any:
        return value if self.axis_name is None else reduce(value, self.axis_name)

    def _follow(
        self, old: Float[Array, " channels"], new: Float[Array, " channels"]
    ) -> Float[Array, " channels"]:
        return (1 - self.share) * old + self.share * new.astype(old.dtype)

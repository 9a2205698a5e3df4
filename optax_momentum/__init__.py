"""Momentum SGD, done right, in JAX: gradient transformations for `optax.chain`."""

from optax_momentum import as_qhm, convert, schedules, storage
from optax_momentum.accumulate import accumulate
from optax_momentum.aggmo import aggmo, aggmo_betas
from optax_momentum.averaging import averaged_params, parameter_ema, polyak_average
from optax_momentum.change_storage import change_storage
from optax_momentum.conventions import (
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
)
from optax_momentum.guard import GuardState, guard
from optax_momentum.latest import lawa
from optax_momentum.momentum import Coefficients, MomentumState, linear_momentum
from optax_momentum.nesterov import (
    lookahead_params,
    nesterov,
    nesterov_coefficients,
    two_point_nesterov,
)
from optax_momentum.optimizers import sgd
from optax_momentum.outer import OuterState, outer_loop
from optax_momentum.packed import Packed, pack, unpack
from optax_momentum.qhm import qhm, qhm_coefficients
from optax_momentum.restart import RestartState, adaptive_restart
from optax_momentum.sharded import reduce_scatter, sharded
from optax_momentum.sharding_plan import Shard, ShardingPlan, sharding_plan
from optax_momentum.srsgd import delayed, sawtooth, srsgd
from optax_momentum.surgery import change_convention, rescale_momentum, reset_momentum
from optax_momentum.tuning import (
    beta_from_half_life,
    beta_from_time_constant,
    effective_learning_rate,
)

__all__ = [
    "Coefficients",
    "GuardState",
    "MomentumState",
    "OuterState",
    "Packed",
    "RestartState",
    "Shard",
    "ShardingPlan",
    "accumulate",
    "adaptive_restart",
    "aggmo",
    "aggmo_betas",
    "as_qhm",
    "averaged_params",
    "beta_from_half_life",
    "beta_from_time_constant",
    "change_convention",
    "change_storage",
    "convert",
    "delayed",
    "effective_learning_rate",
    "ema",
    "ema_coefficients",
    "guard",
    "heavy_ball",
    "heavy_ball_coefficients",
    "keras",
    "keras_coefficients",
    "lawa",
    "linear_momentum",
    "lookahead_params",
    "nesterov",
    "nesterov_coefficients",
    "outer_loop",
    "pack",
    "parameter_ema",
    "polyak_average",
    "qhm",
    "qhm_coefficients",
    "reduce_scatter",
    "rescale_momentum",
    "reset_momentum",
    "sawtooth",
    "schedules",
    "sgd",
    "sharded",
    "sharding_plan",
    "srsgd",
    "storage",
    "two_point_nesterov",
    "unpack",
]

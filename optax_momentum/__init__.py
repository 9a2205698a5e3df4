"""Momentum SGD, done right, in JAX: gradient transformations for `optax.chain`."""

from optax_momentum import (
    _export,  # noqa: F401 (registers the states for `jax.export`)
    as_qhm,
    convert,
    diagnostics,
    schedules,
    storage,
    testing,
)
from optax_momentum._methods.aggmo import aggmo, aggmo_betas
from optax_momentum._methods.conventions import (
    ema,
    ema_coefficients,
    heavy_ball,
    heavy_ball_coefficients,
    keras,
    keras_coefficients,
)
from optax_momentum._methods.momentum import (
    Coefficients,
    MomentumState,
    linear_momentum,
)
from optax_momentum._methods.nesterov import (
    lookahead_params,
    nesterov,
    nesterov_coefficients,
    two_point_nesterov,
)
from optax_momentum._methods.qhm import qhm, qhm_coefficients
from optax_momentum._methods.sgd import sgd
from optax_momentum._methods.srsgd import delayed, sawtooth, srsgd
from optax_momentum._methods.tuning import (
    beta_from_half_life,
    beta_from_time_constant,
    effective_learning_rate,
)
from optax_momentum._sharding.plan import Shard, ShardingPlan, sharding_plan
from optax_momentum._sharding.sharded import reduce_scatter, sharded
from optax_momentum._surgery.change_storage import change_storage
from optax_momentum._surgery.surgery import (
    change_convention,
    rescale_momentum,
    reset_momentum,
)
from optax_momentum._wrappers.accumulate import accumulate
from optax_momentum._wrappers.averaging import (
    AverageState,
    averaged_params,
    parameter_ema,
    polyak_average,
)
from optax_momentum._wrappers.guard import GuardState, guard
from optax_momentum._wrappers.lawa import LatestState, lawa
from optax_momentum._wrappers.outer_loop import OuterState, outer_loop
from optax_momentum._wrappers.pack import Packed, pack, unpack
from optax_momentum._wrappers.restart import RestartState, adaptive_restart

__all__ = [
    "AverageState",
    "Coefficients",
    "GuardState",
    "LatestState",
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
    "diagnostics",
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
    "testing",
    "two_point_nesterov",
    "unpack",
]

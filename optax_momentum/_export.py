"""Registers the states for `jax.export`: exported steps may take and return them.

The serialized names are data: an artifact that was written with one can only be read
under the same name. `Packed` is left out, because its layout holds a tree's structure:
export a step on `unpack(state)`.
"""

import jax.export

from optax_momentum._methods.momentum import MomentumState
from optax_momentum._storage.stored import Blocks, Parts
from optax_momentum._wrappers.averaging import AverageState
from optax_momentum._wrappers.guard import GuardState
from optax_momentum._wrappers.lawa import LatestState
from optax_momentum._wrappers.outer_loop import OuterState
from optax_momentum._wrappers.restart import RestartState
from optax_momentum.diagnostics import TelemetryState

for state in (
    AverageState,
    Blocks,
    GuardState,
    LatestState,
    MomentumState,
    OuterState,
    Parts,
    RestartState,
    TelemetryState,
):
    jax.export.register_namedtuple_serialization(
        state, serialized_name=f"optax_momentum.{state.__name__}"
    )

"""What an average of the parameters is after every step of a short run."""

from typing import Any

import jax
from support.trajectory import NOISE, START, trajectory

from optax_momentum import averaged_params

UPDATES = NOISE[:17]


def averages(averaging: Any, params: Any = START, updates: Any = UPDATES) -> Any:
    """The averaged parameters after every step."""
    _, states = trajectory(averaging, params, updates)
    return jax.jit(jax.vmap(averaged_params))(states)

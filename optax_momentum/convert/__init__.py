"""Between conventions and libraries: hyper-parameters, states, arrays. Imports neither.

To continue a PyTorch run: its weights come through `from_arrays`, its optimizer through
`from_torch`, with one `layout` for both. To say Keras's settings in EMA's words:
`hyperparameters`; to go on with EMA in mid-run: `momentum_state`. TensorFlow 1's slots
are a `HeavyBall` buffer: `from_arrays` reads them.
"""

from optax_momentum.convert.arrays import from_arrays, to_arrays
from optax_momentum.convert.keras import from_keras, to_keras
from optax_momentum.convert.layouts import (
    CONVOLUTION,
    LINEAR,
    SAME,
    Layout,
    flattened,
)
from optax_momentum.convert.pytorch import from_torch, to_torch
from optax_momentum.convert.settings import (
    Conversion,
    Ema,
    HeavyBall,
    Keras,
    Qhm,
    hyperparameters,
    momentum_state,
)

__all__ = [
    "CONVOLUTION",
    "LINEAR",
    "SAME",
    "Conversion",
    "Ema",
    "HeavyBall",
    "Keras",
    "Layout",
    "Qhm",
    "flattened",
    "from_arrays",
    "from_keras",
    "from_torch",
    "hyperparameters",
    "momentum_state",
    "to_arrays",
    "to_keras",
    "to_torch",
]

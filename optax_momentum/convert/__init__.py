"""Conversion between conventions and libraries; imports neither PyTorch nor Keras.

    from_torch, to_torch      the state of `torch.optim.SGD`
    from_keras, to_keras      the variables of `keras.optimizers.SGD`
    from_optax, to_optax      the state of `optax.sgd`, `trace` or `ema`
    from_arrays, to_arrays    weights, or any buffer, by name
    hyperparameters           the settings of one convention as those of another
    momentum_state            a state in mid-run, for another convention
    phrasebook                the update of 38 systems, with the call here for each
    pytorch_…, keras_…        learning-rate schedules that Optax lacks

To continue a PyTorch run, read its weights with `from_arrays` and its optimizer with
`from_torch`, with the same `layout` for both. The slots of TensorFlow 1 are a
`HeavyBall` buffer: read them with `from_arrays`.
"""

from optax_momentum.convert._arrays import from_arrays, to_arrays
from optax_momentum.convert._keras import from_keras, to_keras
from optax_momentum.convert._layouts import (
    CONVOLUTION,
    LINEAR,
    SAME,
    Layout,
    flattened,
)
from optax_momentum.convert._optax import from_optax, to_optax
from optax_momentum.convert._phrasebook import Phrase, phrasebook
from optax_momentum.convert._pytorch import from_torch, to_torch
from optax_momentum.convert._schedules import (
    CycledMomentum,
    keras_cosine_decay,
    keras_inverse_time_decay,
    keras_piecewise_constant,
    keras_polynomial_decay,
    pytorch_cosine_annealing,
    pytorch_cyclic,
    pytorch_one_cycle,
    pytorch_warm_restarts,
    stepped_per_epoch,
)
from optax_momentum.convert._settings import (
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
    "CycledMomentum",
    "Ema",
    "HeavyBall",
    "Keras",
    "Layout",
    "Phrase",
    "Qhm",
    "flattened",
    "from_arrays",
    "from_keras",
    "from_optax",
    "from_torch",
    "hyperparameters",
    "keras_cosine_decay",
    "keras_inverse_time_decay",
    "keras_piecewise_constant",
    "keras_polynomial_decay",
    "momentum_state",
    "phrasebook",
    "pytorch_cosine_annealing",
    "pytorch_cyclic",
    "pytorch_one_cycle",
    "pytorch_warm_restarts",
    "stepped_per_epoch",
    "to_arrays",
    "to_keras",
    "to_optax",
    "to_torch",
]

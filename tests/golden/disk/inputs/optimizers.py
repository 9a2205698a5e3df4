"""Optimizers, as --arms takes them."""

import optax

from optax_momentum import ema, keras, storage


def arms(learning_rate):
    return {
        "momentum": keras(learning_rate, 0.9),
        "momentum in 8 bits": optax.chain(
            ema(0.9, storage=storage.int8()),
            optax.scale_by_learning_rate(10 * learning_rate),
        ),
        "adamw": optax.adamw(learning_rate / 10),
    }

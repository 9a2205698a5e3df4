"""Keras in `bench train`: trains one epoch for every line read and prints its seconds.

Run by `python -m experiments bench train --peers PYTHON`, in PYTHON's environment.
"""

import os
import sys
import time

os.environ["KERAS_BACKEND"] = "tensorflow"  # the fastest backend on a CPU
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow
from keras import layers

BATCH_SIZE = 64


def compiled_model() -> keras.Model:
    """The tutorial's network, with SGD(0.01, momentum=0.9)."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate=0.01, momentum=0.9)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def read(path: str) -> list:
    """(images, labels) of train, validation and test; images float32 in [0, 1]."""
    arrays = np.load(path)
    return [
        (arrays[f"{name}_images"].astype("float32") / 255, arrays[f"{name}_labels"])
        for name in ("train", "validation", "test")
    ]


def versions() -> str:
    return f"Keras {keras.__version__} on TensorFlow {tensorflow.__version__}"


def main(images: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((images, 32, 32, 3), dtype=np.float32)
    y = rng.integers(0, 10, images)
    model = compiled_model()
    print(versions(), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        model.fit(x, y, batch_size=BATCH_SIZE, epochs=1, verbose=0)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(images=int(sys.argv[1]))

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


def cnn() -> keras.Model:
    """The tutorial's network."""
    return keras.Sequential(
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


def normalized(x, layer):
    """A layer without bias, and BatchNorm."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layer(x))


def convolution(x, outputs: int, size=3, stride=1):
    options = {"padding": "same", "use_bias": False}
    return normalized(x, layers.Conv2D(outputs, size, stride, **options))


def classified(images, x) -> keras.Model:
    pooled = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, activation="softmax")(pooled))


def resnet20() -> keras.Model:
    images = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(images, 16))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(convolution(x, width, 3, stride))
            y = convolution(y, width)
            if stride > 1:
                x = convolution(x, width, 1, stride)
            x = layers.ReLU()(layers.Add()([x, y]))
    return classified(images, x)


def separable() -> keras.Model:
    images = keras.Input((32, 32, 3))
    x = layers.ReLU()(convolution(images, 32))
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        options = {"padding": "same", "use_bias": False}
        x = normalized(x, layers.DepthwiseConv2D(3, stride, **options))
        x = layers.ReLU()(convolution(layers.ReLU()(x), outputs, 1))
    return classified(images, x)


def compiled_model(network: str = "cnn") -> keras.Model:
    """A network, with SGD(0.01, momentum=0.9)."""
    networks = {"cnn": cnn, "resnet20": resnet20, "separable": separable}
    model = networks[network]()
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


def main(images: int, network: str = "cnn") -> None:
    rng = np.random.default_rng(0)
    x = rng.random((images, 32, 32, 3), dtype=np.float32)
    y = rng.integers(0, 10, images)
    model = compiled_model(network)
    print(versions(), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        model.fit(x, y, batch_size=BATCH_SIZE, epochs=1, verbose=0)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])

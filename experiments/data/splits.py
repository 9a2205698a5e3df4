"""The splits of a comparison, on the devices."""

from typing import Any

import jax
import numpy as np

from experiments.data import image_dataset
from experiments.data.examples import Examples, Splits
from experiments.distributed.devices import on_all_devices


def split(dataset: image_dataset.Dataset) -> Splits:
    """The three splits on the device, as bytes: they are scaled batch by batch."""
    images, labels, validation_images, validation_labels = image_dataset.hold_out(
        dataset
    )

    def examples(images: np.ndarray, labels: np.ndarray) -> Examples:
        return Examples(*on_all_devices((images, labels)))

    held: Any = images, labels
    train = Examples(*held)  # on the host: each process hands over its own part
    if jax.process_count() == 1:
        train = examples(images, labels)
    return Splits(
        train=train,
        validation=examples(validation_images, validation_labels),
        test=examples(dataset.test_images, dataset.test_labels),
        classes=dataset.classes,
    )

"""The splits of a comparison, on the devices."""

import numpy as np

from experiments import data
from experiments.devices import on_all_devices
from experiments.examples import Examples, Splits


def split(dataset: data.Dataset) -> Splits:
    """The three splits on the device, as bytes: they are scaled batch by batch."""
    *train, validation_images, validation_labels = data.hold_out(dataset)

    def examples(images: np.ndarray, labels: np.ndarray) -> Examples:
        return Examples(*on_all_devices((images, labels)))

    return Splits(
        train=examples(*train),
        validation=examples(validation_images, validation_labels),
        test=examples(dataset.test_images, dataset.test_labels),
        classes=dataset.classes,
    )

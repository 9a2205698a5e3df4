"""A file of few small images, whose brightness tells the class, for whole studies."""

from pathlib import Path

import numpy as np


def write(path: Path, images: int = 90, classes: int = 3) -> Path:
    """Writes an .npz file of images of 6 x 5; a fifth of them become the test split."""
    random = np.random.default_rng(1)
    labels = random.permutation(images) % classes
    brightness = labels[:, None, None] * (240 // classes)
    noise = random.integers(0, 60, (images, 6, 5))
    np.savez(path, images=(brightness + noise) % 256, labels=labels)
    return path

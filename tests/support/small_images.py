"""Small images for the tests: as arrays, as PNG and in .npz files."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def random_images(seed: int, n: int, *shape: int) -> np.ndarray:
    """uint8 [n, *shape]."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    """A gray or an RGB image as the content of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "png")
    return file.getvalue()


def write(
    path: Path,
    n: int = 90,
    classes: int = 3,
    size: tuple[int, int] = (6, 5),
    seed: int = 1,
) -> Path:
    """Writes an .npz file of noisy images whose brightness shows their class.

    A fifth of them become the test split.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(n) % classes
    brightness = labels[:, None, None] * (240 // classes)
    images = (brightness + rng.integers(0, 60, (n, *size))) % 256
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return path

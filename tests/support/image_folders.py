"""Directories of small images for the tests, each image written by Pillow."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support.small_images import random_images

PIXELS = random_images(31, 12, 6, 5, 3)


def write(path: Path, pixels: np.ndarray = PIXELS[0], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_pets(root: Path, per_class: int = 3) -> Path:
    """Writes cats and dogs, in the reverse order of the file names."""
    for index in reversed(range(per_class)):
        write(root / "dogs" / f"{index}.png", PIXELS[per_class + index])
        write(root / "cats" / f"{index}.png", PIXELS[index])
    return root

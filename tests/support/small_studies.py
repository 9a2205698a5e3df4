"""Whole studies on few images, their brightness telling the class; what they print."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.studies.lifecycle import StudyOptions


def sixty_images(path: Path) -> str:
    """Writes an .npz file of images of 24×24 in three classes; 38 are trained on."""
    random = np.random.default_rng(4)
    labels = random.permutation(60) % 3
    noise = random.integers(0, 60, (60, 24, 24))
    images = (labels[:, None, None] * 80 + noise) % 256
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


def printed(study: Callable, options: StudyOptions, output: Path) -> str:
    """What a study prints that writes into `output`."""
    file = io.StringIO()
    study(replace(options, output=output), Console(file=file, width=10_000))
    return file.getvalue()

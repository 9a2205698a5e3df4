"""Whole studies on few images, their brightness telling the class; what they print."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from support import small_images

from experiments.studies.lifecycle import StudyOptions


def sixty_images(path: Path) -> str:
    """Writes an .npz file of images of 24×24 in three classes; 38 are trained on."""
    return str(small_images.write(path, 60, size=(24, 24), seed=4))


def printed(study: Callable, options: StudyOptions, output: Path) -> str:
    """What a study prints that writes into `output`."""
    file = io.StringIO()
    study(replace(options, output=output), Console(file=file, width=10_000))
    return file.getvalue()

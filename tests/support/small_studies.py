"""Whole studies on few images: their data, output, records and interruptions."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.studies import context
from experiments.studies.lifecycle import StudyOptions


def sixty_images(path: Path) -> str:
    """Writes 24×24 images whose brightness tells the class; 38 are trained on."""
    random = np.random.default_rng(4)
    labels = random.permutation(60) % 3
    noise = random.integers(0, 60, (60, 24, 24))
    images = (labels[:, None, None] * 80 + noise) % 256
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


def printed(study: Callable, options: StudyOptions, output: Path) -> str:
    """Runs a study that writes into `output`, and returns what it prints."""
    file = io.StringIO()
    study(replace(options, output=output), Console(file=file, width=10_000))
    return file.getvalue()


def records(output: Path) -> list[dict]:
    """The records of a study's runs as JSON values, in the order of the file."""
    lines = (output / "runs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def interrupt_fits(patch: pytest.MonkeyPatch, *numbers: int) -> list:
    """Interrupts the fits with these numbers, counted from 1, before they begin.

    Returns:
      A list that grows with every fit.
    """
    fit, fits = context.fit_grid, []

    def interrupted(*arguments, **settings):
        fits.append(arguments)
        if len(fits) in numbers:
            raise KeyboardInterrupt
        return fit(*arguments, **settings)

    patch.setattr(context, "fit_grid", interrupted)
    return fits

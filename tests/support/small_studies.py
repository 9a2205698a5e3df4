"""Whole studies on few images: their data, output, records and interruptions."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support import small_images

from experiments.studies import context
from experiments.studies.lifecycle import StudyOptions


def sixty_images(path: Path) -> str:
    """Writes an .npz file of images of 24×24 in three classes; 38 are trained on."""
    return str(small_images.write(path, 60, size=(24, 24), seed=4))


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
    fit, fits = context.train_runs, []

    def interrupted(*arguments, **settings):
        fits.append(arguments)
        if len(fits) in numbers:
            raise KeyboardInterrupt
        return fit(*arguments, **settings)

    patch.setattr(context, "train_runs", interrupted)
    return fits

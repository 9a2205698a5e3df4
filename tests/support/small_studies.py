"""Whole studies on few images: their output, records and interruptions."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console
from support import blank_figures, small_images

from experiments.records import runs
from experiments.records.runs import Run
from experiments.studies import context
from experiments.studies.options import StudyOptions


def printed(study: Callable, options: StudyOptions, output: Path) -> str:
    """Runs a study that writes into `output`, and returns what it prints."""
    file = io.StringIO()
    study(replace(options, output=output), Console(file=file, width=10_000))
    return file.getvalue()


def records(output: Path) -> list[dict]:
    """The records of a study's runs as JSON values, in the order of the file."""
    lines = (output / "runs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def count_calls(
    patch: pytest.MonkeyPatch,
    name: str,
    *failing: int,
    error: type[BaseException] = KeyboardInterrupt,
) -> list:
    """Returns a list that grows with every call of a function of `context`.

    The calls with the numbers `failing`, counted from 1, fail before they begin.
    """
    function, calls = getattr(context, name), []

    def counted(*arguments, **options):
        calls.append(arguments)
        if len(calls) in failing:
            raise error
        return function(*arguments, **options)

    patch.setattr(context, name, counted)
    return calls


class InterruptedStudy(NamedTuple):
    """A study that was interrupted, resumed, and repeated after it had finished."""

    output: Path
    before: bytes  # records at the interruption
    printed: str  # when it resumed
    programs: int  # compiled when it resumed
    after: bytes  # records when it had finished
    again: bytes  # records after the repetition
    runs: tuple[Run, ...]


def interrupted(
    study: Callable, options: StudyOptions, directory: Path, fit: int
) -> InterruptedStudy:
    """Interrupts a study of 90 images in its `fit`-th call of `train_runs`, from 1."""
    dataset = small_images.write(directory / "data.npz")
    options, output = replace(options, dataset=str(dataset)), directory / "study"
    with pytest.MonkeyPatch.context() as patch:
        count_calls(patch, "train_runs", fit)
        with pytest.raises(KeyboardInterrupt):
            printed(study, options, output)
        before = (output / "runs.jsonl").read_bytes()
        compiled = count_calls(patch, "compile_to_fit")
        resumed, programs = printed(study, options, output), len(compiled)
        after = (output / "runs.jsonl").read_bytes()
        blank_figures.install(patch.setattr)
        printed(study, options, output)
    again = (output / "runs.jsonl").read_bytes()
    ran = runs.read(output)
    return InterruptedStudy(output, before, resumed, programs, after, again, ran)

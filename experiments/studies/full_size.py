"""What a study is at full size: its command, its runs, and about how long they take."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from experiments.records.command_line import repeating
from experiments.records.runs import Run
from experiments.reporting.page import FullSize
from experiments.reporting.statistics import counted

# An epoch of the tutorial's CNN on CIFAR-10 on two CPU cores: docs/performance.md.
_CIFAR10_SECONDS = 5.2
# What the preset is to decide, whatever the user gave the smaller one.
_AMOUNTS = ("epochs", "seeds", "trials", "tuning_seeds", "extensions")


class Work(NamedTuple):
    """The least that a budget trains, before anything is extended."""

    runs: int
    epochs: int  # of all runs together


def options_at_full_size(options: Any) -> Any:
    """The options with the preset for full size, and without the amounts it decides.

    The user's own data, network and optimizers remain.
    """
    reset = {
        field.name: field.default
        for field in fields(options)
        if field.name in (*_AMOUNTS, "output", "tensorboard", "save_every")
    }
    return replace(options, **{**reset, "preset": "paper"})


def has_own_data(options: Any) -> bool:
    """Whether the options name data, so that a preset doesn't."""
    sources = ("dataset", "problem", "table", "text")
    return any(getattr(options, source, None) is not None for source in sources)


def full_size(study: str, options: Any, work: Work, ran: Sequence[Run]) -> FullSize:
    """The command at full size and its cost.

    On the user's own data an epoch costs what it cost in the runs so far; on those of
    the preset, what the tutorial's network needs on two CPU cores.
    """
    paper = options_at_full_size(options)
    unset = {
        field.name: None
        for field in fields(paper)
        if field.name not in ("preset", "together")
        and getattr(paper, field.name) == field.default
    }
    command = repeating(study, replace(paper, **unset))
    cost = f"at least {counted(work.runs, 'run')}"
    epochs = sum(run.config.epochs for run in ran)
    if has_own_data(options) and epochs:
        seconds = work.epochs * sum(run.seconds for run in ran) / epochs
        cost += f", {_about(seconds)} at the speed of the runs so far"
    elif not has_own_data(options) and options.model is None:
        cost += f", {_about(work.epochs * _CIFAR10_SECONDS)} on two CPU cores"
    return FullSize(cost, command)


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {counted(max(round(seconds), 1), 'second')}"
    if seconds < 90 * 60:
        return f"about {counted(round(seconds / 60), 'minute')}"
    return f"about {counted(round(seconds / 3600), 'hour')}"

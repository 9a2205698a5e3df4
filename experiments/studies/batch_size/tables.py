"""The tables of the study of batch sizes; every number in them is of a run's record."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from experiments.records.runs import Run
from experiments.reporting.page import Table
from experiments.reporting.statistics import ACCURACIES, DIFFERENCES, Interval
from experiments.studies.batch_size.rules import Cell, Series
from experiments.studies.settings import Setting, Trials, learning_rate
from experiments.studies.validation import diverged, mean_score

_SETTING = ("Batch size", "Arm", "Beta", "Effective rate", "Learning rate")
_ACCURACY = ("Accuracy", "Lower", "Upper")


class Found(NamedTuple):
    """All that the study found."""

    ways: Mapping[str, Series]  # "sgd", "momentum" and "held"
    tuned: Mapping[Cell, Trials]
    choice: Mapping[Cell, Setting]
    compared: Mapping[Cell, Sequence[Run]]  # the chosen settings, one run a seed
    left_out: Sequence[int]  # batch sizes
    classes: int


def accuracies(found: Found, means: Mapping[Cell, Interval]) -> Table:
    """The test accuracy of each arm, and of each of its runs."""
    seeds = [f"Seed {run.config.seed}" for run in next(iter(found.compared.values()))]
    rows = [
        (
            *_setting(found, cell, found.choice[cell]),
            *means[cell].shown(ACCURACIES),
            _diverged(found, own),
            *(run.test_accuracy for run in own),
        )
        for cell, own in found.compared.items()
    ]
    return Table(
        "Test accuracy of each arm at the best of its rates; a run that diverged "
        "counts as 0 in the mean.",
        (*_SETTING, *_ACCURACY, "Diverged", *seeds),
        rows,
        dict.fromkeys((*_ACCURACY, *seeds), "{:.2%}"),
    )


def differences(gains: Mapping[Cell, Interval]) -> Table:
    """What both momenta gain over SGD."""
    what = {"momentum": "Equal beta", "held": "Equal half-life"}
    columns = ("Difference", "Lower", "Upper")
    return Table(
        "Paired differences from SGD in test accuracy, with 95% intervals.",
        ("Batch size", "Momentum", *columns),
        [
            (cell.batch_size, what[cell.series], *gain.shown(DIFFERENCES))
            for cell, gain in gains.items()
        ],
        dict.fromkeys(columns, "{:+.2%}"),
    )


def chosen(found: Found) -> Table:
    """The best setting of each arm, and how large its rates may be."""
    return Table(
        "The chosen settings. Largest stable: the largest effective rate that was "
        "tried at which no run diverged.",
        (*_SETTING, "Largest stable"),
        [
            (*_setting(found, cell, setting), _largest_stable(found, cell))
            for cell, setting in found.choice.items()
        ],
    )


def trials(found: Found) -> Table:
    """Every setting that was tried."""
    rows = [
        (
            *_setting(found, cell, setting),
            mean_score(own, found.classes).accuracy,
            _diverged(found, own),
            len(own),
        )
        for cell, tried in found.tuned.items()
        for setting, own in tried.items()
    ]
    return Table(
        "Every setting tried: mean validation accuracy, in which a run that diverged, "
        "being no better than guessing on its training images, counts as 0.",
        (*_SETTING, "Accuracy", "Diverged", "Runs"),
        rows,
        {"Accuracy": "{:.2%}"},
    )


def speeds(found: Found) -> dict[int, float]:
    """Images a second by batch size, median over the runs of the comparison."""
    return {
        size: median(run.images_per_second for run in own)
        for size, own in _by_batch_size(found).items()
    }


def costs(found: Found) -> Table:
    """What training costs."""
    rows = [
        (size, speeds(found)[size], median(run.seconds for run in own), len(own))
        for size, own in _by_batch_size(found).items()
    ]
    return Table(
        "Median images a second of a run, and median seconds that a run took.",
        ("Batch size", "Images/s", "Seconds", "Runs"),
        rows,
        {"Images/s": "{:,.0f}", "Seconds": "{:.2f}"},
    )


def _by_batch_size(found: Found) -> dict[int, list[Run]]:
    """The runs of the comparison."""
    runs: dict[int, list[Run]] = {}
    for cell, own in found.compared.items():
        runs.setdefault(cell.batch_size, []).extend(own)
    return runs


def _setting(
    found: Found, cell: Cell, setting: Setting
) -> tuple[int, str, float, float, float]:
    """Cells under `_SETTING`."""
    title = found.ways[cell.series].title
    beta, rate = setting
    return cell.batch_size, title, beta, rate, learning_rate(setting)


def _diverged(found: Found, own: Sequence[Run]) -> int:
    return sum(diverged(run, found.classes) for run in own)


def _largest_stable(found: Found, cell: Cell) -> float | None:
    tried = found.tuned[cell].items()
    stable = [setting.rate for setting, own in tried if not _diverged(found, own)]
    return max(stable, default=None)

"""The tables of a cross-validation; every number in them is of a run's record."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.records.runs import Run
from experiments.reporting.page import Table
from experiments.reporting.statistics import ACCURACIES, Interval, mean_and_interval
from experiments.studies.crossval.choice import (
    Estimate,
    best_of_betas,
    least_within_one_error,
)
from experiments.studies.settings import Setting, Trials, learning_rate
from experiments.studies.validation import diverged, score

_HEADER = ("Beta", "Effective rate", "Learning rate", "Accuracy", "Lower", "Upper")
_PERCENT: dict[str, str] = dict.fromkeys(_HEADER[3:], "{:.2%}")


class Found(NamedTuple):
    """All that a cross-validation found; by arm, "sgd" and "momentum"."""

    trials: Mapping[str, Trials]  # the runs of each setting, one a fold
    choice: Mapping[str, Setting]
    estimated: Mapping[str, Sequence[Estimate]]  # one an outer fold, where asked for
    tested: Mapping[str, Sequence[Run]]  # the chosen settings, one run a seed
    classes: int


def every_trial(found: Found) -> Trials:
    """The runs of every setting, SGD's first."""
    return {**found.trials["sgd"], **found.trials["momentum"]}


def means(found: Found) -> dict[Setting, Interval]:
    """The validation accuracy of every setting: its mean over the folds."""
    return {
        setting: mean_and_interval([score(run, found.classes).accuracy for run in own])
        for setting, own in every_trial(found).items()
    }


def accuracies(found: Found, settings: Sequence[Setting]) -> Table:
    """The means of some settings."""
    return Table(
        "Mean validation accuracy over the folds, with its 95% interval.",
        _HEADER,
        [_row(found, setting) for setting in settings],
        _PERCENT,
    )


def betas(found: Found) -> Table:
    """Each beta at its best rate, with what the two rules choose."""
    least = least_within_one_error(found.trials["momentum"], found.classes)
    remarks = {
        found.choice["sgd"]: ["SGD"],
        least: ["least beta within one standard error"],
    }
    remarks.setdefault(found.choice["momentum"], []).insert(0, "chosen")
    best = best_of_betas(every_trial(found), found.classes)
    return Table(
        "Every beta at the best of its effective rates.",
        (*_HEADER, "Remark"),
        [
            (*_row(found, setting), ", ".join(remarks.get(setting, [])) or None)
            for setting in best
        ],
        _PERCENT,
    )


def folds(found: Found) -> Table:
    """Every setting on every fold."""
    rows = [
        (
            *_row(found, setting),
            *(run.epochs[-1].validation_accuracy for run in own),
            sum(diverged(run, found.classes) for run in own),
        )
        for setting, own in every_trial(found).items()
    ]
    names = [f"Fold {place}" for place in range(1, len(rows[0]) - len(_HEADER))]
    return Table(
        "Every setting on every fold; a run that diverged, being no better than "
        "guessing on its training images, counts as 0 in the mean.",
        (*_HEADER, *names, "Diverged"),
        rows,
        {**_PERCENT, **dict.fromkeys(names, "{:.2%}")},
    )


def seeds(tested: Mapping[str, Sequence[float]], runs: Sequence[Run]) -> Table:
    """Both arms' test accuracies, with the seeds of these runs."""
    pairs = zip(runs, tested["sgd"], tested["momentum"], strict=True)
    return Table(
        "Test accuracy by seed.",
        ("Seed", "SGD", "Momentum", "Difference"),
        [(run.config.seed, sgd, own, own - sgd) for run, sgd, own in pairs],
        {"SGD": "{:.2%}", "Momentum": "{:.2%}", "Difference": "{:+.2%}"},
    )


def outer_folds(found: Found) -> Table:
    """Each outer fold with the settings that its inner folds chose."""
    pairs = zip(found.estimated["sgd"], found.estimated["momentum"], strict=True)
    rows = [
        (
            sgd.fold,
            sgd.chosen.rate,
            sgd.accuracy,
            *momentum.chosen,
            momentum.accuracy,
            momentum.accuracy - sgd.accuracy,
        )
        for sgd, momentum in pairs
    ]
    return Table(
        "Each outer fold with the settings that its inner folds chose: effective "
        "rates, and accuracies on the outer fold's own images.",
        ("Fold", "SGD's rate", "SGD", "Beta", "Rate", "Momentum", "Difference"),
        rows,
        {"SGD": "{:.2%}", "Momentum": "{:.2%}", "Difference": "{:+.2%}"},
    )


def _row(found: Found, setting: Setting) -> tuple[float | None, ...]:
    """Cells under `_HEADER`."""
    own = every_trial(found)[setting]
    accuracy = mean_and_interval([score(run, found.classes).accuracy for run in own])
    return (*setting, learning_rate(setting), *accuracy.shown(ACCURACIES))

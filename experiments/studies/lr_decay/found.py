"""What `lr-decay` found: the tuned cells, and the comparisons that answer questions."""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies import paired
from experiments.studies.lr_decay.cells import TUNED, Cell, Results, best

CONSTANT = "constant"  # the schedule that changes nothing
TUNED_APART = "inside − outside, each tuned"
SAME_RATE = "inside − outside, at outside's rate"
CORRECTED = "corrected − outside: the control"
INSIDE_GAINS = "inside − SGD, each tuned"
OUTSIDE_GAINS = "outside − SGD, each tuned"


class Found(NamedTuple):
    """All that the page tells of."""

    plan: Mapping[str, object]
    tuning: Results
    compared: Results
    classes: int


class Part(NamedTuple):
    """A comparison under one schedule: accuracies first − second, seed by seed."""

    schedule: str
    first: Cell
    second: Cell
    difference: Interval


def chosen(found: Found) -> dict[tuple[str, str], Cell]:
    """The tuned cell of each schedule and arm."""
    cells = best(found.tuning, found.classes)
    return {(cell.schedule, cell.arm): cell for cell in cells}


def comparisons(found: Found) -> dict[str, list[Part]]:
    """By question, a part a schedule."""
    tuned, questions = chosen(found), {}
    for schedule in dict.fromkeys(schedule for schedule, _ in tuned):
        sgd, inside, outside = (tuned[schedule, arm] for arm in TUNED)
        pairs = {
            TUNED_APART: (inside, outside),
            SAME_RATE: (outside._replace(arm="inside"), outside),
            CORRECTED: (outside._replace(arm="corrected"), outside),
            INSIDE_GAINS: (inside, sgd),
            OUTSIDE_GAINS: (outside, sgd),
        }
        for question, (first, second) in pairs.items():
            own = difference(found, first, second)
            part = Part(schedule, first, second, own)
            questions.setdefault(question, []).append(part)
    return questions


def accuracy(found: Found, cell: Cell) -> Interval:
    """Of the test images: the mean over seeds, and its 95% interval."""
    return mean_and_interval(paired.accuracies(found.compared[cell], found.classes))


def difference(found: Found, first: Cell, second: Cell) -> Interval:
    """Of the test accuracies, first − second, seed by seed."""
    compared = found.compared
    return paired.difference(compared[first], compared[second], found.classes)

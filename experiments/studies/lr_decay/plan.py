"""What `lr-decay` trains, which of it did best, and what is compared."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import optax

from experiments.optimizers.arms import Arm
from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, mean_and_interval
from experiments.studies import paired, validation
from experiments.studies.validation import Measure
from optax_momentum import heavy_ball, keras


def _outside(learning_rate, beta) -> optax.GradientTransformation:
    return optax.chain(heavy_ball(beta), optax.scale_by_learning_rate(learning_rate))


def _corrected(learning_rate, beta) -> optax.GradientTransformation:
    """Momentum correction takes a schedule only; a constant rate is made into one."""

    def constant(_: Any) -> Any:
        return learning_rate

    schedule: Any = learning_rate if callable(learning_rate) else constant
    return keras(schedule, beta, momentum_correction=True)


# SGD is `inside` at β = 0, and the same program trains both.
ARMS = {
    "sgd": Arm("SGD", "θ ← θ − αₜ g", keras),
    "inside": Arm("Rate inside", "v ← β v − αₜ g,  θ ← θ + v", keras),
    "outside": Arm("Rate outside", "m ← β m + g,  θ ← θ − αₜ m", _outside),
    "corrected": Arm(
        "Rate inside, corrected", "v ← (αₜ / αₜ₋₁) β v − αₜ g,  θ ← θ + v", _corrected
    ),
}
TUNED = ("sgd", "inside", "outside")  # `corrected` is `outside` in another form

CONSTANT = "constant"  # the schedule that leaves the rate unchanged
TUNED_APART = "inside − outside, each tuned"
SAME_RATE = "inside − outside, at outside's rate"
CORRECTED = "corrected − outside: the control"
INSIDE_GAINS = "inside − SGD, each tuned"
OUTSIDE_GAINS = "outside − SGD, each tuned"


class LrDecayCell(NamedTuple):
    """Everything in which runs of the same seed differ."""

    schedule: str
    arm: str
    rate: float  # the effective learning rate at its largest: α/(1 − β), α for SGD


CellRuns = Mapping[LrDecayCell, Sequence[Run]]  # the same seeds for all, in order


class LrDecayResults(NamedTuple):
    """Everything that the page is written from."""

    plan: Mapping[str, object]
    tuning: CellRuns
    compared: CellRuns
    measure: Measure
    smoke: bool = False  # whether it trained too little for any conclusion


class Comparison(NamedTuple):
    """Results of the first cell on the test split minus those of the second."""

    schedule: str
    first: LrDecayCell
    second: LrDecayCell
    difference: Interval  # paired by seed


def tuning_cells(schedules: Iterable[str], rates: Sequence[float]) -> list[LrDecayCell]:
    """The trials: each schedule and tuned arm with each rate."""
    return [
        LrDecayCell(schedule, arm, rate)
        for schedule in schedules
        for arm in TUNED
        for rate in rates
    ]


def best(tuning: CellRuns, measure: Measure) -> list[LrDecayCell]:
    """The cell with the best rate for each schedule and arm; of equals, the lower."""
    groups: dict[tuple[str, str], list[LrDecayCell]] = {}
    for cell in sorted(tuning, key=lambda cell: cell.rate):
        groups.setdefault((cell.schedule, cell.arm), []).append(cell)
    return [
        validation.best({cell: tuning[cell] for cell in cells}, measure)
        for cells in groups.values()
    ]


def compared_cells(tuned: Sequence[LrDecayCell]) -> list[LrDecayCell]:
    """The tuned cells, and under each schedule two more at the rate of `outside`.

    The two are `corrected`, which must do as `outside` does, and `inside`, which shows
    the effect of a change of convention alone.
    """
    outside = [cell for cell in tuned if cell.arm == "outside"]
    more = [c._replace(arm=arm) for c in outside for arm in ("inside", "corrected")]
    return list(dict.fromkeys([*tuned, *more]))


def chosen(results: LrDecayResults) -> dict[tuple[str, str], LrDecayCell]:
    """The tuned cell of each schedule and arm."""
    cells = best(results.tuning, results.measure)
    return {(cell.schedule, cell.arm): cell for cell in cells}


def comparisons(results: LrDecayResults) -> dict[str, list[Comparison]]:
    """The answers to each question, one per schedule."""
    tuned, answers = chosen(results), {}
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
            gain = difference(results, first, second)
            comparison = Comparison(schedule, first, second, gain)
            answers.setdefault(question, []).append(comparison)
    return answers


def value(results: LrDecayResults, cell: LrDecayCell) -> Interval:
    """The mean of the metric on the test split over seeds, and its 95% interval."""
    return mean_and_interval(paired.tested(results.compared[cell], results.measure))


def difference(
    results: LrDecayResults, first: LrDecayCell, second: LrDecayCell
) -> Interval:
    """The first cell minus the second on the test split, paired by seed."""
    compared = results.compared
    return paired.difference(compared[first], compared[second], results.measure)

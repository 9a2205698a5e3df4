"""What `lr-decay` trains, and which of it did best."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import optax

from experiments.optimizers.arms import Arm
from experiments.records.runs import Run
from experiments.studies import validation
from optax_momentum import heavy_ball, keras


def _outside(learning_rate, beta) -> optax.GradientTransformation:
    return optax.chain(heavy_ball(beta), optax.scale_by_learning_rate(learning_rate))


def _corrected(learning_rate, beta) -> optax.GradientTransformation:
    """Of a schedule; a number, which never changes, is made one."""

    def constant(_: Any) -> Any:
        return learning_rate

    schedule: Any = learning_rate if callable(learning_rate) else constant
    return keras(schedule, beta, momentum_correction=True)


# SGD is `inside` at β = 0, and trained by the same program.
ARMS = {
    "sgd": Arm("SGD", "θ ← θ − αₜ g", keras),
    "inside": Arm("Rate inside", "v ← β v − αₜ g,  θ ← θ + v", keras),
    "outside": Arm("Rate outside", "m ← β m + g,  θ ← θ − αₜ m", _outside),
    "corrected": Arm(
        "Rate inside, corrected",
        "v ← (αₜ / αₜ₋₁) β v − αₜ g,  θ ← θ + v",
        _corrected,
    ),
}
TUNED = ("sgd", "inside", "outside")  # `corrected` is `outside` rewritten


class Cell(NamedTuple):
    """All that runs of equal seeds differ in."""

    schedule: str
    arm: str
    rate: float  # effective learning rate at its largest: α, or α/(1 − β)


Results = Mapping[Cell, Sequence[Run]]  # the same seeds of every cell, in their order


def every(schedules: Iterable[str], rates: Sequence[float]) -> list[Cell]:
    """The trials: each schedule and arm with each rate."""
    return [Cell(s, arm, rate) for s in schedules for arm in TUNED for rate in rates]


def best(tuning: Results, classes: int) -> list[Cell]:
    """The cell of the best rate of each schedule and arm; of equals, the lower rate."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(tuning, key=lambda cell: cell.rate):
        groups.setdefault((cell.schedule, cell.arm), []).append(cell)
    return [
        validation.best({cell: tuning[cell] for cell in cells}, classes)
        for cells in groups.values()
    ]


def extended(rates: Sequence[float], chosen: Sequence[Cell]) -> list[float]:
    """The rates and, where a chosen one is the first or last, one more beyond it.

    The new one is as far from its neighbour as that is from the next.
    """
    longer = sorted(rates)
    low, high = longer[0], longer[-1]
    first, last = longer[1] / low, high / longer[-2]
    if any(cell.rate == low for cell in chosen):
        longer.insert(0, low / first)
    if any(cell.rate == high for cell in chosen):
        longer.append(high * last)
    return longer


def to_report(chosen: Sequence[Cell]) -> list[Cell]:
    """The chosen cells, and under each schedule two more at the rate of `outside`.

    These are `corrected`, which must do as `outside` does, and `inside`: what happens
    to who changes the convention and nothing else.
    """
    outside = [cell for cell in chosen if cell.arm == "outside"]
    more = [c._replace(arm=arm) for c in outside for arm in ("inside", "corrected")]
    return list(dict.fromkeys([*chosen, *more]))

"""What `batch-size` tries and how it judges it: betas, settings and results."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from experiments.records.metric import Metric
from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, direction
from experiments.studies.settings import Setting, Trials
from experiments.studies.validation import Measure
from optax_momentum import beta_from_half_life


class BatchSizeBudget(NamedTuple):
    """Everything that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    tuning_seeds: int
    batch_sizes: tuple[int, ...]
    effective_rates: tuple[float, ...]
    extensions: int  # the most times that rates are added
    beta: float
    anchor: int  # the batch size at which equal half-life is equal beta


_POWERS = (16, 32, 64, 128, 256, 512, 1024, 2048)
BUDGETS = {
    "smoke": BatchSizeBudget("digits", 2, 3, 1, (64, 256), (0.1, 0.2, 0.4), 0, 0.9, 64),
    "default": BatchSizeBudget(
        "digits", 10, 10, 1, (16, 64, 256, 512), (0.1, 0.2, 0.4), 3, 0.9, 64
    ),
    "paper": BatchSizeBudget(
        "cifar10", 10, 10, 2, _POWERS, (0.05, 0.1, 0.2, 0.4, 0.8), 4, 0.9, 64
    ),
}


class Series(NamedTuple):
    """An optimizer whose beta is chosen for every batch size."""

    title: str
    beta: Callable[[int], float]  # of the batch size


class BatchSizeCell(NamedTuple):
    """A batch size and an optimizer, whose learning rate is tuned."""

    batch_size: int
    series: str  # a key of `series`


class BatchSizeResults(NamedTuple):
    """Everything that the page is written from."""

    series: Mapping[str, Series]  # "sgd", "momentum" and "held"
    tuned: Mapping[BatchSizeCell, Trials]
    choice: Mapping[BatchSizeCell, Setting]
    compared: Mapping[BatchSizeCell, Sequence[Run]]  # one run of the choice per seed
    left_out: Sequence[int]  # batch sizes
    measure: Measure
    smoke: bool = False  # whether it trained too little for any conclusion
    padded: bool = True  # whether an epoch's last step is as large as the others


def series(beta: float, anchor: int, noun: str = "image") -> dict[str, Series]:
    """SGD, momentum of equal beta, and momentum of equal half-life in examples.

    The two momenta, with beta in (0, 1), are the same at the batch size `anchor`.
    """
    half_life = anchor * math.log(0.5) / math.log(beta)  # in examples

    def same_half_life(batch_size: int) -> float:
        return round(float(beta_from_half_life(half_life, batch_size=batch_size)), 6)

    return {
        "sgd": Series("SGD", lambda _: 0.0),
        "momentum": Series(f"Momentum, beta {beta:g}", lambda _: beta),
        "held": Series(f"Momentum, half-life {half_life:.0f} {noun}s", same_half_life),
    }


def first_gain(gains: Mapping[int, Interval], metric: Metric) -> int | None:
    """The smallest batch size from which on every gain is significantly better than 0.

    None if the interval of the largest contains 0. Gains are those over SGD.
    """
    start = None
    for batch_size in sorted(gains, reverse=True):
        if direction(gains[batch_size], metric) <= 0:
            break
        start = batch_size
    return start

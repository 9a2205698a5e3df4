"""What `batch-size` tries and how it judges it: betas, settings and results."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, sign
from experiments.studies.settings import Setting, Trials
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
    classes: int
    smoke: bool = False  # whether it trained too little for any conclusion


def series(beta: float, anchor: int) -> dict[str, Series]:
    """SGD, momentum of equal beta, and momentum of equal half-life in images.

    The two momenta, with beta in (0, 1), are the same at the batch size `anchor`.
    """
    half_life = anchor * math.log(0.5) / math.log(beta)  # in images

    def same_half_life(batch_size: int) -> float:
        return round(float(beta_from_half_life(half_life, batch_size=batch_size)), 6)

    return {
        "sgd": Series("SGD", lambda _: 0.0),
        "momentum": Series(f"Momentum, beta {beta:g}", lambda _: beta),
        "held": Series(f"Momentum, half-life {half_life:.0f} images", same_half_life),
    }


def first_gain(gains: Mapping[int, Interval]) -> int | None:
    """The smallest batch size from which on every gain's interval lies above 0.

    None if the interval of the largest contains 0. Gains are those over SGD.
    """
    start = None
    for batch_size in sorted(gains, reverse=True):
        if sign(gains[batch_size]) <= 0:
            break
        start = batch_size
    return start

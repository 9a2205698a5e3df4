"""The rules of the study of batch sizes: betas, rates to try, and where it begins."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from experiments.reporting.statistics import Interval, sign
from optax_momentum import beta_from_half_life


class Series(NamedTuple):
    """A way to choose beta for every batch size."""

    title: str
    beta: Callable[[int], float]


class Cell(NamedTuple):
    """What is tuned by itself."""

    batch_size: int
    series: str  # a key of `series`


def series(beta: float, anchor: int) -> dict[str, Series]:
    """SGD, momentum of one beta, and momentum that spans equally many images.

    Args:
      beta: of momentum, in (0, 1).
      anchor: the batch size at which the last two are the same.
    """
    half_life = anchor * math.log(0.5) / math.log(beta)  # in images

    def held(batch_size: int) -> float:
        return round(float(beta_from_half_life(half_life, batch_size=batch_size)), 6)

    return {
        "sgd": Series("SGD", lambda _: 0.0),
        "momentum": Series(f"Momentum, beta {beta:g}", lambda _: beta),
        "held": Series(f"Momentum, half-life {half_life:.0f} images", held),
    }


def extended(rates: Sequence[float], best: Iterable[float]) -> tuple[float, ...]:
    """The rates, with one more beyond the first or the last if a best one is there.

    Args:
      rates: at least two, rising.
      best: of them, that of each arm.
    """
    found, wider = set(best), tuple(rates)
    if rates[0] in found:
        wider = (_four_digits(rates[0] ** 2 / rates[1]), *wider)
    if rates[-1] in found:
        wider = (*wider, _four_digits(rates[-1] ** 2 / rates[-2]))
    return wider


def begins(gains: Mapping[int, Interval]) -> int | None:
    """The batch size from which on every gain's interval lies above 0.

    Args:
      gains: by batch size.

    Returns:
      The smallest such batch size; None where the largest one's interval doesn't.
    """
    start = None
    for batch_size in sorted(gains, reverse=True):
        if sign(gains[batch_size]) <= 0:
            break
        start = batch_size
    return start


def _four_digits(value: float) -> float:
    return float(f"{value:.4g}")

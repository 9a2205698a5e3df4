"""Which points of a space are tried: quasi-random ones or a grid, evenly dense."""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

from scipy.stats import qmc

from experiments.records.config import UsageError
from experiments.studies.sweep.space import Space

SCRAMBLE_SEED = 20_260_101  # of the quasi-random sequence; part of every plan


class Points(NamedTuple):
    """As many for every method: one that tunes no β spends all of them on its rate."""

    plane: list[tuple[float, float]]  # effective rates and 1 − β
    line: list[float]  # effective rates


# (trials of the declared space, that space, where the points are to lie, how many have
# been tried before) ↦ the points, as dense as in the declared space.
Sampler = Callable[[int, Space, Space, int], Points]


def sobol(trials: int, declared: Space, box: Space, before: int) -> Points:
    """The next points of a scrambled Sobol' sequence; the line has the plane's rates.

    With equal effective rates, a method's trial and SGD's differ by momentum alone.

    References:
      Owen 1998, Scrambling Sobol' and Niederreiter-Xing points, J. Complexity 14(4).
    """
    parts = [
        axis.length / whole.length for axis, whole in zip(box, declared, strict=True)
    ]
    count = math.ceil(round(trials * math.prod(parts), 2))
    plane = [
        (box.effective_rate.at(rate), box.one_minus_beta.at(other))
        for rate, other in _sequence(before, count)
    ]
    return Points(plane, [rate for rate, _ in plane])


def grid(trials: int, declared: Space, box: Space, before: int) -> Points:
    """The centres of equal cells, and as many equal parts of the rates alone."""
    counts = [
        max(1, round(side * axis.length / whole.length))
        for side, axis, whole in zip(sides(trials), box, declared, strict=True)
    ]
    rates, others = (
        [axis.at((level + 0.5) / count) for level in range(count)]
        for axis, count in zip(box, counts, strict=True)
    )
    plane = [(rate, other) for rate in rates for other in others]
    # Elsewhere than in the rounds before, even where β alone has been extended.
    line = [(part + 0.5) / len(plane) for part in range(len(plane))]
    if before:
        line = [rate for rate, _ in _sequence(before, len(plane))]
    return Points(plane, list(map(box.effective_rate.at, line)))


def _sequence(before: int, count: int) -> list[tuple[float, float]]:
    sequence = qmc.Sobol(2, scramble=True, rng=SCRAMBLE_SEED)
    points = sequence.random_base2((before + count).bit_length())
    return points[before:][:count].tolist()


def sides(trials: int) -> tuple[int, int]:
    """The most equal sides of a grid, the rates' first; both even, 4 at the least.

    An extension by half of an axis has then half as many levels, just as far apart.

    Raises:
      UsageError: so many trials fill no such grid.
    """
    found = _sides(trials)
    if found is None:
        nearest = next(n for n in itertools.count(max(trials, 16)) if _sides(n))
        raise UsageError(
            f"--trials {trials} fill no grid, whose sides must be even and at least "
            f"4: give --trials {nearest}, or --sampler sobol."
        )
    return found


def _sides(trials: int) -> tuple[int, int] | None:
    for other in range(math.isqrt(trials), 3, -1):
        if other % 2 == 0 and trials % (2 * other) == 0:
            return trials // other, other
    return None


SAMPLERS: dict[str, Sampler] = {"sobol": sobol, "grid": grid}

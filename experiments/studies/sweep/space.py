"""The space of trials and the points in it, over effective learning rate and 1 − β.

Both axes are logarithmic. On them the good trials form a patch; over the learning rate
and β themselves they form a diagonal ridge, which makes β seem to matter more than it
does.
"""

import itertools
import math
from typing import NamedTuple, Protocol

from experiments.records.config import UsageError, significant

EDGE = 1 / 8  # of an axis's logarithmic length, at either end
SCRAMBLE_SEED = 20_260_101  # of the Sobol' sequence; part of every plan
_DIGITS = 4  # of rates and of 1 − β
_ROUNDING = 1e-3  # how far those digits may move a value along an axis


class Axis(NamedTuple):
    """An interval from `low` to `high` on a logarithmic scale."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value at this share of the way from `low` to `high`, to four digits."""
        return significant(self.low * (self.high / self.low) ** share, _DIGITS)

    def share(self, value: float) -> float:
        """The share of the way at which a value lies: 0 at `low`, 1 at `high`."""
        return math.log(value / self.low) / self.length

    @property
    def length(self) -> float:
        """ln(high / low)."""
        return math.log(self.high / self.low)


class Space(NamedTuple):
    """A box of trials; trials of SGD have only the first coordinate."""

    effective_rate: Axis  # α / (1 − β): a settled step is this times the gradient
    one_minus_beta: Axis


# No run is trained outside: at 1 − β = 1 momentum is SGD, which is tuned anyway, and
# below 1e-4 float32 represents 1 − β to less than three digits.
LIMITS = Space(Axis(1e-6, 1e4), Axis(1e-4, 1.0))


class Trial(NamedTuple):
    """A method with the settings that are tried."""

    method: str  # a key of `METHODS`
    effective_rate: float
    one_minus_beta: float  # 1 for SGD
    batch_size: int

    @property
    def beta(self) -> float:
        """β without the rounding error of the subtraction in binary."""
        return round(1 - self.one_minus_beta, 8)


class Side(NamedTuple):
    """One end of an axis."""

    axis: str  # a field of `Space`
    high: bool


def edges(space: Space, trial: Trial) -> list[Side]:
    """The sides in whose outermost eighth the trial lies; a better one may lie beyond.

    A method that doesn't tune β has no side on that axis.
    """
    sides = []
    for name, axis in space._asdict().items():
        if name == "one_minus_beta" and trial.one_minus_beta == 1:
            continue
        share = axis.share(getattr(trial, name))
        if share <= EDGE + _ROUNDING:
            sides.append(Side(name, high=False))
        if share >= 1 - EDGE - _ROUNDING:
            sides.append(Side(name, high=True))
    return sides


def can_extend(space: Space, side: Side) -> bool:
    """Whether there is room on that side before the limits."""
    end = "high" if side.high else "low"
    limit = getattr(getattr(LIMITS, side.axis), end)
    return getattr(getattr(space, side.axis), end) != limit


def extension(declared: Space, space: Space, side: Side) -> tuple[Space, Space]:
    """A strip beside the space, and the union of the two.

    The strip has half the length of the declared axis, or less if it meets the limits.
    `space` is that after earlier extensions; `can_extend` must hold on the side.
    """
    axis, limits = getattr(space, side.axis), getattr(LIMITS, side.axis)
    factor = math.exp(getattr(declared, side.axis).length / 2)
    if side.high:
        high = min(significant(axis.high * factor, _DIGITS), limits.high)
        strip, whole = Axis(axis.high, high), Axis(axis.low, high)
    else:
        low = max(significant(axis.low / factor, _DIGITS), limits.low)
        strip, whole = Axis(low, axis.low), Axis(low, axis.high)
    return (space._replace(**{side.axis: strip}), space._replace(**{side.axis: whole}))


class Points(NamedTuple):
    """The same number of points for methods that tune β and for those that don't."""

    plane: list[tuple[float, float]]  # effective rates and 1 − β
    line: list[float]  # effective rates alone


class Sampler(Protocol):
    """Chooses the points of a round, as dense as those of the declared space."""

    def __call__(self, trials: int, declared: Space, box: Space, before: int) -> Points:
        """The points in a box.

        Args:
          trials: how many points the declared space has.
          declared: the space of the plan.
          box: where the points must lie.
          before: how many points the earlier rounds have.
        """
        ...


def sobol(trials: int, declared: Space, box: Space, before: int) -> Points:
    """The next points of a scrambled Sobol' sequence; the line has the plane's rates.

    Because the effective rates are equal, each trial of a method and the corresponding
    one of SGD differ by momentum alone.

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
    """The centers of equal tiles; the line is cut into as many equal parts."""
    counts = [
        max(1, round(side * axis.length / whole.length))
        for side, axis, whole in zip(sides(trials), box, declared, strict=True)
    ]
    rates, others = (
        [axis.at((level + 0.5) / count) for level in range(count)]
        for axis, count in zip(box, counts, strict=True)
    )
    plane = [(rate, other) for rate in rates for other in others]
    # An extension along β alone leaves SGD the same rates: the Sobol' sequence gives it
    # new ones.
    line = [(part + 0.5) / len(plane) for part in range(len(plane))]
    if before:
        line = [rate for rate, _ in _sequence(before, len(plane))]
    return Points(plane, list(map(box.effective_rate.at, line)))


def _sequence(before: int, count: int) -> list[tuple[float, float]]:
    """Points of the unit square, after the first `before` of the sequence."""
    from scipy.stats import qmc  # slow to import

    sequence = qmc.Sobol(2, scramble=True, rng=SCRAMBLE_SEED)
    points = sequence.random_base2((before + count).bit_length())
    return points[before:][:count].tolist()


def sides(trials: int) -> tuple[int, int]:
    """The most equal sides of a grid, the rates' first; both even and at least 4.

    An extension by half an axis then has half as many levels with the same spacing.

    Raises:
      UsageError: no such grid has this many points.
    """
    found = _sides(trials)
    if found is None:
        nearest = next(n for n in itertools.count(max(trials, 16)) if _sides(n))
        raise UsageError(
            f"--trials {trials} do not fill a grid, whose sides must be even and at "
            f"least 4: give --trials {nearest}, or --sampler sobol."
        )
    return found


def _sides(trials: int) -> tuple[int, int] | None:
    for other in range(math.isqrt(trials), 3, -1):
        if other % 2 == 0 and trials % (2 * other) == 0:
            return trials // other, other
    return None


SAMPLERS: dict[str, Sampler] = {"sobol": sobol, "grid": grid}

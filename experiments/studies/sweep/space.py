"""Where trials lie: effective learning rate and 1 − β, both on logarithmic axes.

On these axes equal distances are equal factors, and the good trials form a patch; in
the plain learning rate and β they form a diagonal ridge, on which β seems to matter
more than it does.
"""

import math
from typing import NamedTuple

EDGE = 1 / 8  # of an axis's logarithmic length, at either end
_ROUNDING = 1e-3  # values have four digits


class Axis(NamedTuple):
    """From `low` to `high`, walked in equal factors."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value a share of the way from `low`, to four digits."""
        return four_digits(self.low * (self.high / self.low) ** share)

    def share(self, value: float) -> float:
        """How far from `low` to `high` a value lies: 0 to 1 within the axis."""
        return math.log(value / self.low) / self.length

    @property
    def length(self) -> float:
        """ln(high / low)."""
        return math.log(self.high / self.low)


class Space(NamedTuple):
    """A box of trials; SGD's have a rate alone."""

    effective_rate: Axis  # α / (1 − β), to which a step settles, times the gradient
    one_minus_beta: Axis


# No run is trained outside: at 1 − β = 1 momentum is SGD, which is an arm already, and
# below 1e-4 float32 holds β to less than three digits of 1 − β.
LIMITS = Space(Axis(1e-6, 1e4), Axis(1e-4, 1.0))


class Trial(NamedTuple):
    """What a method was tried with."""

    method: str  # a key of `METHODS`
    effective_rate: float
    one_minus_beta: float  # 1 for SGD
    batch_size: int

    @property
    def beta(self) -> float:
        """Without the noise of a subtraction in binary."""
        return round(1 - self.one_minus_beta, 8)


class Side(NamedTuple):
    """One end of an axis."""

    axis: str  # a field of `Space`
    high: bool


def four_digits(value: float) -> float:
    """The value as it is told, so that what a table shows is what was trained."""
    return float(f"{value:.4g}")


def edges(space: Space, trial: Trial) -> list[Side]:
    """The sides in whose outermost eighth the trial lies, where only chance stops it.

    A method that doesn't tune β has no side on that axis.
    """
    found = []
    for name, axis in space._asdict().items():
        if name == "one_minus_beta" and trial.one_minus_beta == 1:
            continue
        share = axis.share(getattr(trial, name))
        if share <= EDGE + _ROUNDING:
            found.append(Side(name, high=False))
        if share >= 1 - EDGE - _ROUNDING:
            found.append(Side(name, high=True))
    return found


def can_extend(space: Space, side: Side) -> bool:
    """Whether there is room on that side before the limits."""
    end = "high" if side.high else "low"
    limit = getattr(getattr(LIMITS, side.axis), end)
    return getattr(getattr(space, side.axis), end) != limit


def extension(declared: Space, space: Space, side: Side) -> tuple[Space, Space]:
    """A strip beside the space, and the two as one.

    The strip is half as long as the axis was declared, or as the limits leave room for.

    Args:
      declared: the space of the plan.
      space: what it has become by earlier extensions.
      side: where to extend it; `can_extend` there.
    """
    axis, limits = getattr(space, side.axis), getattr(LIMITS, side.axis)
    factor = math.exp(getattr(declared, side.axis).length / 2)
    if side.high:
        high = min(four_digits(axis.high * factor), limits.high)
        strip, whole = Axis(axis.high, high), Axis(axis.low, high)
    else:
        low = max(four_digits(axis.low / factor), limits.low)
        strip, whole = Axis(low, axis.low), Axis(low, axis.high)
    return (
        space._replace(**{side.axis: strip}),
        space._replace(**{side.axis: whole}),
    )

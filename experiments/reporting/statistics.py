"""Means, 95% intervals and paired comparisons: the numbers, and the words for them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.records.metric import ANY, Metric, Range
from experiments.records.runs import Run

# An interval that ends nearer than this to a bound, as a share of half its width, does
# not decide on which side of the bound it lies: another machine rounds differently,
# training amplifies that, and the end may fall on the other side.
MARGIN = 0.1

_SMOKE = "a smoke run concludes nothing"
_NUMBERS = "zero one two three four five six seven eight nine ten".split()


class Interval(NamedTuple):
    """The mean of n values and its 95% interval, which needs at least two values."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def shown(self, possible: Range = ANY) -> tuple[float, float | None, float | None]:
        """The mean, and the ends of the interval as pages show it.

        Conclusions are drawn from the interval itself; a reader sees it cut to what is
        possible, and not at all for n = 2, where Student's factor is 12.7.

        >>> Interval(0.9, 0.75, 1.05, n=3).shown((0.0, 1.0))
        (0.9, 0.75, 1.0)
        """
        if self.low is None or self.high is None or self.n < 3:
            return self.mean, None, None
        return self.mean, max(self.low, possible[0]), min(self.high, possible[1])


class Comparison(NamedTuple):
    """The first arm minus the second, seed by seed, in the values' unit."""

    first: str
    second: str
    isolates: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]  # first − second, one a seed
    mean: float
    low: float | None
    high: float | None
    winner: str | None  # None unless the interval lies clear of 0

    @property
    def interval(self) -> Interval:
        """The mean difference and its interval."""
        return Interval(self.mean, self.low, self.high, len(self.differences))


class Pair(NamedTuple):
    """Two arms to compare, and the one thing in which they differ."""

    first: str
    second: str
    isolates: str


# The pairs of the built-in arms; for arms of a user's file, even if they have the names
# of built-in ones, see `against_first`.
PAIRS = (
    Pair("ema", "sgd", "momentum, at the smaller settled step"),
    Pair("keras", "sgd_large_step", "momentum, at the larger settled step"),
    Pair("sgd_large_step", "sgd", "step size, without momentum"),
    Pair(
        "keras", "ema", "step size, with momentum: the tutorial's code and its equation"
    ),
    Pair("keras_bfloat16", "keras", "storage: bfloat16 instead of float32"),
    Pair("keras_int8", "keras", "storage: 8 bits instead of float32"),
)


def against_first(arms: Sequence[str]) -> tuple[Pair, ...]:
    """Pairs each arm with the first: for optimizers known by name only."""
    baseline, *others = arms
    return tuple(
        Pair(arm, baseline, f"optimizer: {arm} instead of {baseline}") for arm in others
    )


def about_intervals(of_shares: bool = True) -> str:
    """What every page says once of its intervals; those of shares are cut."""
    cut = (
        "An interval of accuracies is cut at 0 and 100%, one of differences at −100 "
        "and +100 points. "
    )
    return (
        "An interval is Student's 95% interval of a mean over n values, usually one a "
        f"seed. {cut if of_shares else ''}Two values give no useful interval: for "
        "n = 2 none is shown, and nothing is concluded. If an interval ends within a "
        "tenth of half its width of the value that decides, the result is too close to "
        "call, because rounding differs between machines and can move the end across "
        "that value."
    )


def mean_and_interval(values: Sequence[float]) -> Interval:
    """The mean and Student's 95% interval: mean ± t(0.975, n − 1)·s/√n.

    If all values are equal, the interval is a point; if one is not finite, all three
    numbers are NaN. Values must be independent of each other.
    """
    n = len(values)
    mean = float(np.mean(values)) if all(map(math.isfinite, values)) else math.nan
    if n < 2:
        return Interval(mean, None, None, n)
    # Equal values have no spread, but rounding their mean can suggest one.
    spread = 0.0 if len(set(values)) == 1 else deviation(values) or 0.0
    half = float(stats.t.ppf(0.975, n - 1)) * spread / n**0.5
    return Interval(mean, mean - half, mean + half, n)


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample; None for one value, NaN for a lost one."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def compare(
    first: str,
    second: str,
    isolates: str,
    values: Mapping[str, Mapping[int, float]],
    metric: Metric,
) -> Comparison:
    """Compares two arms over the seeds that both have run.

    `isolates` is the one thing in which they differ; values of the metric are by arm,
    then by seed.

    Raises:
      ValueError: no seed has been run with both arms.
    """
    seeds = tuple(sorted(values[first].keys() & values[second].keys()))
    if not seeds:
        raise ValueError(f"compare: no seed was run with both {first} and {second}.")
    differences = tuple(values[first][seed] - values[second][seed] for seed in seeds)
    interval = mean_and_interval(differences)
    winner = {1: first, -1: second}.get(direction(interval, metric))
    return Comparison(
        first, second, isolates, seeds, differences, *interval[:3], winner
    )


def comparisons(
    values: Mapping[str, Mapping[int, float]],
    metric: Metric,
    pairs: Sequence[Pair] = PAIRS,
) -> tuple[Comparison, ...]:
    """Compares the pairs whose arms share a seed; values are by arm, then by seed."""
    return tuple(
        compare(*pair, values, metric)
        for pair in pairs
        if values.get(pair.first, {}).keys() & values.get(pair.second, {}).keys()
    )


def compare_runs(
    runs: Sequence[Run], metric: Metric, pairs: Sequence[Pair] = PAIRS
) -> tuple[Comparison, ...]:
    """Compares arms by the metric on the test split, seed by seed.

    The runs are of one plan.
    """
    values: dict[str, dict[int, float]] = {}
    for run in runs:
        values.setdefault(run.config.arm, {})[run.config.seed] = run.test_metric
    return comparisons(values, metric, pairs)


def direction(difference: Interval, metric: Metric) -> int:
    """1 if the first of two is better by the metric, −1 if worse, 0 if undecided."""
    found = sign(difference)
    return found if metric.higher_is_better else -found


def sign(difference: Interval, bound: float = 0.0) -> int:
    """1 or −1 if the whole interval lies above or below the bound, else 0.

    0 also where fewer than three values bound nothing, and where it is `too_close`.
    """
    _, low, high, n = difference
    if low is None or high is None or n < 3 or too_close(difference, bound):
        return 0
    return int(low > bound) - int(high < bound)


def too_close(difference: Interval, bound: float = 0.0) -> bool:
    """Whether an end of the interval is so near the bound that rounding may decide.

    >>> too_close(Interval(0.5, 0.02, 0.98, n=9)), too_close(Interval(0.5, 0, 0.9, 9))
    (True, True)
    >>> too_close(Interval(0.5, 0.1, 0.9, n=9)), too_close(Interval(0.0, 0, 0, n=9))
    (False, False)
    """
    _, low, high, n = difference
    if low is None or high is None or n < 3:
        return False
    nearest = min(abs(low - bound), abs(high - bound))
    return nearest < MARGIN * (high - low) / 2


def difference_in_words(difference: Interval, metric: Metric) -> str:
    """A mean difference of two values of a metric with its interval.

    >>> from experiments.records.metric import ACCURACY
    >>> difference_in_words(Interval(0.0031, -0.001, 0.0072, n=3), ACCURACY)
    '+0.31 points (95% interval −0.10 to +0.72)'
    """
    mean, low, high = difference.shown(metric.possible_differences)
    text = metric.shown_difference(mean)
    if low is None or high is None:
        return f"{text} ({_no_interval(difference)})"
    ends = " to ".join(
        metric.shown_difference(end).removesuffix(" points") for end in (low, high)
    )
    return f"{text} (95% interval {ends})"


def value_in_words(value: Interval, metric: Metric) -> str:
    """A mean value of a metric with its interval.

    >>> from experiments.records.metric import ACCURACY
    >>> value_in_words(Interval(0.9125, 0.9, 0.925, n=3), ACCURACY)
    '91.25% (95% interval 90.00 to 92.50)'
    """
    mean, low, high = value.shown(metric.possible)
    if low is None or high is None:
        return f"{metric.shown(mean)} ({_no_interval(value)})"
    ends = " to ".join(metric.shown(end).removesuffix("%") for end in (low, high))
    return f"{metric.shown(mean)} (95% interval {ends})"


def winner(
    comparison: Comparison, titles: Mapping[str, str], *, smoke: bool = False
) -> str:
    """The winner of a comparison in words, or why there is none."""
    if smoke or comparison.winner is None:
        return f"no winner: {_SMOKE if smoke else _doubt(comparison.interval)}"
    words = f"winner: {titles[comparison.winner]}"
    if comparison.low == comparison.high:
        words += "; every seed shows the same difference"
    return words


def verdict(difference: Interval, metric: Metric, *, smoke: bool = False) -> str:
    """What the interval of momentum minus SGD shows, and no more."""
    if smoke:
        return f"no verdict: {_SMOKE}"
    if direction(difference, metric) > 0:
        return "momentum is better"
    if direction(difference, metric) < 0:
        return (
            "momentum is worse, although β = 0 makes it SGD: it is under-tuned, and "
            "this is no evidence for SGD"
        )
    return f"no difference is shown, as {_doubt(difference)}"


def number_in_words(number: float) -> str:
    """Whole numbers up to ten as words, others as digits.

    >>> number_in_words(10.000000000000002), number_in_words(12), number_in_words(2.5)
    ('ten', '12', '2.5')
    """
    digits = f"{number:.4g}"
    return _NUMBERS[int(digits)] if digits in map(str, range(11)) else digits


def seeds_in_words(count: int) -> str:
    """The number of seeds in a sentence.

    >>> seeds_in_words(1), seeds_in_words(12)
    ('one seed', '12 seeds')
    """
    return f"{number_in_words(count)} seed{'s' if count != 1 else ''}"


def counted(number: int, noun: str) -> str:
    """A number with its noun in the singular or plural: 1 epoch, 2,000 epochs."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def wall_time(runs: Sequence[Run]) -> str:
    """The time that the runs took together, in a unit that suits it."""
    seconds = sum(run.seconds for run in runs)
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    minutes = seconds / 60
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _doubt(difference: Interval) -> str:
    """Why an interval shows no difference."""
    if difference.n < 3:
        bounds = "bounds" if difference.n == 1 else "bound"
        return f"{seeds_in_words(difference.n)} {bounds} nothing"
    if math.isnan(difference.mean):
        return "a run has no result"
    if too_close(difference):
        return "the interval ends too close to 0 to call"
    return "the interval contains 0"


def _no_interval(interval: Interval) -> str:
    return "n = 1: no interval" if interval.n < 2 else "n = 2: no useful interval"

"""What decides between runs: accuracy, or another figure of the validation examples."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

Range = tuple[float, float]  # the least and the largest possible value

ANY: Range = (-math.inf, math.inf)


class Metric(NamedTuple):
    """The figure by which runs of a problem are chosen and compared.

    A metric with the key "accuracy" is a share in [0, 1]: it is shown in percent, and
    its differences in percentage points. Any other is shown in its own unit.

    >>> error = Metric("squared_error", "RMSE", False, math.sqrt)
    >>> error.shown(error.of(2.25)), error.shown_difference(0.5), error.name
    ('1.5', '+0.5', 'rmse')
    >>> ACCURACY.shown(0.9125), ACCURACY.shown_difference(-0.0031)
    ('91.25%', '−0.31 points')
    """

    key: str  # of the metrics that a loss returns, or "loss" for the loss itself
    title: str  # as pages show it: "accuracy", "RMSE"
    higher_is_better: bool
    of_mean: Callable[[Any], Any] | None = None  # of the mean, such as √

    @property
    def name(self) -> str:
        """The title as a name in files: "accuracy", "mean_error"."""
        return re.sub(r"\W+", "_", self.title.lower()).strip("_")

    @property
    def words(self) -> str:
        """The title within a sentence: "accuracy", but "RMSE"."""
        first, rest = self.title[:1], self.title[1:]
        return self.title if rest != rest.lower() else first.lower() + rest

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        return self.key == "accuracy" and self.of_mean is None

    @property
    def format(self) -> str:
        """How a table shows a value."""
        return "{:.2%}" if self.is_share else "{:.4g}"

    @property
    def difference_format(self) -> str:
        """How a table shows a difference of two values."""
        return "{:+.2%}" if self.is_share else "{:+.4g}"

    @property
    def scale(self) -> float:
        """What a value is multiplied by on an axis."""
        return 100.0 if self.is_share else 1.0

    @property
    def unit(self) -> str:
        """What follows the title on an axis."""
        return " (%)" if self.is_share else ""

    @property
    def better(self) -> str:
        """The direction in a word: "higher" or "lower"."""
        return "higher" if self.higher_is_better else "lower"

    @property
    def best(self) -> str:
        """What the best value is called: "highest" or "lowest"."""
        return "highest" if self.higher_is_better else "lowest"

    @property
    def possible(self) -> Range:
        """The least and the largest value that a mean can have."""
        return (0.0, 1.0) if self.is_share else ANY

    @property
    def possible_differences(self) -> Range:
        """The least and the largest difference of two values."""
        return (-1.0, 1.0) if self.is_share else ANY

    def of(self, mean: Any) -> float:
        """The value of a mean over examples; infinite where a float can't hold it.

        >>> Metric("loss", "perplexity", False, math.exp).of(1e4)  # of a diverged run
        inf
        """
        try:
            return float(mean) if self.of_mean is None else float(self.of_mean(mean))
        except OverflowError:
            return math.inf

    def goodness(self, value: float) -> float:
        """The value, or its negative where lower is better: larger is always better."""
        return value if self.higher_is_better else -value

    def shown(self, value: float) -> str:
        """A value in words."""
        return fitting(self.format, value).format(value).replace("-", "−")

    def shown_difference(self, difference: float) -> str:
        """A difference of two values, always with its sign."""
        if self.is_share:
            text = f"{100 * difference:+.2f} points"
        else:
            text = fitting(self.difference_format, difference).format(difference)
        return text.replace("-", "−")


def fitting(format: str, value: float) -> str:
    """The format, but for large numbers to four digits one without an exponent.

    >>> fitting("{:.4g}", 51234.5).format(51234.5)
    '51,234'
    """
    return format.replace(".4g", ",.0f") if 1000 <= abs(value) < 1e9 else format


ACCURACY = Metric("accuracy", "accuracy", True)

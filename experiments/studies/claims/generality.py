"""Claim 4, "works in general": tuned SGD against tuned momentum on many problems.

Both get the same number of trials over the same settled steps. They are tuned by
validation accuracy with some seeds, and reported by test accuracy with others.
"""

from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from experiments.studies.claims import problems
from experiments.studies.claims.problems import Problem
from experiments.studies.claims.verdict import Prediction, difference
from experiments.studies.lifecycle import TUNING_SEED, OpenStudy
from experiments.studies.validation import Score
from experiments.training.program import Point

BETAS = (0.0, 0.9, 0.99)  # of momentum, which thus contains SGD
WIDENING = 2  # octaves by which the space grows where the best is at its edge
FIXED = {"betas": BETAS, "batch_size": problems.BATCH_SIZE}


class Setting(NamedTuple):
    """What is tuned."""

    settled: float  # η/(1 − β)
    beta: float

    def at(self, seed: int) -> Point:
        """The point of a run."""
        return Point(self.settled * (1 - self.beta), self.beta, seed)


class Tuned(NamedTuple):
    """The best setting of a method, and the search for it."""

    best: Setting
    trials: dict[Setting, Score]  # means over the tuning seeds
    at_edge: bool


def titles(budget: Any) -> tuple[str, ...]:
    """The titles of all problems, in their order."""
    combined = product(budget.models, budget.losses, budget.tables)
    return (*map(", ".join, combined), f"network, cross-entropy, {budget.dataset}")


def predictions(titles: Sequence[str]) -> tuple[Prediction, ...]:
    """Momentum's test accuracy is higher, on every problem."""
    return tuple(
        Prediction(
            title, f"{title}: test accuracy, tuned momentum − tuned SGD", "above", 0.0
        )
        for title in titles
    )


def measure(study: OpenStudy, budget: Any) -> dict[str, Any]:
    """All figures of the claim, as JSON values."""
    tables = {"digits": problems.digits, "table": lambda: problems.table(budget.seed)}
    parts = {name: tables[name]() for name in budget.tables}
    small = [
        problems.small(model, loss, name, parts[name], budget.small_epochs)
        for model, loss, name in product(budget.models, budget.losses, budget.tables)
    ]
    measured: dict[str, Any] = {"problems": {}}
    for problem in (*small, problems.network(study, budget.dataset)):
        study.context.console.print(f"{problem.title} …", highlight=False)
        found = compare(problem, budget)
        measured[problem.title] = found.pop("difference")
        measured["problems"][problem.title] = found
    return measured


def compare(problem: Problem, budget: Any) -> dict[str, Any]:
    """Tunes both methods, then reports them with other seeds, pair by pair."""
    tuned = tune(problem, budget)
    if tuned["momentum"].best.beta == 0:
        # It is SGD, and what parts their steps is nothing that momentum gains.
        tuned["momentum"] = tuned["momentum"]._replace(best=tuned["sgd"].best)
    accuracies = {
        method: problem.test([each.best.at(seed) for seed in range(budget.seeds)])
        for method, each in tuned.items()
    }
    return {
        "difference": difference(accuracies["momentum"], accuracies["sgd"]),
        "methods": {
            method: {
                "settled": each.best.settled,
                "beta": each.best.beta,
                "trials": [[*s, *score] for s, score in sorted(each.trials.items())],
                "at_edge": each.at_edge,
                "accuracies": accuracies[method],
            }
            for method, each in tuned.items()
        },
    }


def tune(problem: Problem, budget: Any) -> dict[str, Tuned]:
    """The best of either method, by the mean validation score over the tuning seeds.

    SGD tries three settled steps an octave, momentum one with each of three betas, all
    between 2^low and 2^high. Where either's best is at an end, both go on beyond it.
    """
    low, high = budget.low_octave, budget.high_octave
    spaces = {"sgd": sgd_space, "momentum": momentum_space}
    trials: dict[str, dict[Setting, Score]] = {method: {} for method in spaces}
    tuned: dict[str, Tuned] = {}
    for _ in range(1 + budget.widenings):
        for method, space in spaces.items():
            new = [s for s in space(low, high) if s not in trials[method]]
            scores = _validated(problem, new, budget.tuning_seeds)
            trials[method].update(zip(new, scores, strict=True))
            tuned[method] = _best(trials[method])
        edges = [each.best.settled for each in tuned.values() if each.at_edge]
        if not edges:
            break
        at_low = edges[0] < 2 ** ((low + high) / 2)
        low, high = (low - WIDENING, high) if at_low else (low, high + WIDENING)
    return tuned


def sgd_space(low: int, high: int) -> list[Setting]:
    """Three settled steps an octave."""
    return [Setting(2 ** (k / 3), 0.0) for k in range(3 * low, 3 * high)]


def momentum_space(low: int, high: int) -> list[Setting]:
    """One settled step an octave, with each of the betas."""
    return [Setting(2.0**k, beta) for k in range(low, high) for beta in BETAS]


def _validated(
    problem: Problem, settings: Sequence[Setting], seeds: int
) -> list[Score]:
    """Mean scores over the tuning seeds."""
    runs = [s.at(TUNING_SEED + seed) for s in settings for seed in range(seeds)]
    scores = iter(problem.validate(runs))
    of_settings = [[next(scores) for _ in range(seeds)] for _ in settings]
    return [
        Score(*(fmean(each) for each in zip(*own, strict=True))) for own in of_settings
    ]


def _best(trials: dict[Setting, Score]) -> Tuned:
    best = max(trials, key=lambda setting: trials[setting])
    tried = {setting.settled for setting in trials}
    return Tuned(best, trials, best.settled in (min(tried), max(tried)))

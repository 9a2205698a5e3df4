"""Claim 4, "works in general": tuned SGD against tuned momentum on many problems.

Both methods get the same number of trials over the same range of settled steps. They
are tuned on validation examples, then compared on test examples with other seeds.
"""

from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import NamedTuple

from matplotlib.figure import Figure as Canvas

from experiments.records.config import JSON
from experiments.records.metric import ACCURACY, Metric
from experiments.reporting.drawing import draw_intervals, plain_axes
from experiments.reporting.page import Figure, Section, Table
from experiments.reporting.statistics import Interval
from experiments.studies.claims import problems, verdict
from experiments.studies.claims.budget import ClaimsBudget
from experiments.studies.claims.problems import Problem
from experiments.studies.claims.verdict import JudgedPrediction, Prediction, difference
from experiments.studies.lifecycle import OpenStudy, tuning_seeds
from experiments.studies.validation import Measure, Score, of_classes
from experiments.training.points import Point

BETAS = (0.0, 0.9, 0.99)  # for momentum, whose trials thus include SGD
WIDENING = 2  # octaves by which the range of settled steps grows
FIXED = {"betas": BETAS, "batch_size": problems.BATCH_SIZE}


class Candidate(NamedTuple):
    """The hyper-parameters to tune."""

    settled_step: float  # α/(1 − β)
    beta: float

    def with_seed(self, seed: int) -> Point:
        """The point at which a run trains."""
        return Point(self.settled_step * (1 - self.beta), self.beta, seed)


class TuningResult(NamedTuple):
    """The best candidate of a method, and all that were tried."""

    best: Candidate
    trials: dict[Candidate, Score]  # means over the tuning seeds
    at_edge: bool  # whether the best settled step is at an end of the range


def predictions(
    budget: ClaimsBudget, own: str, metric: Metric
) -> tuple[Prediction, ...]:
    """One for each problem, the study's `own` last: momentum improves the metric."""

    def better(title: str, metric: Metric) -> Prediction:
        quantity = f"{title}: test {metric.words}, tuned momentum − tuned SGD"
        side = "above" if metric.higher_is_better else "below"
        return Prediction(title, quantity, side, 0.0)

    small = product(budget.models, budget.losses, budget.tables)
    stated = [better(", ".join(names), ACCURACY) for names in small]
    return (*stated, better(own, metric))


def measure(own: str, study: OpenStudy, budget: ClaimsBudget) -> dict[str, JSON]:
    """All measurements of the claim, as JSON values; `own` is the study's problem."""
    load = {"digits": problems.digits, "table": lambda: problems.table(budget.seed)}
    splits = {name: load[name]() for name in budget.tables}
    small = [
        problems.small(model, loss, name, splits[name], budget.small_epochs)
        for model, loss, name in product(budget.models, budget.losses, budget.tables)
    ]
    measured: dict[str, JSON] = {"problems": {}}
    for problem in (*small, problems.of_study(study, own)):
        study.context.console.print(f"{problem.title} …", highlight=False)
        compared = compare(problem, budget)
        measured[problem.title] = compared.pop("difference")
        measured["problems"][problem.title] = compared
    return measured


def compare(problem: Problem, budget: ClaimsBudget) -> dict[str, JSON]:
    """Tunes both methods, then tests them with new seeds, pair by pair."""
    tuned = tune(problem, budget)
    if tuned["momentum"].best.beta == 0:
        # Tuning reduced momentum to SGD. Only their grids of steps differ, and a
        # difference between the grids is no gain of momentum.
        tuned["momentum"] = tuned["momentum"]._replace(best=tuned["sgd"].best)
    tested = {
        method: problem.test(
            [result.best.with_seed(seed) for seed in range(budget.seeds)]
        )
        for method, result in tuned.items()
    }
    return {
        "difference": difference(tested["momentum"], tested["sgd"]),
        "methods": {
            method: {
                "settled": best.settled_step,
                "beta": best.beta,
                "trials": [[*c, *score] for c, score in sorted(trials.items())],
                "at_edge": at_edge,
                "accuracies": tested[method],  # by any metric; so named since format 1
            }
            for method, (best, trials, at_edge) in tuned.items()
        },
    }


def tune(problem: Problem, budget: ClaimsBudget) -> dict[str, TuningResult]:
    """Finds the candidate of each method with the best mean validation score.

    All settled steps lie between 2^low and 2^high. SGD tries three in each octave;
    momentum tries one, with each of three betas. If the best of either method is at an
    end of the range, the range grows there for both.
    """
    low, high = budget.low_octave, budget.high_octave
    spaces = {"sgd": sgd_space, "momentum": momentum_space}
    trials: dict[str, dict[Candidate, Score]] = {method: {} for method in spaces}
    tuned: dict[str, TuningResult] = {}
    for _ in range(1 + budget.widenings):
        for method, space in spaces.items():
            new = [c for c in space(low, high) if c not in trials[method]]
            scores = _validate(problem, new, budget.tuning_seeds)
            trials[method].update(zip(new, scores, strict=True))
            tuned[method] = _select_best(trials[method])
        edges = [r.best.settled_step for r in tuned.values() if r.at_edge]
        if not edges:
            break
        if edges[0] < 2 ** ((low + high) / 2):
            low -= WIDENING
        else:
            high += WIDENING
    return tuned


def sgd_space(low: int, high: int) -> list[Candidate]:
    """Three settled steps in each octave."""
    return [Candidate(2 ** (k / 3), 0.0) for k in range(3 * low, 3 * high)]


def momentum_space(low: int, high: int) -> list[Candidate]:
    """One settled step in each octave, with each of the betas."""
    return [Candidate(2.0**k, beta) for k in range(low, high) for beta in BETAS]


def _validate(
    problem: Problem, candidates: Sequence[Candidate], seeds: int
) -> list[Score]:
    """The mean score of each candidate over the tuning seeds."""
    points = [c.with_seed(s) for c in candidates for s in tuning_seeds(seeds)]
    scores = problem.validate(points)
    of_seeds = (scores[first : first + seeds] for first in range(0, len(scores), seeds))
    return [Score(*map(fmean, zip(*each, strict=True))) for each in of_seeds]


def _select_best(trials: dict[Candidate, Score]) -> TuningResult:
    best = max(trials, key=lambda candidate: trials[candidate])
    steps = {candidate.settled_step for candidate in trials}
    at_edge = best.settled_step in (min(steps), max(steps))
    return TuningResult(best, trials, at_edge)


def section(
    own: Measure, measured: dict[str, JSON], judged: Sequence[JudgedPrediction]
) -> Section:
    """The claim's part of the page; `own` judges the last problem."""
    compared = measured["problems"]
    groups = [_Group("", of_classes(2), judged)]
    differs = []
    if not own.metric.is_share:
        title, metric = judged[-1].prediction.key, own.metric
        groups = [
            groups[0]._replace(judged=judged[:-1]),
            _Group("own-", own, judged[-1:]),
        ]
        differs = [
            f"{title} is judged by its {metric.words}, {metric.better} is better; a "
            f"run that diverges counts as {metric.shown(own.worst)}."
        ]
    return Section(
        "Claim 4: momentum helps whatever the model, loss and data",
        (
            "Every problem is tuned separately, with the same number of trials for "
            "both methods: SGD tries three settled steps in each octave, momentum "
            "tries one with each β of "
            f"{', '.join(f'{beta:g}' for beta in BETAS)} and so includes SGD. If "
            "the best settled step of either is at an end of the range, the range "
            "grows for both. The trial with the best validation accuracy (on a tie, "
            "the lowest loss) is run again with new seeds and scored on the test "
            "rows. The seeds are paired: with the same seed, both methods start from "
            "the same parameters and see the rows in the same order. A run that "
            "diverges counts as 0.",
            *differs,
            *_warnings(compared, judged),
        ),
        [_gains(compared, group) for group in groups],
        (
            verdict.table(judged),
            *(_best_candidates(compared, group) for group in groups),
        ),
    )


class _Group(NamedTuple):
    """Problems that are judged alike, and so drawn on one axis."""

    prefix: str  # of the figure's name
    measure: Measure
    judged: Sequence[JudgedPrediction]


def _warnings(
    compared: dict[str, JSON], judged: Sequence[JudgedPrediction]
) -> list[str]:
    """The problems whose result is doubtful, with the reason."""
    lost = [p.key for p, _, outcome in judged if outcome == "contradicted"]
    results = _by_method(compared)
    at_edge = [f"{title} ({method})" for title, method, r in results if r["at_edge"]]
    as_sgd = [title for title, m, r in results if m == "momentum" and r["beta"] == 0]
    doubts = {
        "Tuning chose β = 0 for momentum, which is SGD": as_sgd,
        "Under-tuned: momentum lost, although its trials include SGD, so this is no "
        "evidence for SGD": lost,
        "The best settled step is at an end of the range even after widening, and a "
        "better one may lie beyond": at_edge,
    }
    return [
        f"{doubt}: {'; '.join(titles)}." for doubt, titles in doubts.items() if titles
    ]


def _by_method(compared: dict[str, JSON]) -> list[tuple[str, str, dict[str, JSON]]]:
    """Every problem's title, with each method and its result."""
    return [
        (title, method, result)
        for title, problem in compared.items()
        for method, result in problem["methods"].items()
    ]


def _gains(compared: dict[str, JSON], group: _Group) -> Figure:
    metric, titles = group.measure.metric, [j.prediction.key for j in group.judged]
    intervals = [Interval(*each.measured) for each in group.judged]

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        draw_intervals(
            axes,
            titles,
            {"": intervals},
            scale=metric.scale,
            possible=metric.possible_differences,
            row_colors=[ink] * len(titles),
        )
        axes.axvline(0, color=ink, linewidth=0.8)
        points = "points of " if metric.is_share else ""
        axes.set_xlabel(f"Momentum − SGD, {points}{tested}")
        plain_axes(axes, ink)

    tested = f"test {metric.words}"
    header = ("problem", "method", "seed", tested)
    rows = [
        (title, method, seed, value)
        for title, method, result in _by_method(_of(titles, compared))
        for seed, value in enumerate(result["accuracies"])
    ]
    return Figure(
        f"{group.prefix}gains",
        f"Gain of tuned momentum over tuned SGD in {tested}: means and 95% "
        "intervals over paired seeds. An interval that contains 0 shows no difference.",
        draw,
        Table(
            f"Test {metric.words}, by seed", header, rows, {header[3]: metric.format}
        ),
        (7.2, 1.2 + 0.3 * len(titles)),
    )


def _best_candidates(compared: dict[str, JSON], group: _Group) -> Table:
    measure, titles = group.measure, [j.prediction.key for j in group.judged]
    tested = f"test {measure.metric.words}"
    rows = [
        (
            title,
            method,
            result["settled"],
            result["beta"],
            len(result["trials"]),
            sum(result["accuracies"]) / len(result["accuracies"]),
            sum(value == measure.worst for value in result["accuracies"]),
        )
        for title, method, result in _by_method(_of(titles, compared))
    ]
    header = ("problem", "method", "settled step", "β", "trials", tested, "diverged")
    return Table(
        f"Tuned hyper-parameters, with their mean {tested}",
        header,
        rows,
        {"settled step": "{:.3g}", tested: measure.metric.format},
    )


def _of(titles: Sequence[str], compared: dict[str, JSON]) -> dict[str, JSON]:
    return {title: compared[title] for title in titles}

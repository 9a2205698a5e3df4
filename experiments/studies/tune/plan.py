"""What `tune` tries and what it concludes, as pure functions of plan and runs."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.records.config import significant
from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, direction
from experiments.studies import paired, validation
from experiments.studies.sweep import results as sweep_results
from experiments.studies.sweep.results import SweepResults, TrialResult
from experiments.studies.sweep.space import Trial
from experiments.studies.tune.options import SCREENED, TuneBudget
from experiments.studies.validation import Measure


class Candidate(NamedTuple):
    """A method with all of its settings, to be trained for the full epochs."""

    trial: Trial
    schedule: str


Settled = Mapping[Candidate, Sequence[Run]]  # all candidates have the same seeds


class TuneResults(NamedTuple):
    """Everything that the page is written from."""

    budget: TuneBudget
    screening: SweepResults
    settled: Mapping[str, Settled]  # by method: SGD and then one momentum
    centers: Mapping[str, Candidate]  # whose rates the last trials are factors of
    last_factor: float  # the largest factor that was tried
    reported: Mapping[str, Sequence[Run]]  # of the best of each method, by seed
    examples: int  # training examples
    measure: Measure
    chance: float | None  # the share of the most frequent class among them, if any
    test_examples: int
    smoke: bool = False  # whether it trained too little for any conclusion
    make_problem: str = ""  # the code that makes what was trained; none for images

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the phases."""
        settled = (runs for tried in self.settled.values() for runs in tried.values())
        later = (*settled, *self.reported.values())
        return [*self.screening.runs, *(run for runs in later for run in runs)]


def chosen_methods(screened: Sequence[TrialResult]) -> tuple[str, str]:
    """SGD, and the momentum whose best trial is better."""
    best = sweep_results.best(screened)
    momentum = max(SCREENED[1:], key=lambda method: best[method].score)
    return SCREENED[0], momentum


def candidates(
    budget: TuneBudget, screened: Sequence[TrialResult], method: str
) -> list[Candidate]:
    """The method's best trials with every batch size and schedule.

    The effective rate is scaled in proportion to the batch size (Goyal et al. 2017).
    """
    results = [result for result in screened if result.trial.method == method]
    results.sort(key=lambda result: result.score, reverse=True)  # keeps ties in order
    tried = []
    for trial in (result.trial for result in results[: budget.finalists]):
        for size in budget.batch_sizes:
            rate = significant(trial.effective_rate * size / trial.batch_size, 4)
            sized = trial._replace(effective_rate=rate, batch_size=size)
            tried += [Candidate(sized, schedule) for schedule in budget.schedules]
    return tried


def rungs(center: Candidate, factor: float) -> list[Candidate]:
    """The candidate at a lower and at a higher rate."""
    rate = center.trial.effective_rate
    rates = [significant(other, 4) for other in (rate / factor, rate * factor)]
    trials = [center.trial._replace(effective_rate=other) for other in rates]
    return [center._replace(trial=trial) for trial in trials]


def winner(tuned: TuneResults, method: str) -> Candidate:
    """The candidate of a method with the best validation score."""
    return validation.best(tuned.settled[method], tuned.measure)


def at_edge(tuned: TuneResults, method: str) -> list[str]:
    """The settings of the winner that are the least or the largest tried."""
    best, settings = winner(tuned, method), []
    if best in rungs(tuned.centers[method], tuned.last_factor):
        settings.append("learning rate")
    sizes = tuned.budget.batch_sizes
    if len(sizes) > 1 and best.trial.batch_size in (min(sizes), max(sizes)):
        settings.append("batch size")
    return settings


def beyond(tuned: TuneResults) -> tuple[int, ...]:
    """The next batch sizes, if a best one is the smallest or the largest tried.

    Empty if only one was tried; omits those that the data don't allow.
    """
    sizes = tuned.budget.batch_sizes
    best = {winner(tuned, method).trial.batch_size for method in tuned.reported}
    ends = ((min(sizes), min(sizes) // 2), (max(sizes), 2 * max(sizes)))
    return tuple(
        following
        for size, following in ends
        if size in best and len(sizes) > 1 and 1 <= following <= tuned.examples
    )


def gain(tuned: TuneResults) -> Interval:
    """The best momentum minus the best SGD on the test split."""
    sgd, momentum = tuned.reported.values()
    return paired.difference(momentum, sgd, tuned.measure)


def better_than_chance(tuned: TuneResults, method: str) -> bool:
    """Whether the final runs of a method are better than always the same answer.

    Their mean must lie above what chance reaches in 39 of 40 samples as small as the
    test split. An interval over seeds says nothing about those. Without classes, it
    must be better than what a run that diverged counts as.
    """
    measure, chance = tuned.measure, tuned.chance
    reached = fmean(paired.tested(tuned.reported[method], measure))
    if chance is None:
        goodness = measure.metric.goodness
        return goodness(reached) > goodness(measure.worst)
    error = math.sqrt(chance * (1 - chance) / tuned.test_examples)
    return reached > chance + 1.96 * error


def recommended(tuned: TuneResults) -> str | None:
    """Momentum if its gain is significant, else SGD, which is simpler.

    Only a method that is better than chance; None if there is none.
    """
    sgd, momentum = tuned.reported
    better = direction(gain(tuned), tuned.measure.metric) > 0
    order = (momentum, sgd) if better else (sgd, momentum)
    return next((m for m in order if better_than_chance(tuned, m)), None)

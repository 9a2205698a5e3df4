"""What `tune` tries, and what it concludes: pure functions of the plan and of runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.optimizers.schedules import SCHEDULES
from experiments.records.config import UsageError, check_at_least_one
from experiments.records.runs import Run
from experiments.reporting.statistics import Interval, sign
from experiments.studies import paired, validation
from experiments.studies.sweep import plan as sweep_plan
from experiments.studies.sweep import results as sweep_results
from experiments.studies.sweep.results import Result
from experiments.studies.sweep.space import Trial, four_digits

METHODS = ("sgd", "momentum", "nesterov")
FACTORS = (2.0, 4.0)  # of the rate, each way; the second only where the first is best


class Budget(NamedTuple):
    """All that is fixed before the first run."""

    dataset: str
    epochs: int
    seeds: int
    screening_epochs: int
    trials: int  # of each method in the screening
    effective_rate: tuple[float, float]
    one_minus_beta: tuple[float, float]
    finalists: int  # of each method that goes on
    batch_sizes: tuple[int, ...]  # the first is the screening's
    schedules: tuple[str, ...]
    tuning_seeds: int  # runs of each trial after the screening, which has one
    factors: tuple[float, ...] = FACTORS

    @property
    def screening(self) -> sweep_plan.Budget:
        """Of a sweep at one batch size, whose space grows once at most."""
        return sweep_plan.Budget(
            dataset=self.dataset,
            epochs=self.screening_epochs,
            seeds=self.seeds,
            methods=METHODS,
            batch_sizes=self.batch_sizes[:1],
            effective_rate=self.effective_rate,
            one_minus_beta=self.one_minus_beta,
            sampler="sobol",
            trials=self.trials,
            tuning_seeds=1,
            extensions=1,
        )


BUDGETS = {
    "smoke": Budget(
        dataset="digits",
        epochs=2,
        seeds=3,
        screening_epochs=1,
        trials=4,
        effective_rate=(0.05, 1.0),
        one_minus_beta=(0.02, 0.5),
        finalists=1,
        batch_sizes=(64,),
        schedules=("constant", "cosine"),
        tuning_seeds=1,
    ),
    "default": Budget(
        dataset="digits",
        epochs=10,
        seeds=10,
        screening_epochs=4,
        trials=16,
        effective_rate=(0.02, 2.0),
        one_minus_beta=(0.01, 1.0),
        finalists=3,
        batch_sizes=(64, 32, 128),
        schedules=("constant", "cosine", "one_cycle"),
        tuning_seeds=1,
    ),
    "paper": Budget(
        dataset="cifar10",
        epochs=30,
        seeds=10,
        screening_epochs=5,
        trials=32,
        effective_rate=(0.02, 2.0),
        one_minus_beta=(0.01, 1.0),
        finalists=3,
        batch_sizes=(64, 128, 256, 512),
        schedules=tuple(SCHEDULES),
        tuning_seeds=2,
    ),
}


def check(budget: Budget) -> None:
    """Raises `UsageError` for a budget that no data allow."""
    check_at_least_one(
        "--tuning-seeds", budget.tuning_seeds, "the runs of each trial", 1_000
    )
    for name, values in (
        ("--batch-sizes", budget.batch_sizes),
        ("--schedules", budget.schedules),
    ):
        if not values or len(set(values)) < len(values):
            raise UsageError(f"{name} must name some, each once; got {values}.")
    sweep_plan.check(budget.screening)
    for size in budget.batch_sizes:
        check_at_least_one("--batch-sizes", size, "each is the images of a step")
    for schedule in budget.schedules:
        if schedule not in SCHEDULES:
            raise UsageError(
                f"--schedules has no {schedule!r}; choose from {', '.join(SCHEDULES)}."
            )


class Candidate(NamedTuple):
    """A method with all of its settings, to be trained for all epochs."""

    trial: Trial
    schedule: str


Results = Mapping[Candidate, Sequence[Run]]  # the same seeds of every candidate


class Found(NamedTuple):
    """All that the page is written from."""

    budget: Budget
    screening: sweep_results.Found
    settled: Mapping[str, Results]  # of SGD and of one momentum, in this order
    centres: Mapping[str, Candidate]  # beside which the last rates were tried
    last_factor: float  # of the rates farthest from them
    reported: Mapping[str, Sequence[Run]]  # of the best of each, by seed
    images: int  # that are trained on
    classes: int

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        settled = (own for each in self.settled.values() for own in each.values())
        later = (*settled, *self.reported.values())
        return [*self.screening.runs, *(run for own in later for run in own)]


def goes_on(screened: Sequence[Result]) -> tuple[str, str]:
    """SGD, and the momentum whose best trial is better."""
    best = sweep_results.best(screened)
    momentum = max(METHODS[1:], key=lambda method: best[method].score)
    return METHODS[0], momentum


def candidates(
    budget: Budget, screened: Sequence[Result], method: str
) -> list[Candidate]:
    """The method's best trials with every batch size and schedule.

    The effective rate is given in proportion to the batch size (Goyal et al. 2017).
    """
    own = [each for each in screened if each.trial.method == method]
    own.sort(key=lambda each: each.score, reverse=True)  # of equals, the earlier first
    found = []
    for trial in (each.trial for each in own[: budget.finalists]):
        for size in budget.batch_sizes:
            rate = four_digits(trial.effective_rate * size / trial.batch_size)
            sized = trial._replace(effective_rate=rate, batch_size=size)
            found += [Candidate(sized, schedule) for schedule in budget.schedules]
    return found


def rungs(centre: Candidate, factor: float) -> list[Candidate]:
    """The candidate at a lower and at a higher rate."""
    rate = centre.trial.effective_rate
    return [
        centre._replace(trial=centre.trial._replace(effective_rate=four_digits(other)))
        for other in (rate / factor, rate * factor)
    ]


def winner(found: Found, method: str) -> Candidate:
    """The best candidate of a method in validation."""
    return validation.best(found.settled[method], found.classes)


def at_edge(found: Found, method: str) -> list[str]:
    """What of the winner is the first or the last that was tried, in words."""
    best, told = winner(found, method), []
    if best in rungs(found.centres[method], found.last_factor):
        told.append("learning rate")
    sizes = found.budget.batch_sizes
    if len(sizes) > 1 and best.trial.batch_size in (min(sizes), max(sizes)):
        told.append("batch size")
    return told


def beyond(found: Found) -> tuple[int, ...]:
    """The next batch sizes where a best one is the smallest or largest that was tried.

    None for a single one that was tried, nor any that the data don't allow.
    """
    sizes = found.budget.batch_sizes
    best = {winner(found, method).trial.batch_size for method in found.reported}
    ends = ((min(sizes), min(sizes) // 2), (max(sizes), 2 * max(sizes)))
    return tuple(
        following
        for size, following in ends
        if size in best and len(sizes) > 1 and 1 <= following <= found.images
    )


def gain(found: Found) -> Interval:
    """Of the best momentum over the best SGD, in accuracy on the test images."""
    sgd, momentum = found.reported.values()
    return paired.difference(momentum, sgd, found.classes)


def recommended(found: Found) -> str:
    """The method: momentum where it is better beyond chance, else the simpler SGD."""
    sgd, momentum = found.reported
    return momentum if sign(gain(found)) > 0 else sgd

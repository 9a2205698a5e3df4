"""The page of `tune`: the recommendation first, then what it rests on."""

from collections.abc import Sequence

from experiments.records import runs as records
from experiments.records.plan import Plan, digest
from experiments.records.runs import Run
from experiments.reporting.page import Cell, Page, Section, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    in_points,
    mean_and_interval,
    percent,
    sign,
    verdict,
    wall_time,
)
from experiments.studies.methods import METHODS
from experiments.studies.paired import accuracies
from experiments.studies.sweep import maps as sweep_maps
from experiments.studies.sweep import space_section as sweep_space
from experiments.studies.tune import figures as tune_figures
from experiments.studies.tune.plan import (
    Candidate,
    Found,
    at_edge,
    beyond,
    gain,
    recommended,
    winner,
)
from experiments.studies.tune.snippet import snippet
from experiments.studies.validation import diverged, mean_score


def page(found: Found, plan: Plan, command: str, onward: str | None = None) -> Page:
    """All that was found.

    Args:
      found: by `tune`.
      plan: as it was hashed before the first run.
      command: that repeats it.
      onward: the command that also tries what lies `beyond`.
    """
    return Page(
        study="tune",
        title=f"What to train {plan['dataset']} with",
        summary=_summary(found, plan),
        sections=(
            _use(found),
            _evidence(found),
            _settings(found, onward),
            _screening(found),
            sweep_space.section(found.screening),
            _trials(found),
        ),
        plan=plan,
        plan_hash=digest(plan),
        command=command,
        provenance=records.provenance(found.runs),
    )


def title(method: str) -> str:
    """What a method is called."""
    return METHODS[method].arm.title


def in_words(run: Run) -> str:
    """Learning rate, β where there is one, batch size, schedule and epochs."""
    config = run.config
    beta = f", β = {config.beta:g}" if config.beta else ""
    return (
        f"learning rate {config.learning_rate:g}{beta}, batch size "
        f"{config.batch_size}, {config.schedule} schedule, {config.epochs} epochs"
    )


def _summary(found: Found, plan: Plan) -> str:
    method = recommended(found)
    own = found.reported[method]
    reached = percent(mean_and_interval(accuracies(own, found.classes)))
    told = [
        f"Train {plan['dataset']} with {title(method)}: {in_words(own[0])}. It reaches "
        f"{reached} of the test images, n = {len(own)} seeds.",
        _why(found),
    ]
    edges = {title(each): at_edge(found, each) for each in found.reported}
    if any(edges.values()):
        best = (f"{' and '.join(own)} of {each}" for each, own in edges.items() if own)
        told.append(
            f"At an end of what was tried lie the best {', and the best '.join(best)}: "
            "better may lie beyond."
        )
    lost = sum(diverged(run, found.classes) for run in own)
    if lost:
        told.append(
            f"{lost} of these runs diverged, so look for a lower learning rate before "
            "relying on this."
        )
    told.append(f"{len(found.runs)} runs took {wall_time(found.runs)}.")
    return " ".join(told)


def _why(found: Found) -> str:
    """What momentum gains, and what follows from it."""
    sgd, momentum = found.reported
    gained = gain(found)
    told = f"{title(momentum)} − {title(sgd)}, each tuned with as many trials, paired "
    told += f"by seed: {in_points(gained)}; {verdict(gained)}."
    if sign(gained) == 0:
        told += f" So {title(sgd)}, the simpler one, is recommended."
    if sign(gained) < 0:
        told += f" {title(sgd)} is recommended for want of better."
    return told


def _use(found: Found) -> Section:
    method = recommended(found)
    config = found.reported[method][0].config
    return Section(
        "To use it",
        (
            f"{METHODS[method].arm.equation}. The optimizer is built exactly as it was "
            "trained here, its schedule counted in steps over all epochs.",
        ),
        code=snippet(config, found.images),
    )


def _evidence(found: Found) -> Section:
    header = ("Method", "Learning rate", "β", "Effective rate", "Batch size")
    rows = []
    for method, own in found.reported.items():
        trial, config = winner(found, method).trial, own[0].config
        rows.append(
            [
                title(method),
                config.learning_rate,
                config.beta,
                trial.effective_rate,
                trial.batch_size,
                config.schedule,
                *mean_and_interval(accuracies(own, found.classes)).shown(ACCURACIES),
                sum(diverged(run, found.classes) for run in own),
                len(own),
            ]
        )
    table = Table(
        "The best of each method, with seeds on which nothing was tuned.",
        (*header, "Schedule", "Test accuracy", "From", "To", "Diverged", "n"),
        rows,
        dict.fromkeys(("Test accuracy", "From", "To"), "{:.2%}"),
    )
    reads = sum(len(own) for own in found.reported.values())
    return Section(
        "Is momentum worth it here?",
        (
            _why(found),
            f"The test images were read {reads} times, once by each of these runs; a "
            "run that diverged counts as 0.",
        ),
        figures=(tune_figures.seeds(found),),
        tables=(table,),
    )


def _settings(found: Found, onward: str | None) -> Section:
    rows = [
        [title(method), *_row(candidate, runs, found.classes)]
        for method, results in found.settled.items()
        for candidate, runs in results.items()
    ]
    header = ("Method", "Schedule", "Batch size", "β", "Effective rate")
    table = Table(
        "Every trial of all epochs; one that diverged counts as 0.",
        (*header, "Learning rate", "Validation accuracy", "Runs"),
        rows,
        {"Validation accuracy": "{:.2%}"},
    )
    factors = " and ".join(f"{factor:g}" for factor in found.budget.factors)
    return Section(
        "Batch size, schedule and rate",
        (
            f"The best trials of the screening, {found.budget.finalists} of each "
            "method, with every batch size and schedule; the rate is given in "
            "proportion to the batch size. Then the best of each method at rates "
            f"{factors} times lower and higher, the farther ones only where a nearer "
            "one was best, and then for both methods.",
            *_open_end(found, onward),
        ),
        figures=(tune_figures.settings(found, table),),
        code=onward,
    )


def _open_end(found: Found, onward: str | None) -> list[str]:
    """That a batch size beyond those that were tried may be better, if it may."""
    best = [
        f"{title(method)} ({winner(found, method).trial.batch_size})"
        for method in found.reported
        if "batch size" in at_edge(found, method)
    ]
    if not best:
        return []
    sizes = found.budget.batch_sizes
    tries = f"The command at the end of this section tries {_listed(beyond(found))} too"
    return [
        f"The best batch size of {' and of '.join(best)} is at an end of those that "
        f"were tried, {min(sizes)} to {max(sizes)}, and none was added: a better one "
        f"may lie beyond. {tries if onward else 'The data allow no other'}."
    ]


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _row(candidate: Candidate, runs: Sequence[Run], classes: int) -> list[Cell]:
    trial = candidate.trial
    settings = candidate.schedule, trial.batch_size, trial.beta, trial.effective_rate
    accuracy = mean_score(runs, classes).accuracy
    return [*settings, runs[0].config.learning_rate, accuracy, len(runs)]


def _screening(found: Found) -> Section:
    budget, momentum = found.budget, list(found.reported)[1]
    return Section(
        "Screening",
        (
            f"All methods at batch size {budget.batch_sizes[0]} and a constant rate; "
            f"epochs: {budget.screening_epochs}. {title(momentum)} had the better "
            "best trial of the two momenta, and went on.",
        ),
        figures=sweep_maps.maps(found.screening),
    )


def _trials(found: Found) -> Section:
    header = ("Method", "Screening", "All epochs", "Together")
    rows = []
    for method in found.screening.budget.methods:
        screened = len(found.screening.of(method))
        later = len(found.settled.get(method, {}))
        rows.append((title(method), screened, later, screened + later))
    return Section(
        "Equal trials",
        (
            "A method has as many trials as SGD, for as many epochs each; tuning and "
            "final runs share no seed.",
        ),
        tables=(Table("Trials of each method.", header, rows),),
    )

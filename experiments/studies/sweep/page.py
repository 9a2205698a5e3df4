"""The page of a sweep: its results in sentences and tables."""

import math
from collections.abc import Sequence

from experiments.records import runs as records
from experiments.records.plan import Plan, digest
from experiments.reporting.page import Page, Section, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    DIFFERENCES,
    in_points,
    mean_and_interval,
    percent,
    verdict,
    wall_time,
)
from experiments.studies.methods import METHODS, title
from experiments.studies.paired import accuracies, difference
from experiments.studies.sweep import figures
from experiments.studies.sweep.figures import OTHER, RATE, as_percent
from experiments.studies.sweep.options import BUDGETS
from experiments.studies.sweep.results import (
    SweepResults,
    TrialResult,
    best,
    good_decades,
)
from experiments.studies.sweep.space import Side, can_extend, edges
from experiments.studies.terms import EFFECTIVE_RATE, paired_seeds
from experiments.studies.validation import count_diverged

# A run of the paper preset, 400,000 images, on two CPU cores: docs/performance.md.
_PAPER_SECONDS = 52
_AXIS = {"effective_rate": "the effective learning rate", "one_minus_beta": OTHER}


def page(swept: SweepResults, plan: Plan, command: str) -> Page:
    """The page of a sweep; `command` repeats it."""
    return Page(
        study="sweep",
        title=f"How far momentum helps, tuned as well as SGD, on {plan['dataset']}",
        summary=_summary(swept, plan),
        sections=(
            _gains(swept),
            space_section(swept),
            Section("The map of each method", figures=figures.maps(swept)),
            _sensitivity(swept),
            _stability(swept),
            _trials(swept),
            _full_size(swept),
        ),
        plan=plan,
        plan_hash=digest(plan),
        command=command,
        provenance=records.provenance(swept.runs),
    )


def _summary(swept: SweepResults, plan: Plan) -> str:
    tops, sgd = best(swept.results), swept.final["sgd"]
    count = len(swept.trials_of("sgd"))
    sentences = [
        f"On {plan['dataset']}, after {count} trials of each method, test accuracies "
        f"over {paired_seeds(len(sgd))}:"
    ]
    for method, runs in swept.final.items():
        accuracy = mean_and_interval(accuracies(runs, swept.classes))
        words = f"{title(method)} ({_settings(tops[method])}) {percent(accuracy)}"
        if method != "sgd":
            gain = difference(runs, sgd, swept.classes)
            words += f", {in_points(gain)} against SGD: {verdict(gain)}"
        sentences.append(f"{words}.")
    outside = [title(method) for method in tops if _open_sides(swept, method)]
    if outside:
        sentences.append(
            f"The best trial of {' and of '.join(outside)} is still at an edge of the "
            "space, so a better one may lie beyond."
        )
    shares = (
        f"{_diverged_share(swept.trials_of(method)):.0%} of {title(method)}"
        for method in tops
    )
    sentences.append(f"Trials that diverged: {', '.join(shares)}.")
    sentences.append(f"{len(swept.runs)} runs took {wall_time(swept.runs)}.")
    return " ".join(sentences)


def _diverged_share(results: Sequence[TrialResult]) -> float:
    return sum(result.diverged > 0 for result in results) / len(results)


def _settings(result: TrialResult) -> str:
    trial, config = result.trial, result.runs[0].config
    beta = f", β = {trial.beta:g}" if METHODS[trial.method].tunes_beta else ""
    return f"α = {config.learning_rate:g}{beta}, batch size {trial.batch_size}"


def _gains(swept: SweepResults) -> Section:
    """The best trial of each method, with seeds on which nothing was tuned."""
    equations = (f"{title(m)}: {METHODS[m].arm.equation}." for m in swept.final)
    reads = sum(run.config.test for run in swept.runs)
    return Section(
        "What momentum gains",
        (
            " ".join(equations),
            "Each method runs its own best trial, chosen by validation accuracy, with "
            f"{swept.budget.seeds} new seeds. Runs of one seed start from the same "
            "parameters and see the images in the same order, so differences are taken "
            f"seed by seed. The test images were read {reads} times: once by each of "
            "these runs.",
        ),
        figures=(figures.final(swept),),
        tables=(_accuracies(swept), _differences(swept)),
    )


def _accuracies(swept: SweepResults) -> Table:
    tops = best(swept.results)
    rows = []
    for method, runs in swept.final.items():
        trial = tops[method].trial
        rows.append(
            [
                title(method),
                runs[0].config.learning_rate,
                trial.beta if METHODS[method].tunes_beta else None,
                trial.effective_rate,
                trial.batch_size,
                len(runs),
                *mean_and_interval(accuracies(runs, swept.classes)).shown(ACCURACIES),
                mean_and_interval([run.test_loss for run in runs]).mean,
            ]
        )
    header = ["method", "α", "β", "α/(1 − β)", "batch size", "n", "test accuracy"]
    header += ["from", "to", "test loss"]
    caption = "Final runs: means with 95% intervals (Student's t)."
    return Table(caption, header, rows, as_percent(("test accuracy", "from", "to")))


def _differences(swept: SweepResults) -> Table:
    rows = []
    for method, runs in swept.final.items():
        if method != "sgd":
            gain = difference(runs, swept.final["sgd"], swept.classes)
            values = [None if x is None else 100 * x for x in gain.shown(DIFFERENCES)]
            rows.append([title(method), len(runs), *values, verdict(gain)])
    return Table(
        "Paired differences from SGD in test accuracy, in percentage points, with 95% "
        "intervals.",
        ["method", "n", "points", "from", "to", "verdict"],
        rows,
        dict.fromkeys(("points", "from", "to"), "{:+.2f}"),
    )


def space_section(swept: SweepResults) -> Section:
    """Where the sweep searched, how the space grew, and whether the best lie inside."""
    rows = []
    for number, tried in enumerate(swept.rounds, start=1):
        reason = "as declared"
        if tried.side is not None:
            methods = " and of ".join(map(title, tried.wanted_by))
            reason = f"the best trial of {methods} was at {_end(tried.side)}"
        count = len(tried.points.line) * len(swept.budget.batch_sizes)
        bounds = (f"{axis.low:g} to {axis.high:g}" for axis in tried.space)
        rows.append([number, *bounds, count, reason])
    header = ["round", RATE, OTHER, "trials of each method", "why"]
    places = [f"{title(method)}: {_place(swept, method)}." for method in swept.final]
    sizes = swept.budget.batch_sizes
    if len(sizes) > 1:
        places.append(f"The batch sizes were given: {', '.join(map(str, sizes))}.")
    return Section(
        "The space",
        (
            EFFECTIVE_RATE,
            "All methods have the same space and equally many trials in it. SGD, which "
            "is momentum at β = 0, spends all of its trials on the learning rate. If a "
            "best trial lies in the outermost eighth of an axis, the space grows on "
            "that side by half of the declared axis, for all methods.",
            " ".join(places),
        ),
        tables=(Table("Rounds of trials.", header, rows),),
    )


def _end(side: Side) -> str:
    return f"the {'upper' if side.high else 'lower'} end of {_AXIS[side.axis]}"


def _open_sides(swept: SweepResults, method: str) -> list[Side]:
    return edges(swept.rounds[-1].space, best(swept.results)[method].trial)


def _place(swept: SweepResults, method: str) -> str:
    """Whether the best trial lies inside; if not, why the sweep went no further."""
    sides = _open_sides(swept, method)
    if not sides:
        return "the best trial lies inside"
    reasons = []
    for side in sides:
        why = "the plan allows no more extensions"
        if not can_extend(swept.rounds[-1].space, side):
            why = "the space can't grow there"
            if side == Side("one_minus_beta", high=True):
                why += ", as β = 0 is SGD itself"
        reasons.append(f"the best trial is at {_end(side)}, and {why}")
    return "; ".join(reasons)


def _sensitivity(swept: SweepResults) -> Section:
    return Section(
        "How much the tuning matters",
        (
            "The same trials, cut in three ways. At equal learning rate α, the steps "
            "of momentum settle at 1/(1 − β) times those of SGD. At equal effective "
            "learning rate they settle at the same length, and what difference "
            "remains is due to momentum. The best of more trials is higher: the table "
            "has the counts.",
        ),
        figures=(
            figures.by_rate(swept),
            figures.by_beta(swept),
            figures.budget_curves(swept),
        ),
    )


def _stability(swept: SweepResults) -> Section:
    """How many trials diverged, and from which effective rates on."""
    rows = []
    for method in swept.budget.methods:
        results = swept.trials_of(method)
        lost = [r.trial.effective_rate for r in results if r.diverged]
        trained = [r.trial.effective_rate for r in results if not r.diverged]
        counts = len(results), len(lost), _diverged_share(results)
        ends = min(lost, default=None), max(trained)
        rows.append([title(method), *counts, *ends, good_decades(results)])
    final = [run for runs in swept.final.values() for run in runs]
    header = ["method", "trials", "diverged", "share"]
    header += ["lowest rate that diverged", "highest rate that trained"]
    header += ["decades within 2 points of the best"]
    caption = "Divergence over the space; rates are effective learning rates."
    return Section(
        "How wide the stable range is",
        (
            "A run diverged if neither its training nor its validation loss of the "
            "last epoch is below that of guessing, ln(classes), or one of them is not "
            "finite. A trial diverged if one of its runs did; it counts as the worst. "
            f"Of the {len(final)} final runs, "
            f"{count_diverged(final, swept.classes)} diverged.",
        ),
        tables=(Table(caption, header, rows, {"share": "{:.0%}"}),),
    )


def _trials(swept: SweepResults) -> Section:
    header = ["method", "α/(1 − β)", "1 − β", "α", "β", "batch size"]
    header += ["validation accuracy", "validation loss", "run"]
    rows = [
        [
            title(result.trial.method),
            result.trial.effective_rate,
            result.trial.one_minus_beta,
            result.runs[0].config.learning_rate,
            result.trial.beta,
            result.trial.batch_size,
            result.accuracy,
            math.nan if result.diverged else -result.score.negative_loss,
            " ".join(run.config_hash for run in result.runs),
        ]
        for result in swept.results
    ]
    final = [
        [title(m), run.config.seed, run.test_accuracy, run.test_loss, run.config_hash]
        for m, runs in swept.final.items()
        for run in runs
    ]
    accuracy = as_percent(("validation accuracy", "test accuracy"))
    columns = ["method", "seed", "test accuracy", "test loss", "run"]
    return Section(
        "All trials and runs",
        ("Runs are named as in runs.jsonl, which has every epoch of each.",),
        tables=(
            Table("Trials, in the order of the plan.", header, rows, accuracy),
            Table("Final runs.", columns, final, accuracy),
        ),
    )


def _full_size(swept: SweepResults) -> Section:
    paper = BUDGETS["paper"]
    trials = len(paper.methods) * len(paper.batch_sizes) * paper.trials
    least = trials * paper.tuning_seeds + len(paper.methods) * paper.seeds
    hours = [_PAPER_SECONDS * n / 3600 for n in (least, 2 * least)]
    return Section(
        "At full size",
        (
            f"This sweep had {len(swept.runs)} runs of {swept.budget.epochs} epochs. "
            f"--preset paper has {least} of {paper.epochs} epochs on {paper.dataset} "
            "before any extension of the space, and up to twice as many with two: "
            f"at about {_PAPER_SECONDS} seconds a run on two CPU cores, "
            f"{hours[0]:.0f} to {hours[1]:.0f} hours.",
        ),
    )

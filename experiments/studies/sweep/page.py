"""The page of a sweep: from runs to tables and sentences."""

import math
from collections.abc import Sequence

from experiments.records import runs as records
from experiments.records.plan import Plan, digest
from experiments.reporting.page import Page, Section, Table
from experiments.reporting.statistics import (
    in_points,
    mean_and_interval,
    percent,
    verdict,
    wall_time,
)
from experiments.studies.methods import METHODS
from experiments.studies.paired import accuracies, difference
from experiments.studies.sweep import figures
from experiments.studies.sweep import final as sweep_final
from experiments.studies.sweep import maps as sweep_maps
from experiments.studies.sweep import space_section as sweep_space
from experiments.studies.sweep.figures import as_percent, title
from experiments.studies.sweep.plan import BUDGETS
from experiments.studies.sweep.results import Found, Result, best, good_decades
from experiments.studies.validation import diverged

# A run of the paper preset, 400,000 images, on two CPU cores: docs/performance.md.
_PAPER_SECONDS = 52


def page(found: Found, plan: Plan, command: str) -> Page:
    """All that was found.

    Args:
      found: by a sweep.
      plan: as it was hashed before the first run.
      command: that repeats the sweep.
    """
    return Page(
        study="sweep",
        title=f"How far momentum helps, tuned as well as SGD, on {plan['dataset']}",
        summary=_summary(found, plan),
        sections=(
            sweep_final.section(found),
            sweep_space.section(found),
            Section("The map of each method", figures=sweep_maps.maps(found)),
            _sensitivity(found),
            _stability(found),
            _trials(found),
            _full_size(found),
        ),
        plan=plan,
        plan_hash=digest(plan),
        command=command,
        provenance=records.provenance(found.runs),
    )


def _summary(found: Found, plan: Plan) -> str:
    tops, sgd = best(found.results), found.final["sgd"]
    tuned = len(found.of("sgd"))
    told = [
        f"On {plan['dataset']}, after {tuned} trials of each method, n = {len(sgd)} "
        "paired seeds, test accuracies:"
    ]
    for method, own in found.final.items():
        accuracy = mean_and_interval(accuracies(own, found.classes))
        words = f"{title(method)} ({_setting(tops[method])}) {percent(accuracy)}"
        if method != "sgd":
            gain = difference(own, sgd, found.classes)
            words += f", {in_points(gain)} against SGD: {verdict(gain)}"
        told.append(f"{words}.")
    outside = [
        title(method) for method in tops if sweep_space.open_sides(found, method)
    ]
    if outside:
        told.append(
            f"The best trial of {' and of '.join(outside)} is still at an edge of the "
            "space, so a better one may lie beyond."
        )
    shares = (f"{_lost_share(found.of(m)):.0%} of {title(m)}" for m in tops)
    told.append(f"Of the trials diverged {', '.join(shares)}.")
    told.append(f"{len(found.runs)} runs took {wall_time(found.runs)}.")
    return " ".join(told)


def _lost_share(own: Sequence[Result]) -> float:
    return sum(each.diverged > 0 for each in own) / len(own)


def _setting(result: Result) -> str:
    trial, config = result.trial, result.runs[0].config
    beta = f", β = {trial.beta:g}" if METHODS[trial.method].tunes_beta else ""
    return f"α = {config.learning_rate:g}{beta}, batch size {trial.batch_size}"


def _sensitivity(found: Found) -> Section:
    return Section(
        "How much the tuning matters",
        (
            "The same trials, cut in three ways. At equal learning rate α momentum has "
            "the longer steps in the long run, by 1/(1 − β); at equal effective "
            "learning rate that is taken out, and what remains is due to momentum. "
            "The best of more trials is higher: the table has the counts.",
        ),
        figures=(
            figures.by_rate(found),
            figures.by_beta(found),
            figures.budget_curves(found),
        ),
    )


def _stability(found: Found) -> Section:
    """How often, and from which effective rates on, trials are lost."""
    rows = []
    for method in found.budget.methods:
        own = found.of(method)
        lost = [each.trial.effective_rate for each in own if each.diverged]
        kept = [each.trial.effective_rate for each in own if not each.diverged]
        counts = len(own), len(lost), _lost_share(own)
        ends = min(lost, default=None), max(kept)
        rows.append([title(method), *counts, *ends, good_decades(own)])
    final = sum(
        diverged(run, found.classes) for own in found.final.values() for run in own
    )
    header = ["method", "trials", "diverged", "share"]
    header += ["lowest rate that diverged", "highest rate that trained"]
    header += ["decades within 2 points of the best"]
    caption = "Divergence over the space; rates are effective learning rates."
    return Section(
        "How wide the stable range is",
        (
            "A trial diverged where its last training loss is not below that of "
            "guessing, ln(classes), or not finite; it counts as the worst. Of the "
            f"{sweep_final.reads(found)} final runs {final} diverged.",
        ),
        tables=(Table(caption, header, rows, {"share": "{:.0%}"}),),
    )


def _trials(found: Found) -> Section:
    header = [
        "method",
        "α/(1 − β)",
        "1 − β",
        "α",
        "β",
        "batch size",
        "validation accuracy",
    ]
    header += ["validation loss", "run"]
    rows = [
        [
            title(each.trial.method),
            each.trial.effective_rate,
            each.trial.one_minus_beta,
            each.runs[0].config.learning_rate,
            each.trial.beta,
            each.trial.batch_size,
            each.accuracy,
            math.nan if each.diverged else -each.score.negative_loss,
            " ".join(run.config_hash for run in each.runs),
        ]
        for each in found.results
    ]
    final = [
        [title(m), run.config.seed, run.test_accuracy, run.test_loss, run.config_hash]
        for m, own in found.final.items()
        for run in own
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


def _full_size(found: Found) -> Section:
    paper = BUDGETS["paper"]
    each = len(paper.methods) * len(paper.batch_sizes) * paper.trials
    least = each * paper.tuning_seeds + len(paper.methods) * paper.seeds
    hours = [_PAPER_SECONDS * n / 3600 for n in (least, 2 * least)]
    return Section(
        "At full size",
        (
            f"This sweep had {len(found.runs)} runs of {found.budget.epochs} epochs. "
            f"--preset paper has {least} of {paper.epochs} epochs on {paper.dataset} "
            "before any extension of the space, and up to twice as many with two: "
            f"at about {_PAPER_SECONDS} seconds a run on two CPU cores, "
            f"{hours[0]:.0f} to {hours[1]:.0f} hours.",
        ),
    )

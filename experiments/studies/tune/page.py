"""The page of `tune`: the recommendation first, then the evidence for it."""

import math
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.records import runs as records
from experiments.records.plan import Plan, digest
from experiments.records.runs import Run
from experiments.reporting.drawing import (
    heat_map,
    legend,
    line_of_chance,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Page, Section, Table
from experiments.reporting.statistics import (
    counted,
    difference_in_words,
    direction,
    mean_and_interval,
    value_in_words,
    verdict,
    wall_time,
)
from experiments.studies.methods import METHODS, title
from experiments.studies.paired import tested
from experiments.studies.sweep.figures import maps
from experiments.studies.sweep.page import space_section
from experiments.studies.terms import (
    axis_label,
    judged,
    paired_seeds,
    values_of,
    worst,
)
from experiments.studies.tune.plan import (
    TuneResults,
    at_edge,
    beyond,
    gain,
    recommended,
    winner,
)
from experiments.studies.tune.snippet import snippet, training_snippet
from experiments.studies.validation import count_diverged, validated


def page(
    tuned: TuneResults, plan: Plan, command: str, extended_command: str | None = None
) -> Page:
    """The page of the study, which `command` repeats.

    `extended_command` is the one that also tries the batch sizes of `beyond`.
    """
    return Page(
        study="tune",
        title=f"What to train {plan['dataset']} with",
        summary=_summary(tuned, plan),
        sections=(
            *_use(tuned),
            *(_evidence(tuned), _settings(tuned, extended_command)),
            *(_screening(tuned), space_section(tuned.screening), _trials(tuned)),
        ),
        plan=plan,
        plan_hash=digest(plan),
        command=command,
        provenance=records.provenance(tuned.runs),
        of_shares=tuned.measure.metric.is_share,
    )


def _in_words(run: Run) -> str:
    """Learning rate, β if there is one, batch size, schedule and epochs."""
    config = run.config
    beta = f", β = {config.beta:g}" if config.beta else ""
    return (
        f"learning rate {config.learning_rate:g}{beta}, batch size "
        f"{config.batch_size}, {config.schedule} schedule, "
        f"{counted(config.epochs, 'epoch')}"
    )


def _reached(tuned: TuneResults, method: str) -> str:
    values = tested(tuned.reported[method], tuned.measure)
    return value_in_words(mean_and_interval(values), tuned.measure.metric)


def _summary(tuned: TuneResults, plan: Plan) -> str:
    sentences = [_recommendation(tuned, plan), _why(tuned)]
    edges = {title(method): at_edge(tuned, method) for method in tuned.reported}
    if any(edges.values()):
        best = (
            f"{' and '.join(settings)} of {name}"
            for name, settings in edges.items()
            if settings
        )
        sentences.append(
            "A better setting may lie beyond those that were tried: at an end of their "
            f"range is the best {', and the best '.join(best)}."
        )
    method = recommended(tuned)
    lost = count_diverged(tuned.reported[method], tuned.measure) if method else 0
    if lost:
        sentences.append(
            f"{lost} of these runs diverged, so look for a lower learning rate before "
            "relying on this."
        )
    ran = counted(len(tuned.runs), "run")
    return " ".join([*sentences, f"{ran} took {wall_time(tuned.runs)}."])


def _recommendation(tuned: TuneResults, plan: Plan) -> str:
    """What to train with; or, without a recommendation, what was reached."""
    method, noun, metric = recommended(tuned), tuned.measure.noun, tuned.measure.metric
    if method is not None and not tuned.smoke:
        runs = tuned.reported[method]
        return (
            f"Train {plan['dataset']} with {title(method)}: {_in_words(runs[0])}. Its "
            f"test {judged(metric)} is {_reached(tuned, method)}, over "
            f"{paired_seeds(len(runs), noun)}."
        )
    both = "; ".join(
        f"{title(each)} ({_in_words(runs[0])}) {_reached(tuned, each)}"
        for each, runs in tuned.reported.items()
    )
    seeds = paired_seeds(len(next(iter(tuned.reported.values()))), noun)
    reached = f"test {values_of(metric)} over {seeds}: {both}; "
    reached += f"{_value_of_least(tuned)}."
    if tuned.smoke:
        return f"On {plan['dataset']}, {reached}"
    remedy = "Look for wrong labels, give more --epochs, or another --model."
    if noun != "image":
        remedy = "Look for mistakes in the data, or give more --epochs."
    return (
        f"Nothing that was tried on {plan['dataset']} is better than {_least(tuned)}, "
        f"so nothing is recommended: {reached} {remedy}"
    )


def _least(tuned: TuneResults) -> str:
    """What a method must beat to be recommended, in words."""
    return tuned.measure.guessing if tuned.chance is None else "chance"


def _value_of_least(tuned: TuneResults) -> str:
    measure, chance = tuned.measure, tuned.chance
    if chance is not None:
        return f"chance is {measure.metric.shown(chance)}"
    return (
        f"the {measure.metric.words} of {measure.guessing} is "
        f"{measure.metric.shown(measure.worst)}"
    )


def _about_least(tuned: TuneResults) -> str:
    words, noun = _value_of_least(tuned), tuned.measure.noun
    words = words[0].upper() + words[1:]
    if tuned.chance is None:
        return f"{words} on the validation {noun}s."
    return (
        f"{words}, the share of the most frequent class among the training {noun}s: "
        "what always the same answer reaches."
    )


def _why(tuned: TuneResults) -> str:
    """The gain of momentum, and what follows from it."""
    sgd, momentum = tuned.reported
    gained, method = gain(tuned), recommended(tuned)
    metric = tuned.measure.metric
    better = direction(gained, metric)
    words = f"{title(momentum)} − {title(sgd)}, tuned with equally many trials, paired "
    words += f"by seed: {difference_in_words(gained, metric)}; "
    words += f"{verdict(gained, metric, smoke=tuned.smoke)}."
    if tuned.smoke or method is None:
        return words
    if method == momentum and better <= 0:
        words += f" {title(momentum)} is recommended, as {title(sgd)} is not better "
        return f"{words}than {_least(tuned)}."
    if better == 0:
        words += f" So {title(sgd)}, the simpler one, is recommended."
    if better < 0:
        words += f" {title(sgd)} is recommended because nothing tried was better."
    return words


def _use(tuned: TuneResults) -> list[Section]:
    """The code of the recommendation, if there is one."""
    method = None if tuned.smoke else recommended(tuned)
    if method is None:
        return []
    config = tuned.reported[method][0].config
    does, where, code = "builds", "", snippet(config, tuned.examples)
    if tuned.make_problem:
        does = "trains your problem with"
        code = training_snippet(config, tuned.make_problem)
        where = (
            " Save it in the directory of your file and run it there, with the "
            "directory of this repository in PYTHONPATH."
        )
    return [
        Section(
            "To use it",
            (
                f"{METHODS[method].arm.equation}. The code {does} exactly the "
                "optimizer that was trained here; its schedule counts the steps of all "
                f"epochs.{where}",
            ),
            code=code,
        )
    ]


def _evidence(tuned: TuneResults) -> Section:
    measure, metric, noun = tuned.measure, tuned.measure.metric, tuned.measure.noun
    rows = []
    for method, runs in tuned.reported.items():
        trial, config = winner(tuned, method).trial, runs[0].config
        rows.append(
            [
                title(method),
                *mean_and_interval(tested(runs, measure)).shown(metric.possible),
                len(runs),
                config.learning_rate,
                config.beta,
                trial.batch_size,
                config.schedule,
                trial.effective_rate,
                count_diverged(runs, measure),
            ]
        )
    columns = f"Test {metric.words}", "From", "To"
    header = ("Method", *columns, "n", "Learning rate", "β")
    table = Table(
        "The best of each method, with seeds on which nothing was tuned. The effective "
        "rate is α/(1 − β), and α for SGD: under a constant gradient, steps settle at "
        "it times the gradient.",
        (*header, "Batch size", "Schedule", "Effective rate", "Diverged"),
        rows,
        dict.fromkeys(columns, metric.format),
    )
    reads = sum(len(runs) for runs in tuned.reported.values())
    return Section(
        "Is momentum worth it here?",
        (
            _why(tuned),
            f"{_about_least(tuned)} The test {noun}s were read {reads} times, once by "
            f"each of these runs. A run that diverged counts as {worst(measure)}.",
            "Each method has its own batch size and schedule here. The study crossval "
            f"keeps both fixed, and if its verdict on these {noun}s is another, that "
            "is why, or its epochs or seeds are not these: a schedule can do for SGD "
            "what momentum does at a constant rate.",
        ),
        figures=(_seeds_figure(tuned),),
        tables=(table,),
    )


def _seeds_figure(tuned: TuneResults) -> Figure:
    """Test results of both methods, seed by seed."""
    metric, chance = tuned.measure.metric, tuned.chance
    values = {
        title(method): tested(runs, tuned.measure)
        for method, runs in tuned.reported.items()
    }
    first, second = values.values()
    gains = [b - a for a, b in zip(first, second, strict=True)]
    seeds = [run.config.seed for run in next(iter(tuned.reported.values()))]
    header = ("Seed", *values, "Difference")
    formats = dict.fromkeys(values, metric.format)
    formats["Difference"] = metric.difference_format
    rows = list(zip(seeds, first, second, gains, strict=True))
    caption = f"Test {judged(metric)} by seed; a line joins the paired runs of one "
    caption += "seed."
    if chance is not None:
        caption += f" Always the same answer would reach {metric.shown(chance)}, "
        caption += "chance."

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        pairs = np.array([first, second]) * metric.scale
        axes.vlines(seeds, *pairs, color=ink, linewidth=0.8, alpha=0.5)
        drawn = strokes(values)
        for label, mark, reached in zip(drawn, "os", pairs, strict=True):
            axes.plot(seeds, reached, mark, color=drawn[label].color, label=label)
        axes.set(xlabel="Seed", ylabel=axis_label("Test", metric), xticks=seeds)
        if chance is not None:
            line_of_chance(axes, metric.scale * chance, ink)
        plain_axes(axes, ink)
        legend(canvas, axes)

    return Figure("seeds", caption, draw, Table(caption, header, rows, formats))


def _settings(tuned: TuneResults, extended_command: str | None) -> Section:
    measure, metric = tuned.measure, tuned.measure.metric
    rows = [
        [
            title(method),
            fmean(validated(run, measure) for run in runs),
            candidate.schedule,
            candidate.trial.batch_size,
            candidate.trial.beta,
            candidate.trial.effective_rate,
            runs[0].config.learning_rate,
            len(runs),
        ]
        for method, tried in tuned.settled.items()
        for candidate, runs in tried.items()
    ]
    column = f"Validation {metric.words}"
    header = ("Method", column, "Schedule", "Batch size", "β")
    table = Table(
        f"Every trial over the full epochs; a run that diverged counts as "
        f"{worst(measure)}.",
        (*header, "Effective rate", "Learning rate", "Runs"),
        rows,
        {column: metric.format},
    )
    factors = " and ".join(f"{factor:g}" for factor in tuned.budget.factors)
    return Section(
        "Batch size, schedule and rate",
        (
            f"{_finalists(tuned.budget.finalists)} of each method in the screening run "
            "with every batch size and schedule; the rate is scaled in proportion "
            "to the batch size. The best of each method then runs at rates "
            f"{factors} times lower and higher. The farther rates are tried only if a "
            "nearer one was best for a method, and then for both methods.",
            *_open_end(tuned, extended_command),
        ),
        figures=(_settings_figure(tuned, table),),
        code=extended_command,
    )


def _finalists(count: int) -> str:
    return "The best trial" if count == 1 else f"The {count} best trials"


def _open_end(tuned: TuneResults, extended_command: str | None) -> list[str]:
    """A warning if an untried batch size may be better than the best one tried."""
    best = [
        f"{title(method)} ({winner(tuned, method).trial.batch_size})"
        for method in tuned.reported
        if "batch size" in at_edge(tuned, method)
    ]
    if not best:
        return []
    sizes = tuned.budget.batch_sizes
    more = " and ".join(map(str, beyond(tuned)))
    following = f"The command at the end of this section also tries {more}"
    if not extended_command:
        following = "The data allow no other"
    return [
        f"The best batch size of {' and of '.join(best)} is at an end of those that "
        f"were tried, {min(sizes)} to {max(sizes)}, and none was added: a better one "
        f"may lie beyond. {following}."
    ]


def _settings_figure(tuned: TuneResults, table: Table) -> Figure:
    """The best validation result at each batch size and schedule, by method."""
    sizes = sorted(tuned.budget.batch_sizes)
    schedules, metric, chance = (
        tuned.budget.schedules,
        tuned.measure.metric,
        tuned.chance,
    )
    better = np.fmax if metric.higher_is_better else np.fmin
    tiles = {}
    for method, tried in tuned.settled.items():
        values = np.full((len(schedules), len(sizes)), math.nan)
        for candidate, runs in tried.items():
            column = sizes.index(candidate.trial.batch_size)
            place = schedules.index(candidate.schedule), column
            if count_diverged(runs, tuned.measure) < len(runs):
                mean = fmean(validated(run, tuned.measure) for run in runs)
                values[place] = better(values[place], mean)
        tiles[title(method)] = values
    known = np.concatenate([values.ravel() for values in tiles.values()])
    known = known[np.isfinite(known)]
    limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    caption = (
        f"Validation {judged(metric)} at each batch size and schedule: the best over "
        "the rates and betas tried there. The best of all is framed; at a cross, all "
        "runs diverged"
    )
    style: dict[str, Any] = {"lower_is_better": not metric.higher_is_better}
    if chance is not None:
        caption += "; a number without a tile is no better than chance, "
        caption += metric.shown(chance)
        style["floor"] = chance

    def draw(canvas: Canvas, ink: str) -> None:
        labels, places = list(map(str, sizes)), panels(canvas, len(tiles), 2.6)
        for axes, (name, values) in zip(places, tiles.items(), strict=True):
            heat_map(
                *(axes, values, labels, schedules, ink, metric.format),
                limits=limits,
                **style,
            )
            axes.set(title=name, xlabel="Batch size")

    return Figure("settings", f"{caption}.", draw, table, (8.0, 2.8))


def _screening(tuned: TuneResults) -> Section:
    budget, momentum = tuned.budget, list(tuned.reported)[1]
    return Section(
        "Screening",
        (
            f"All methods ran at batch size {budget.batch_sizes[0]} and a constant "
            f"rate; epochs: {budget.screening_epochs}. {title(momentum)} was chosen, "
            "as its best trial was the better one of the two momenta.",
        ),
        figures=maps(tuned.screening, tuned.chance),
    )


def _trials(tuned: TuneResults) -> Section:
    header = ("Method", "Screening", "All epochs", "Together")
    rows = []
    for method in tuned.screening.budget.methods:
        screened = len(tuned.screening.trials_of(method))
        later = len(tuned.settled.get(method, {}))
        rows.append((title(method), screened, later, screened + later))
    return Section(
        "Equal trials",
        (
            "A method has as many trials as SGD, each of as many epochs. The final "
            "runs use seeds that no tuning run used.",
        ),
        tables=(Table("Trials of each method.", header, rows),),
    )

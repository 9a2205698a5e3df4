"""The page of `lr-decay`: its results in sentences, tables and drawings."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.optimizers.schedules import SCHEDULES
from experiments.records import runs as records
from experiments.records.metric import Metric, Range
from experiments.records.plan import digest
from experiments.records.runs import Run
from experiments.reporting.drawing import (
    STROKES,
    draw_intervals,
    legend,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Page, Section, Table
from experiments.reporting.statistics import (
    Interval,
    counted,
    difference_in_words,
    direction,
    seeds_in_words,
    sign,
    too_close,
    wall_time,
)
from experiments.studies.lr_decay.plan import (
    ARMS,
    CONSTANT,
    CORRECTED,
    INSIDE_GAINS,
    OUTSIDE_GAINS,
    SAME_RATE,
    TUNED,
    TUNED_APART,
    CellRuns,
    Comparison,
    LrDecayResults,
    chosen,
    comparisons,
    difference,
    value,
)
from experiments.studies.lr_decay.rate_drop import Drop, by_equation, measured
from experiments.studies.terms import (
    EFFECTIVE_RATE,
    axis_label,
    judged,
    paired_seeds,
    values_of,
    worst,
)
from experiments.studies.validation import Measure, count_diverged, validated

Answers = Mapping[str, Sequence[Comparison]]  # by question


def page(results: LrDecayResults, command: str) -> Page:
    """The page of the study; `command` repeats it."""
    answers = comparisons(results)
    return Page(
        study="lr-decay",
        title=f"Momentum under schedules of the rate, on {results.plan['dataset']}",
        summary=_summary(results, answers),
        sections=(
            *(_schedules(results), _conventions(results, answers)),
            *(_reason(), _tuning(results)),
        ),
        plan=results.plan,
        plan_hash=digest(results.plan),
        command=command,
        provenance=records.provenance(_all_runs(results)),
        of_shares=results.measure.metric.is_share,
    )


def _summary(results: LrDecayResults, answers: Answers) -> str:
    n, metric = len(next(iter(results.compared.values()))), results.measure.metric
    return " ".join(
        [
            f"On {results.plan['dataset']} with β = {results.plan['beta']}, test "
            f"{values_of(metric)} over {paired_seeds(n, results.measure.noun)}, "
            "with the learning rate inside or outside momentum's buffer:",
            *(_best_schedule(results, arm) for arm in TUNED),
            *_findings(results, answers),
            *([] if results.smoke else _under_tuned(answers, metric)),
        ]
    )


def _findings(results: LrDecayResults, answers: Answers) -> list[str]:
    if results.smoke:
        return []
    metric = results.measure.metric
    return [
        _conclusion(answers[TUNED_APART], "each at its own tuned rate", metric),
        *_control(answers[TUNED_APART], metric),
        _conclusion(answers[SAME_RATE], "both at the rate tuned for outside", metric),
    ]


def _best_schedule(results: LrDecayResults, arm: str) -> str:
    """The schedule with the best mean for one arm, and its lead."""
    metric = results.measure.metric
    cells = [cell for (_, name), cell in chosen(results).items() if name == arm]
    cells.sort(key=lambda cell: -metric.goodness(value(results, cell).mean))
    first = cells[0]
    words = f"{ARMS[arm].title} did best under the {first.schedule} schedule, "
    if len(cells) == 1:
        words = f"{ARMS[arm].title} under the {first.schedule} schedule: "
    words += metric.shown(value(results, first).mean)
    if len(cells) > 1:
        lead = difference(results, first, cells[1])
        doubt = "" if sign(lead) else ", not significantly different from 0"
        if too_close(lead):
            doubt = ", too close to 0 to call"
        ahead = "ahead of" if metric.higher_is_better else "against"
        words += f", {difference_in_words(lead, metric)} {ahead} {cells[1].schedule}"
        words += doubt
    return f"{words}."


def _conclusion(compared: Sequence[Comparison], how: str, metric: Metric) -> str:
    """The changing schedules under which inside and outside differ."""
    compared = [c for c in compared if c.schedule != CONSTANT] or compared
    differing = [c for c in compared if sign(c.difference)]
    close = [c for c in compared if too_close(c.difference)]
    if (n := compared[0].difference.n) < 3:
        return (
            f"Whether inside and outside, {how}, differ is unknown, as "
            f"{seeds_in_words(n)} {'bounds' if n == 1 else 'bound'} nothing."
        )
    if not differing and not close:
        return (
            f"Inside and outside, {how}, do not differ significantly under any "
            "changing schedule."
        )
    clauses = [
        f"{words} under "
        + "; ".join(
            f"{c.schedule}: {difference_in_words(c.difference, metric)}" for c in found
        )
        for words, found in (
            ("differs significantly from 0", differing),
            ("is too close to 0 to call", close),
        )
        if found
    ]
    return f"Inside − outside, {how}, {', and '.join(clauses)}."


def _control(compared: Sequence[Comparison], metric: Metric) -> list[str]:
    """The difference at a constant rate, where the two are the same method."""
    sentences = []
    for comparison in compared:
        rates = comparison.first.rate, comparison.second.rate
        why = "by rounding alone"
        if rates[0] != rates[1]:
            why = f"because tuning happened to choose {rates[0]:g} and {rates[1]:g}"
        if comparison.schedule == CONSTANT:
            sentences.append(
                "At a constant rate they are the same method, and differ by "
                f"{difference_in_words(comparison.difference, metric)}, {why}: a "
                "smaller difference elsewhere says nothing about the conventions."
            )
    return sentences


def _under_tuned(answers: Answers, metric: Metric) -> list[str]:
    lost = [
        f"{ARMS[comparison.first.arm].title} under {comparison.schedule}"
        for question in (INSIDE_GAINS, OUTSIDE_GAINS)
        for comparison in answers[question]
        if direction(comparison.difference, metric) < 0
    ]
    if not lost:
        return []
    return [
        f"Under-tuned: {', '.join(lost)} lost to SGD, which is momentum at β = 0; here "
        "β was given, not tuned."
    ]


def _schedules(results: LrDecayResults) -> Section:
    metric, tuned = results.measure.metric, chosen(results).values()
    rows = []
    for cell, runs in results.compared.items():
        mean, low, high = value(results, cell).shown(metric.possible)
        lost = count_diverged(runs, results.measure)
        rate = "its own" if cell in tuned else "that of outside"
        arm = ARMS[cell.arm].title
        rows.append(
            (cell.schedule, arm, mean, low, high, cell.rate, rate, lost, len(runs))
        )
    columns = f"Test {metric.words}", "From", "To"
    table = Table(
        f"Test {metric.words} after the last epoch: mean and 95% interval over seeds; "
        "the effective rate is the largest under the schedule.",
        (
            *("Schedule", "Method", *columns, "Effective rate"),
            *("Rate tuned for", "Diverged", "n"),
        ),
        rows,
        dict.fromkeys(columns, metric.format),
    )
    titles = (f"{name}: {SCHEDULES[name].title}" for name, _ in chosen(results))
    return Section(
        "Which schedule is best for which method?",
        (
            "; ".join(dict.fromkeys(titles)) + ".",
            EFFECTIVE_RATE,
            *(_best_schedule(results, arm) for arm in TUNED),
        ),
        figures=(_schedules_figure(results, table),),
    )


def _conventions(results: LrDecayResults, answers: Answers) -> Section:
    metric = results.measure.metric
    possible = metric.possible_differences
    rows = [
        (c.schedule, *c.difference.shown(possible), q, c.first.rate, c.second.rate)
        for q, compared in answers.items()
        for c in compared
    ]
    table = Table(
        f"Differences of test {judged(metric)}, first − second, paired by seed.",
        ("Schedule", "Difference", "From", "To", "Compared", "Rate, first", "Second"),
        rows,
        dict.fromkeys(("Difference", "From", "To"), metric.difference_format),
    )
    controls = [c.difference for c in answers[CORRECTED]]
    controls += [
        c.difference
        for question in (TUNED_APART, SAME_RATE)
        for c in answers[question]
        if c.schedule == CONSTANT and c.first.rate == c.second.rate
    ]
    largest = max(abs(control.mean) for control in controls)
    shown = metric.shown_difference(largest).removeprefix("+")
    return Section(
        "Where do the conventions differ?",
        (
            "At a constant rate inside and outside are the same method, and with "
            "momentum correction inside is outside under any schedule. They are "
            "trained as different programs, so a difference between them is rounding, "
            f"amplified by training: at most {shown} in the mean "
            "here. A difference as small as that means nothing. And by chance alone, "
            "one of twenty 95% intervals doesn't contain the true value.",
            *_findings(results, answers),
        ),
        figures=(_differences_figure(answers, metric, table),),
    )


def _reason() -> Section:
    return Section(
        "Why they differ",
        (
            "Inside, the buffer holds steps, which keep the size that they had when "
            "they were added: after a drop of the rate, momentum continues as before "
            "for about 1/(1 − β) steps. Outside, the buffer holds gradients, and the "
            "new rate scales all of them at once. Momentum correction rescales the "
            "steps in the buffer, which turns the first into the second.",
        ),
        figures=(_reaction_figure(),),
    )


def _tuning(results: LrDecayResults) -> Section:
    measure, cells = results.measure, chosen(results).values()
    rates = sorted({cell.rate for cell in results.tuning})
    at_edge = [cell for cell in cells if cell.rate in (rates[0], rates[-1])]
    rows = [
        (
            cell.schedule,
            ARMS[cell.arm].title,
            fmean(validated(run, measure) for run in runs),
            cell.rate,
            count_diverged(runs, measure),
            len(runs),
        )
        for cell, runs in results.tuning.items()
    ]
    table = Table(
        f"Validation {measure.metric.words} of every trial; a run that diverged counts "
        f"as {worst(measure)}.",
        ("Schedule", "Method", "Validation", "Effective rate", "Diverged", "Runs"),
        rows,
        {"Validation": measure.metric.format},
    )
    names = [f"{cell.arm} under {cell.schedule}" for cell in at_edge]
    edge = f"Best rates at an end of this range: {', '.join(names)}."
    edge = edge if names else "Every best rate lies inside this range."
    lost, count = sum(row[4] for row in rows), sum(row[5] for row in rows)
    all_runs = _all_runs(results)
    return Section(
        "How the rates were tuned",
        (
            f"Every schedule and method tried the same {len(rates)} rates, from "
            f"{rates[0]:g} to {rates[-1]:g}. {edge} Diverged: {lost} of "
            f"{counted(count, 'run')}. This page's {counted(len(all_runs), 'run')} "
            f"took {wall_time(all_runs)} without compilation.",
        ),
        figures=(_tuning_figure(results.tuning, measure, table),),
    )


def _all_runs(results: LrDecayResults) -> list[Run]:
    groups = (*results.tuning.values(), *results.compared.values())
    return [run for group in groups for run in group]


def _schedules_figure(results: LrDecayResults, table: Table) -> Figure:
    metric, tuned = results.measure.metric, chosen(results)
    schedules = list(dict.fromkeys(schedule for schedule, _ in tuned))
    series = {
        ARMS[arm].title: [value(results, tuned[name, arm]) for name in schedules]
        for arm in TUNED
    }
    return _intervals_figure(
        "schedules",
        f"Test {judged(metric)} by schedule and method, each at its own tuned rate: "
        "means and 95% intervals over seeds.",
        schedules,
        series,
        axis_label("Test", metric),
        table,
        metric.scale,
        metric.possible,
    )


def _differences_figure(answers: Answers, metric: Metric, table: Table) -> Figure:
    shown = (TUNED_APART, SAME_RATE, CORRECTED)
    what = "points" if metric.is_share else judged(metric)
    return _intervals_figure(
        "differences",
        f"Paired differences of test {judged(metric)} by schedule: means and 95% "
        "intervals. A difference whose interval contains 0 is not significant.",
        [comparison.schedule for comparison in answers[TUNED_APART]],
        {question: [c.difference for c in answers[question]] for question in shown},
        f"Difference, {what}",
        table,
        metric.scale,
        metric.possible_differences,
        zero=True,
    )


def _intervals_figure(
    name: str,
    caption: str,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Interval]],
    xlabel: str,
    table: Table,
    scale: float,
    possible: Range,
    zero: bool = False,
) -> Figure:
    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        draw_intervals(axes, rows, series, scale=scale, possible=possible)
        if zero:
            axes.axvline(0, color=ink, linewidth=0.8)
        axes.set(xlabel=xlabel)
        plain_axes(axes, ink)
        legend(canvas, axes)

    height = 1.0 + 0.55 * len(rows)
    return Figure(name, caption, draw, table, (6.4, height))


def _tuning_figure(tuning: CellRuns, measure: Measure, table: Table) -> Figure:
    """The metric on the validation split over the rates, one panel per schedule."""
    metric = measure.metric
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for cell, runs in tuning.items():
        mean = fmean(validated(run, measure) for run in runs)
        point = cell.rate, metric.scale * mean
        curves.setdefault(cell.schedule, {}).setdefault(cell.arm, []).append(point)
    caption = f"Validation {judged(metric)} of the trials over the effective learning "
    caption += "rate."
    label, limits = "Validation, %", (0.0, 102.0)
    if not metric.is_share:
        label = f"Validation {metric.words}"
        limits = _tuning_limits(tuning, measure)
        caption += f" The axis reaches from the best to {worst(measure)}."

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, len(curves), 2.4)
        for axes, (schedule, arms) in zip(places, curves.items(), strict=True):
            for arm, stroke in strokes(TUNED).items():
                rates, values = zip(*sorted(arms[arm]), strict=True)
                axes.plot(
                    rates,
                    values,
                    marker="o",
                    ms=3.5,
                    label=ARMS[arm].title,
                    color=stroke.color,
                    linestyle=stroke.dash,
                )
            axes.set(title=schedule, xscale="log", ylim=limits)
            axes.set(xlabel="Effective learning rate", ylabel=label)
            plain_axes(axes, ink)
        legend(canvas, places[0])

    return Figure("tuning", caption, draw, table, (8.7, 5.0))


def _tuning_limits(tuning: CellRuns, measure: Measure) -> tuple[float, float]:
    """From the best value to the one that a run that diverged counts as."""
    means = [fmean(validated(run, measure) for run in runs) for runs in tuning.values()]
    best = max(means, key=measure.metric.goodness)
    ends = [end for end in (best, measure.worst) if math.isfinite(end)] or [0.0]
    low, high = min(ends), max(ends)
    margin = 0.05 * (high - low) or 1.0  # all diverged
    return low - margin, high + margin


def _reaction_figure() -> Figure:
    """A drop of the rate on a quadratic without noise."""
    drop = Drop()
    equations = {inside: by_equation(drop, inside) for inside in (True, False)}
    paths = {inside: measured(drop, inside) for inside in (True, False)}
    error = max(abs(equations[i] - paths[i]).max() for i in (True, False))
    header = ("Step", "Inside", "Outside", "Inside, measured", "Outside, measured")
    columns = np.stack([*equations.values(), *paths.values()], axis=1)
    rows = [(step, *row) for step, row in enumerate(columns.tolist())]
    table = Table(
        f"θ by its equation and as the library computes it, in float32: they differ by "
        f"at most {error:.1e}.",
        header,
        rows,
        dict.fromkeys(header[1:], "{:.6f}"),
    )
    caption = (
        f"The rate drops from {drop.learning_rate:g} to "
        f"{drop.factor * drop.learning_rate:g} at step {drop.at}, on ½θ² without "
        f"noise, β = {drop.beta:g}: lines by equation, marks as measured. Inside, the "
        "old speed persists and θ overshoots; outside, it slows down at once."
    )

    def draw(canvas: Canvas, ink: str) -> None:
        places = panels(canvas, 2)
        for inside, stroke in zip((True, False), STROKES, strict=False):
            label = ARMS["inside" if inside else "outside"].title
            for axes, values in zip(places, (np.diff, np.asarray), strict=True):
                axes.plot(
                    values(equations[inside]),
                    label=label,
                    color=stroke.color,
                    linestyle=stroke.dash,
                )
                axes.plot(
                    values(paths[inside]),
                    marker=".",
                    markevery=3,
                    color=stroke.color,
                    linestyle="none",
                )
        for axes, ylabel in zip(places, ("Step θₜ₊₁ − θₜ", "Parameter θ"), strict=True):
            axes.axvline(drop.at, color=ink, linewidth=0.8, linestyle="dotted")
            axes.set(xlabel="Step", ylabel=ylabel)
            plain_axes(axes, ink)
        legend(canvas, places[0])

    return Figure("reaction", caption, draw, table, (8.0, 3.2))

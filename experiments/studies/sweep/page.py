"""The page of a sweep: its results in sentences and tables."""

import math
from collections.abc import Mapping, Sequence

from experiments.records import runs as records
from experiments.records.plan import Plan, digest
from experiments.reporting.page import Cell, Page, Section, Table
from experiments.reporting.statistics import (
    counted,
    difference_in_words,
    mean_and_interval,
    value_in_words,
    verdict,
    wall_time,
)
from experiments.studies.methods import METHODS, title
from experiments.studies.paired import difference, tested
from experiments.studies.sweep import figures
from experiments.studies.sweep.figures import OTHER, RATE, formats
from experiments.studies.sweep.results import (
    SweepResults,
    TrialResult,
    best,
    good_decades,
)
from experiments.studies.sweep.space import Side, can_extend, edges
from experiments.studies.terms import (
    EFFECTIVE_RATE,
    judged,
    paired_seeds,
    values_of,
)
from experiments.studies.validation import count_diverged

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
        ),
        plan=plan,
        plan_hash=digest(plan),
        command=command,
        provenance=records.provenance(swept.runs),
        of_shares=swept.measure.metric.is_share,
    )


def _summary(swept: SweepResults, plan: Plan) -> str:
    tops, sgd = best(swept.results), swept.final["sgd"]
    measure, metric = swept.measure, swept.measure.metric
    count = len(swept.trials_of("sgd"))
    sentences = [
        f"On {plan['dataset']}, after {counted(count, 'trial')} of each method, test "
        f"{values_of(metric)} over {paired_seeds(len(sgd), measure.noun)}:"
    ]
    for method, runs in swept.final.items():
        value = value_in_words(mean_and_interval(tested(runs, measure)), metric)
        words = f"{title(method)} ({_settings(tops[method])}) {value}"
        if method != "sgd":
            gain = difference(runs, sgd, measure)
            words += (
                f", {difference_in_words(gain, metric)} against SGD: "
                f"{verdict(gain, metric, smoke=swept.smoke)}"
            )
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
    sentences.append(f"{counted(len(swept.runs), 'run')} took {wall_time(swept.runs)}.")
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
    noun, metric = swept.measure.noun, swept.measure.metric
    return Section(
        "What momentum gains",
        (
            " ".join(equations),
            "Each method runs its own best trial, chosen by validation "
            f"{metric.words}, with {counted(swept.budget.seeds, 'new seed')}. Runs of "
            f"one seed start from the same parameters and see the {noun}s in the same "
            f"order, so differences are taken seed by seed. The test {noun}s were read "
            f"{reads} times: once by each of these runs.",
        ),
        figures=(figures.final(swept),),
        tables=(_values(swept), _differences(swept)),
    )


def _values(swept: SweepResults) -> Table:
    tops, metric = best(swept.results), swept.measure.metric
    test = f"test {metric.words}"
    rows = []
    for method, runs in swept.final.items():
        trial = tops[method].trial
        mean, low, high = mean_and_interval(tested(runs, swept.measure)).shown(
            metric.possible
        )
        row = {
            "method": title(method),
            test: None,
            "from": low,
            "to": high,
            "n": len(runs),
            "α": runs[0].config.learning_rate,
            "β": trial.beta if METHODS[method].tunes_beta else None,
            "α/(1 − β)": trial.effective_rate,
            "batch size": trial.batch_size,
            "test loss": mean_and_interval([run.test_loss for run in runs]).mean,
        }
        rows.append(row | {test: mean})  # the loss, if it decides, is there once
    caption = "Final runs: means with 95% intervals (Student's t)."
    return _table(caption, rows, formats(metric, (test, "from", "to")))


def _table(
    caption: str, rows: Sequence[Mapping[str, Cell]], formats: Mapping[str, str]
) -> Table:
    """A table of rows by heading."""
    return Table(caption, list(rows[0]), [list(row.values()) for row in rows], formats)


def _differences(swept: SweepResults) -> Table:
    metric, rows = swept.measure.metric, []
    of, mean, format = judged(metric), "difference", metric.difference_format
    if metric.is_share:
        of, mean, format = f"{of}, in percentage points", "points", "{:+.2f}"
    for method, runs in swept.final.items():
        if method != "sgd":
            gain = difference(runs, swept.final["sgd"], swept.measure)
            ends = gain.shown(metric.possible_differences)
            values = [None if x is None else metric.scale * x for x in ends]
            decided = verdict(gain, metric, smoke=swept.smoke)
            rows.append([title(method), *values, decided, len(runs)])
    return Table(
        f"Paired differences from SGD in test {of}, with 95% intervals.",
        ["method", mean, "from", "to", "verdict", "n"],
        rows,
        dict.fromkeys((mean, "from", "to"), format),
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
    better = swept.measure.metric.better
    return Section(
        "How much the tuning matters",
        (
            "The same trials, cut in three ways. At equal learning rate α, the steps "
            "of momentum settle at 1/(1 − β) times those of SGD. At equal effective "
            "learning rate they settle at the same length, and what difference "
            f"remains is due to momentum. The best of more trials is {better}: the "
            "table has the counts.",
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
    measure, metric = swept.measure, swept.measure.metric
    for method in swept.budget.methods:
        results = swept.trials_of(method)
        lost = [r.trial.effective_rate for r in results if r.diverged]
        trained = [r.trial.effective_rate for r in results if not r.diverged]
        counts = len(results), len(lost), _diverged_share(results)
        ends = min(lost, default=None), max(trained)
        rows.append([title(method), *counts, *ends, good_decades(results, metric)])
    final = [run for runs in swept.final.values() for run in runs]
    header = ["method", "trials", "diverged", "share"]
    header += ["lowest rate that diverged", "highest rate that trained"]
    near = "2 points" if metric.is_share else "2%"
    header += [f"decades within {near} of the best"]
    caption = "Divergence over the space; rates are effective learning rates."
    guessing = measure.guessing
    if guessing == "guessing":
        guessing += ", ln(classes)"
    return Section(
        "How wide the stable range is",
        (
            "A run diverged if neither its training nor its validation loss of the "
            f"last epoch is below that of {guessing}, or one of them is not "
            "finite. A trial diverged if one of its runs did; it counts as the worst. "
            f"Of the {len(final)} final runs, {count_diverged(final, measure)} "
            "diverged.",
        ),
        tables=(Table(caption, header, rows, {"share": "{:.0%}"}),),
    )


def _trials(swept: SweepResults) -> Section:
    metric = swept.measure.metric
    validation, test = f"validation {metric.words}", f"test {metric.words}"
    rows = [
        {
            "method": title(result.trial.method),
            validation: None,
            "validation loss": (
                math.nan if result.diverged else -result.score.negative_loss
            ),
            "α/(1 − β)": result.trial.effective_rate,
            "1 − β": result.trial.one_minus_beta,
            "α": result.runs[0].config.learning_rate,
            "β": result.trial.beta,
            "batch size": result.trial.batch_size,
            "run": " ".join(run.config_hash for run in result.runs),
        }
        | {validation: result.value}
        for result in swept.results
    ]
    final = [
        {
            "method": title(m),
            "seed": run.config.seed,
            test: None,
            "test loss": run.test_loss,
            "run": run.config_hash,
        }
        | {test: run.test_metric}
        for m, runs in swept.final.items()
        for run in runs
    ]
    shown = formats(metric, (validation, test))
    return Section(
        "All trials and runs",
        ("Runs are named as in runs.jsonl, which has every epoch of each.",),
        tables=(
            _table("Trials, in the order of the plan.", rows, shown),
            _table("Final runs.", final, shown),
        ),
    )

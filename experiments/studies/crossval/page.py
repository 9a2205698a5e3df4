"""The page of a cross-validation: the choice, its test, and an unbiased estimate."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from experiments.records import plan, runs
from experiments.records.plan import Plan
from experiments.records.runs import Run
from experiments.reporting.drawing import legend, line_with_band, plain_axes, strokes
from experiments.reporting.page import Figure, Page, Section, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    in_points,
    mean_and_interval,
    percent,
    verdict,
    wall_time,
)
from experiments.studies.crossval.choice import (
    CrossvalResults,
    best_of_betas,
    least_within_one_error,
)
from experiments.studies.paired import accuracies, difference
from experiments.studies.settings import Setting, learning_rate
from experiments.studies.validation import diverged

_HEADER = ("Beta", "Effective rate", "Learning rate", "Accuracy", "Lower", "Upper")
_PERCENT: dict[str, str] = dict.fromkeys(_HEADER[3:], "{:.2%}")
_COMPARED = {"SGD": "{:.2%}", "Momentum": "{:.2%}", "Difference": "{:+.2%}"}

_LEAST_POINTS = 3  # of a curve at one learning rate
_MOST_CURVES = 4  # more can't be told apart
_DEPTH = 0.3  # the axis ends this far below the best accuracy

Curves = Mapping[str, Sequence[Setting]]  # by the value that a curve's settings share


def page(
    results: CrossvalResults, planned: plan.Plan, ran: Sequence[Run], command: str
) -> Page:
    """The page of a cross-validation; `command` repeats it."""
    sections = [_choice(results, planned), _test(results)]
    if any(results.estimates.values()):
        sections.append(_estimate(results))
    return Page(
        study="crossval",
        title=f"Which beta, by cross-validation on {planned['dataset']}",
        summary=_summary(results, planned),
        sections=[*sections, _method(results, planned, ran)],
        plan=planned,
        plan_hash=plan.digest(planned),
        command=command,
        provenance=runs.provenance(ran),
    )


def in_words(setting: Setting) -> str:
    """A setting as the page names it."""
    rate = f"{learning_rate(setting):.4g}"
    if not setting.beta:
        return f"learning rate {rate}"
    return (
        f"beta {setting.beta:g} at learning rate {rate} (effective rate "
        f"{rate}/(1 − {setting.beta:g}) = {setting.rate:g})"
    )


def _summary(results: CrossvalResults, planned: Plan) -> str:
    momentum, sgd = results.chosen["momentum"], results.chosen["sgd"]
    gain = difference(results.tests["momentum"], results.tests["sgd"], results.classes)
    tested = {
        arm: mean_and_interval(accuracies(ran, results.classes)).mean
        for arm, ran in results.tests.items()
    }
    least = least_within_one_error(results.trials["momentum"], results.classes)
    return (
        f"{planned['folds']}-fold cross-validation on {planned['dataset']} chose "
        f"{in_words(momentum)}, which classifies {percent(results.accuracy(momentum))} "
        "of the images of a fold correctly; the smallest beta within one standard "
        f"error of it is {least.beta:g}. On the test images this choice reaches "
        f"{tested['momentum']:.2%}, and SGD, tuned on the same folds to "
        f"{in_words(sgd)}, {tested['sgd']:.2%}: a difference of {in_points(gain)}, "
        f"n = {len(results.tests['sgd'])} paired seeds, each of which trains both from "
        f"the same start; {verdict(gain)}."
    )


def _choice(results: CrossvalResults, planned: Plan) -> Section:
    by_learning_rate = _equal_learning_rate(results)
    paragraphs = [
        "Beta has two effects. It sets how long gradients are remembered; and at a "
        "given learning rate it also sets the size of the steps, which under a "
        "constant gradient settle at learning rate/(1 − beta) times the gradient. "
        "That factor is the effective learning rate. Curves at equal effective rate "
        "show the first effect alone; curves at equal learning rate mix both.",
        f"The intervals are Student's t over {planned['folds']} folds. Any two folds "
        "share most of their training images and aren't independent: an interval "
        "shows the spread, not how certain the mean is.",
        *_at_an_end(results, planned),
    ]
    if by_learning_rate is None:
        paragraphs.append(
            "No three of these settings share a learning rate, so there is no curve at "
            "equal learning rate; effective rates and 1 − beta in steps of 1, 2, 5 "
            "give such curves."
        )
    figures = [_equal_effective_rate(results), by_learning_rate]
    return Section(
        "Which beta do the folds choose?",
        paragraphs,
        [figure for figure in figures if figure is not None],
        [betas_table(results), _folds_table(results)],
    )


def _at_an_end(results: CrossvalResults, planned: Plan) -> list[str]:
    """A warning for each chosen value beyond which nothing was tried."""
    momentum, sgd = results.chosen["momentum"], results.chosen["sgd"]
    betas, rates = planned["betas"], planned["effective_rates"]
    values = (
        ("The chosen beta", momentum.beta, betas, "--betas"),
        ("Momentum's effective rate", momentum.rate, rates, "--effective-rates"),
        ("SGD's effective rate", sgd.rate, rates, "--effective-rates"),
    )
    return [
        f"{what}, {value:g}, is the {'smallest' if value == min(tried) else 'largest'} "
        f"that was tried: a better one may lie beyond. {option} widens the search."
        for what, value, tried, option in values
        if value in (min(tried), max(tried))
    ]


def _test(results: CrossvalResults) -> Section:
    ran = [run for of_arm in results.tests.values() for run in of_arm]
    lost = sum(diverged(run, results.classes) for run in ran)
    gain = difference(results.tests["momentum"], results.tests["sgd"], results.classes)
    return Section(
        "Is it better than SGD on the test images?",
        [
            f"Momentum − SGD: {in_points(gain)}, on {len(results.tests['sgd'])} seeds "
            f"that no tuning has used; {verdict(gain)}. The seeds are paired: with the "
            "same seed, both optimizers start from the same parameters and see the "
            "images in the same order, and the difference is taken seed by seed. Both "
            "trained on the first 80% of the training images; each run read the test "
            "images once. Momentum was chosen from "
            f"{len(results.trials['momentum'])} settings, SGD from "
            f"{len(results.trials['sgd'])}. {lost} of these runs diverged."
        ],
        [_by_seed(results)],
    )


def _estimate(results: CrossvalResults) -> Section:
    """The accuracy of the whole procedure, on folds that its choice never saw."""
    sgd, momentum = (
        mean_and_interval([estimate.accuracy for estimate in results.estimates[arm]])
        for arm in ("sgd", "momentum")
    )
    pairs = zip(results.estimates["sgd"], results.estimates["momentum"], strict=True)
    rows = [
        (fold, setting.rate, accuracy, *m.chosen, m.accuracy, m.accuracy - accuracy)
        for (fold, setting, accuracy), m in pairs
    ]
    gain = mean_and_interval([row[-1] for row in rows])
    best = results.accuracy(results.chosen["momentum"]).mean
    return Section(
        "How good is such a choice on images that it never saw?",
        [
            "The accuracy of the best of many settings is biased upward, because the "
            "best is also the luckiest. Here each fold is scored with the settings "
            "that folds within its training images chose. Momentum, with beta and rate "
            f"chosen this way, classifies {percent(momentum)} correctly, SGD "
            f"{percent(sgd)}; momentum − SGD is {in_points(gain)}. "
            f"The best mean above, {best:.2%}, is {100 * (best - momentum.mean):+.2f} "
            "points from the unbiased one. The test images have no part in this. The "
            "folds overlap, so these intervals are somewhat too narrow."
        ],
        tables=[
            Table(
                "Each outer fold with the settings that its inner folds chose: "
                "effective rates, and accuracies on the outer fold's own images.",
                ("Fold", "SGD's rate", "SGD", "Beta", "Rate", "Momentum", "Difference"),
                rows,
                _COMPARED,
            )
        ],
    )


def _method(results: CrossvalResults, planned: Plan, ran: Sequence[Run]) -> Section:
    test = sum(run.config.test for run in ran)
    lost = sum(diverged(run, results.classes) for run in ran)
    return Section(
        "How it was done",
        [
            f"{len(ran)} runs of {planned['epochs']} epochs at batch size "
            f"{planned['batch_size']} took {wall_time(ran)}, not counting compilation; "
            f"{lost} diverged. {test} of them, those of the chosen settings, read the "
            "test images, each once, after its last epoch. Every run starts from new "
            "parameters and zero momentum; runs of one fold, or of one seed, start "
            "from the same parameters and see the images in the same order. Of "
            "settings with equal accuracy the one with the smaller loss is chosen."
        ],
    )


def _equal_effective_rate(results: CrossvalResults) -> Figure:
    """Accuracy against beta, one curve for each effective learning rate."""
    settings = results.all_trials
    curves = {
        f"effective rate {rate:g}": sorted(s for s in settings if s.rate == rate)
        for rate in sorted({setting.rate for setting in settings})
    }
    return _accuracy_figure(
        "equal-effective-rate",
        "Validation accuracy against beta, each curve at one effective learning rate: "
        "mean and 95% interval over the folds. The points at beta 0 are SGD. The axis "
        "ends 30 points below the best; of more than four curves, the best are drawn.",
        results,
        curves,
    )


def _equal_learning_rate(results: CrossvalResults) -> Figure | None:
    """The same at equal learning rates; None if no three settings share one."""
    by_rate: dict[float, list[Setting]] = {}
    for setting in sorted(results.all_trials):
        by_rate.setdefault(learning_rate(setting), []).append(setting)
    curves = {
        f"learning rate {rate:g}": settings
        for rate, settings in sorted(by_rate.items())
        if len(settings) >= _LEAST_POINTS
    }
    if not curves:
        return None
    return _accuracy_figure(
        "equal-learning-rate",
        "The same runs, each curve at one learning rate: along it, steps grow with "
        "beta, as 1/(1 − beta), so it mixes the effect of larger steps with that of "
        "longer memory.",
        results,
        curves,
    )


def _accuracy_figure(
    name: str, caption: str, results: CrossvalResults, curves: Curves
) -> Figure:
    accuracy = {s: results.accuracy(s) for curve in curves.values() for s in curve}

    def top(label: str) -> float:
        return max(accuracy[setting].mean for setting in curves[label])

    best = sorted(curves, key=top, reverse=True)[:_MOST_CURVES]
    drawn = {label: curve for label, curve in curves.items() if label in best}
    settings = [setting for curve in drawn.values() for setting in curve]

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for label, stroke in strokes(drawn).items():
            places = [_place(setting.beta) for setting in drawn[label]]
            shown = [accuracy[setting].shown(ACCURACIES) for setting in drawn[label]]
            middle, low, high = np.array(shown, float).T
            line_with_band(axes, places, middle, low, high, stroke, label)
        plain_axes(axes, ink)
        room = 0.5 / canvas.get_figwidth()  # for a label, as a share of the axis
        _mark_betas(axes, sorted({setting.beta for setting in settings}), room)
        low, high = axes.get_ylim()
        low = max(low, max(map(top, drawn)) - _DEPTH)
        axes.set(ylabel="Validation accuracy", ylim=(low, min(high, 1.01)))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(canvas, axes)

    table = Table(
        "Mean validation accuracy over the folds, with its 95% interval.",
        _HEADER,
        [_row(results, setting) for setting in settings],
        _PERCENT,
    )
    return Figure(name, caption, draw, table)


def _place(beta: float) -> float:
    """Where a beta lies on an axis that is logarithmic in 1 − β: 0 at 0, 2 at 0.99."""
    return -math.log10(1 - beta)


def _mark_betas(axes: Axes, betas: Sequence[float], room: float) -> None:
    """Draws ticks at the betas, except where one would overlap the tick before."""
    marked = [betas[0]]
    for beta in betas[1:]:
        if _place(beta) - _place(marked[-1]) > room * _place(betas[-1]):
            marked.append(beta)
    axes.set_xticks([_place(beta) for beta in marked], [f"{beta:g}" for beta in marked])
    axes.set_xlabel("Beta, on a logarithmic axis of 1 − beta")


def _by_seed(results: CrossvalResults) -> Figure:
    """The test accuracies of both optimizers, each seed's joined by a line."""
    titles = {"sgd": "SGD", "momentum": "Momentum"}
    tests = {arm: accuracies(results.tests[arm], results.classes) for arm in titles}
    pairs = list(zip(*tests.values(), strict=True))

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        for pair in pairs:
            axes.plot((0, 1), pair, color=ink, alpha=0.4, linewidth=0.9)
        for place, (arm, stroke) in enumerate(strokes(titles).items()):
            axes.plot([place] * len(pairs), tests[arm], "o", color=stroke.color)
        plain_axes(axes, ink)
        axes.set_xticks((0, 1), list(titles.values()))
        axes.set(xlim=(-0.4, 1.4), ylabel="Test accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))

    table = Table(
        "Test accuracy by seed.",
        ("Seed", "SGD", "Momentum", "Difference"),
        [
            (run.config.seed, sgd, momentum, momentum - sgd)
            for run, (sgd, momentum) in zip(results.tests["sgd"], pairs, strict=True)
        ],
        _COMPARED,
    )
    return Figure(
        "test-by-seed",
        "Test accuracy of the chosen settings. A line joins the two runs with the same "
        "seed.",
        draw,
        table,
        (6.4, 3.2),
    )


def betas_table(results: CrossvalResults) -> Table:
    """Each beta at its best rate, and which betas the two rules choose."""
    least = least_within_one_error(results.trials["momentum"], results.classes)
    remarks = {
        results.chosen["sgd"]: ["SGD"],
        least: ["smallest beta within one standard error"],
    }
    remarks.setdefault(results.chosen["momentum"], []).insert(0, "chosen")
    return Table(
        "Every beta at the best of its effective rates.",
        (*_HEADER, "Remark"),
        [
            (*_row(results, setting), ", ".join(remarks.get(setting, [])) or None)
            for setting in best_of_betas(results.all_trials, results.classes)
        ],
        _PERCENT,
    )


def _folds_table(results: CrossvalResults) -> Table:
    rows = [
        (
            *_row(results, setting),
            *(run.epochs[-1].validation_accuracy for run in ran),
            sum(diverged(run, results.classes) for run in ran),
        )
        for setting, ran in results.all_trials.items()
    ]
    names = [f"Fold {place}" for place in range(1, len(rows[0]) - len(_HEADER))]
    return Table(
        "Every setting on every fold. A run that is no better than guessing on its "
        "training images has diverged and counts as 0 in the mean.",
        (*_HEADER, *names, "Diverged"),
        rows,
        {**_PERCENT, **dict.fromkeys(names, "{:.2%}")},
    )


def _row(results: CrossvalResults, setting: Setting) -> tuple[float | None, ...]:
    """Cells under `_HEADER`."""
    accuracy = results.accuracy(setting).shown(ACCURACIES)
    return *setting, learning_rate(setting), *accuracy

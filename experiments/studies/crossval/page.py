"""What a cross-validation tells: the choice, its test, and an honest estimate of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.records import plan, runs
from experiments.records.runs import Run
from experiments.reporting.page import Page, Section
from experiments.reporting.statistics import (
    in_points,
    mean_and_interval,
    percent,
    verdict,
    wall_time,
)
from experiments.studies.crossval import figures, tables
from experiments.studies.crossval.choice import least_within_one_error
from experiments.studies.crossval.tables import Found
from experiments.studies.paired import accuracies, difference
from experiments.studies.settings import Setting, learning_rate
from experiments.studies.validation import diverged


def page(found: Found, planned: plan.Plan, ran: Sequence[Run], command: str) -> Page:
    """The page of a cross-validation.

    Args:
      found: what came out.
      planned: what was fixed before the first run.
      ran: all runs.
      command: that repeats the study.
    """
    sections = [_choice(found, planned), _test(found)]
    if any(found.estimated.values()):
        sections.append(_estimate(found))
    return Page(
        study="crossval",
        title=f"Which beta, by cross-validation on {planned['dataset']}",
        summary=_summary(found, planned),
        sections=[*sections, _method(found, planned, ran)],
        plan=planned,
        plan_hash=plan.digest(planned),
        command=command,
        provenance=runs.provenance(ran),
    )


def in_words(setting: Setting) -> str:
    """A setting as the page names it."""
    rate = f"learning rate {learning_rate(setting):.4g}"
    if not setting.beta:
        return rate
    return f"beta {setting.beta:g} at {rate} (effective {setting.rate:g})"


def _summary(found: Found, planned: Mapping[str, Any]) -> str:
    momentum, sgd = found.choice["momentum"], found.choice["sgd"]
    gain = difference(found.tested["momentum"], found.tested["sgd"], found.classes)
    reached = {
        arm: mean_and_interval(accuracies(own, found.classes)).mean
        for arm, own in found.tested.items()
    }
    least = least_within_one_error(found.trials["momentum"], found.classes)
    return (
        f"{planned['folds']}-fold cross-validation on {planned['dataset']} chose "
        f"{in_words(momentum)}, which got {percent(tables.means(found)[momentum])} of "
        "the images of a fold right; the least beta that does as well to within one "
        f"standard error is {least.beta:g}. On the test images the choice reached "
        f"{reached['momentum']:.2%}, and SGD, tuned on the same folds to "
        f"{in_words(sgd)}, {reached['sgd']:.2%}: a difference of {in_points(gain)}, "
        f"n = {len(found.tested['sgd'])} paired seeds; {verdict(gain)}."
    )


def _choice(found: Found, planned: Mapping[str, Any]) -> Section:
    by_learning_rate = figures.equal_learning_rate(found)
    paragraphs = [
        "Beta does two things: it sets how long gradients are remembered, and, at a "
        "given learning rate, by 1/(1 − beta) also how large a step becomes. At an "
        "equal effective learning rate only the first is left; at an equal learning "
        "rate both are mixed.",
        f"The intervals are Student's t over {planned['folds']} folds. Any two folds "
        "share most of the images they train on and aren't independent: an interval "
        "tells the spread, not how certain the mean is.",
        *_at_an_end(found, planned),
    ]
    if by_learning_rate is None:
        paragraphs.append(
            "No three of these settings share a learning rate, so there is no curve at "
            "an equal one; effective rates and 1 − beta in steps of 1, 2, 5 make some."
        )
    drawn = [figures.equal_effective(found), by_learning_rate]
    return Section(
        "Which beta do the folds choose?",
        paragraphs,
        [figure for figure in drawn if figure is not None],
        [tables.betas(found), tables.folds(found)],
    )


def _at_an_end(found: Found, planned: Mapping[str, Any]) -> list[str]:
    """A warning for each chosen value beyond which nothing was tried."""
    momentum, sgd = found.choice["momentum"], found.choice["sgd"]
    betas, rates = planned["betas"], planned["effective_rates"]
    values = (
        ("The chosen beta", momentum.beta, betas, "--betas"),
        ("Momentum's effective rate", momentum.rate, rates, "--effective-rates"),
        ("SGD's effective rate", sgd.rate, rates, "--effective-rates"),
    )
    return [
        f"{what}, {value:g}, is the {'least' if value == min(tried) else 'largest'} "
        f"that was tried: a better one may lie beyond. {option} widens the search."
        for what, value, tried, option in values
        if value in (min(tried), max(tried))
    ]


def _test(found: Found) -> Section:
    tested = {arm: accuracies(own, found.classes) for arm, own in found.tested.items()}
    gain = difference(found.tested["momentum"], found.tested["sgd"], found.classes)
    ran = [run for own in found.tested.values() for run in own]
    lost = sum(diverged(run, found.classes) for run in ran)
    table = tables.seeds(tested, found.tested["sgd"])
    return Section(
        "Is it better than SGD on the test images?",
        [
            f"Momentum less SGD: {in_points(gain)}, on {len(tested['sgd'])} seeds that "
            f"no tuning has used; {verdict(gain)}. Both trained on the training images "
            "less the last 20%, and read the test images once a run. Momentum was "
            f"chosen from {len(found.trials['momentum'])} settings, SGD from "
            f"{len(found.trials['sgd'])}. Of these runs {lost} diverged.",
        ],
        [figures.by_seed(tested, table)],
    )


def _estimate(found: Found) -> Section:
    """What the procedure is worth, by folds that its choice never looked at."""
    sgd, momentum = (
        [estimate.accuracy for estimate in found.estimated[arm]]
        for arm in ("sgd", "momentum")
    )
    gain = mean_and_interval([a - b for a, b in zip(momentum, sgd, strict=True)])
    honest = mean_and_interval(momentum)
    best = tables.means(found)[found.choice["momentum"]].mean
    return Section(
        "What is such a choice worth on images that it didn't look at?",
        [
            "The accuracy of the best of many settings flatters, because the best is "
            "also the luckiest. Here each fold is judged with the settings that folds "
            "within its own training images chose. Momentum, beta and rate chosen so, "
            f"gets {percent(honest)} right, SGD {percent(mean_and_interval(sgd))}; "
            f"momentum less SGD is {in_points(gain)}. The best mean above, {best:.2%}, "
            f"is {100 * (best - honest.mean):+.2f} points from the honest one. The "
            "test images have no part in this. The folds overlap, so that these "
            "intervals are somewhat too narrow.",
        ],
        tables=[tables.outer_folds(found)],
    )


def _method(found: Found, planned: Mapping[str, Any], ran: Sequence[Run]) -> Section:
    test = sum(run.config.test for run in ran)
    lost = sum(diverged(run, found.classes) for run in ran)
    return Section(
        "How it was done",
        [
            f"{len(ran)} runs of {planned['epochs']} epochs at batch size "
            f"{planned['batch_size']} took {wall_time(ran)}, compilation apart; {lost} "
            f"diverged. {test} of them, those of the choice and of SGD, read the test "
            "images, each once, after its last epoch. Parameters and momentum start "
            "anew in every run; the runs of a fold, or of a seed, start alike and see "
            "the images in one order. Of settings with equal accuracy the one with the "
            "smaller loss is chosen.",
        ],
    )

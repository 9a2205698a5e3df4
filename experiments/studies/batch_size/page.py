"""What the study of batch sizes tells: where momentum begins to matter, and the rates.

Nothing is trained or chosen here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.records import plan, runs
from experiments.records.runs import Run
from experiments.reporting.page import Page, Section
from experiments.reporting.statistics import (
    Interval,
    in_points,
    mean_and_interval,
    sign,
    wall_time,
)
from experiments.studies.batch_size import figures, tables
from experiments.studies.batch_size.rules import Cell, begins
from experiments.studies.batch_size.tables import Found
from experiments.studies.paired import accuracies, difference
from experiments.studies.validation import diverged


def page(found: Found, planned: plan.Plan, ran: Sequence[Run], command: str) -> Page:
    """The page of the study.

    Args:
      found: what came out.
      planned: what was fixed before the first run.
      ran: all runs.
      command: that repeats the study.
    """
    return Page(
        study="batch-size",
        title=f"From which batch size on momentum matters, on {planned['dataset']}",
        summary=_summary(found, planned),
        sections=[
            _comparison(found),
            _rates(found, planned),
            _speed(found),
            _method(found, planned, ran),
        ],
        plan=planned,
        plan_hash=plan.digest(planned),
        command=command,
        provenance=runs.provenance(ran),
    )


def gains(found: Found, series: str, over: str = "sgd") -> dict[int, Interval]:
    """What an arm gains over another on the test images, by batch size."""
    return {
        cell.batch_size: difference(
            own, found.compared[cell._replace(series=over)], found.classes
        )
        for cell, own in found.compared.items()
        if cell.series == series
    }


def _summary(found: Found, planned: Mapping[str, Any]) -> str:
    equal = gains(found, "momentum")
    first, last = min(equal), max(equal)
    lost = [f"{size:,}" for size, gain in equal.items() if sign(gain) < 0]
    under_tuned = (
        f"At {', '.join(lost)} tuned momentum lost to SGD, which it contains as beta "
        "0: there it is under-tuned, and this is no evidence for SGD. "
        if lost
        else ""
    )
    return (
        f"On {planned['dataset']}, {planned['epochs']} epochs, each arm at the best of "
        f"its learning rates, momentum with beta {planned['beta']:g} {_from(equal)} "
        f"Its difference from SGD in test accuracy is {in_points(equal[first])} at "
        f"batch size {first:,} and {in_points(equal[last])} at {last:,}, "
        f"n = {planned['seeds']} paired seeds. {under_tuned}Momentum whose half-life "
        f"is the same number of images at every batch size "
        f"{_from(gains(found, 'held'))}"
    )


def _from(gained: Mapping[int, Interval]) -> str:
    start, (*_, last) = begins(gained), sorted(gained)
    if start is None:
        return f"shows no gain over SGD at the largest batch size, {last:,}."
    if start == min(gained):
        return "is better than SGD at every batch size."
    if start == last:
        return f"is better than SGD at the largest batch size alone, {last:,}."
    return f"begins to matter at batch size {start:,}, and does from there on."


def _comparison(found: Found) -> Section:
    means = {
        cell: mean_and_interval(accuracies(own, found.classes))
        for cell, own in found.compared.items()
    }
    gained = {
        Cell(size, series): gain
        for series in ("momentum", "held")
        for size, gain in gains(found, series).items()
    }
    held = "; ".join(
        f"{in_points(gain)} at {size:,}"
        for size, gain in gains(found, "held", over="momentum").items()
    )
    paragraphs = [
        "At constant epochs a larger batch takes fewer steps, of less noisy gradients. "
        "It begins to matter, by the rule fixed beforehand, at the smallest batch size "
        "from which on every interval of the difference from SGD lies above 0.",
        "Beta counts in steps, so that an equal beta spans more images the larger the "
        "batch. Held in images, beta falls as batches grow; the difference of the "
        f"held half-life from the equal beta is {held}.",
    ]
    if found.left_out:
        sizes = ", ".join(f"{size:,}" for size in found.left_out)
        paragraphs.append(f"Left out, for there are fewer images to train on: {sizes}.")
    titles = {key: way.title for key, way in found.ways.items()}
    return Section(
        "From which batch size on does momentum matter?",
        paragraphs,
        [
            figures.accuracy(means, titles, tables.accuracies(found, means)),
            figures.gains(gained, tables.differences(gained)),
        ],
    )


def _rates(found: Found, planned: Mapping[str, Any]) -> Section:
    at_an_end = [
        f"{found.ways[cell.series].title} at batch size {cell.batch_size:,}"
        for cell, setting in found.choice.items()
        if setting.rate in _ends(found, cell)
    ]
    inside = (
        f"The best is at an end for {'; '.join(at_an_end)}: a better one "
        "may lie beyond."
        if at_an_end
        else "Every best one lies between others."
    )
    extended = (
        "Where the best of one arm was the first or the last, all got another beyond "
        f"it, at most {planned['extensions']} times. "
        if planned["extensions"]
        else ""
    )
    titles = {key: way.title for key, way in found.ways.items()}
    rates = {cell: setting.rate for cell, setting in found.choice.items()}
    return Section(
        "Which learning rate does each batch size need?",
        [
            "All arms of a batch size were tried at the same effective rates, "
            f"{len(planned['effective_rates'])} at first. {extended}{inside}"
        ],
        [figures.best_rates(rates, titles, tables.chosen(found))],
        [tables.trials(found)],
    )


def _ends(found: Found, cell: Cell) -> tuple[float, float]:
    rates = [setting.rate for setting in found.tuned[cell]]
    return min(rates), max(rates)


def _speed(found: Found) -> Section:
    return Section(
        "What does a batch size cost?",
        [
            "One program trains all arms of a batch size, SGD as momentum of beta 0: "
            "they are equally fast. The last batch of an epoch is filled up, which "
            "costs a batch size that is a large part of all images the more."
        ],
        [figures.speed(tables.speeds(found), tables.costs(found))],
    )


def _method(found: Found, planned: Mapping[str, Any], ran: Sequence[Run]) -> Section:
    tested = sum(run.config.test for run in ran)
    lost = sum(diverged(run, found.classes) for run in ran)
    return Section(
        "How it was done",
        [
            f"{len(ran)} runs of {planned['epochs']} epochs took {wall_time(ran)}, "
            f"compilation apart; {lost} diverged. Rates were chosen by the accuracy on "
            "the last 20% of the training images, and of equal ones by the loss; "
            f"tuning seeds: {planned['tuning_seeds']}. {tested} runs, on "
            f"{planned['seeds']} seeds that no tuning has used, read the test images, "
            "each once, after its last epoch. Runs of one seed start alike, and see "
            "the images in one order. Equal half-life and equal beta are one arm at "
            f"batch size {planned['anchor']}, and trained once."
        ],
    )

"""Claim 4 as it is told: what tuned momentum gains over tuned SGD, by problem."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import draw_intervals, plain_axes
from experiments.reporting.page import Figure, Section, Table
from experiments.reporting.statistics import Interval
from experiments.studies.claims import verdict
from experiments.studies.claims.generality import BETAS
from experiments.studies.claims.verdict import Answer


def section(measured: dict[str, Any], answers: Sequence[Answer]) -> Section:
    """The claim's part of the page."""
    found = measured["problems"]
    return Section(
        "Claim 4: momentum helps whatever the model, loss and data",
        (
            "Every problem is tuned anew, with equal numbers of trials: SGD at three "
            "settled steps an octave, momentum at one with each β of "
            f"{', '.join(f'{beta:g}' for beta in BETAS)}, thus with SGD among its "
            "trials. Where a best step lies at an end of those tried, both methods go "
            "on beyond it. The best by validation accuracy, and where equal by loss, "
            "is run again with other seeds, paired, and scored on the test rows; a run "
            "that diverges counts as 0.",
            *_flags(found, answers),
        ),
        (_gains(found, answers),),
        (verdict.table(answers), _settings(found)),
    )


def _flags(found: dict[str, Any], answers: Sequence[Answer]) -> list[str]:
    """What makes a result doubtful."""
    lost = [each.prediction.key for each in answers if each.outcome == "contradicted"]
    at_edge = [
        f"{title} ({method})"
        for title, own in found.items()
        for method, each in own["methods"].items()
        if each["at_edge"]
    ]
    as_sgd = [t for t, own in found.items() if own["methods"]["momentum"]["beta"] == 0]
    flags = []
    if as_sgd:
        flags.append(
            f"Tuning gave momentum β = 0, and so it is tuned SGD: {'; '.join(as_sgd)}."
        )
    if lost:
        flags.append(
            f"Under-tuned: on {'; '.join(lost)} momentum lost, though its space holds "
            "SGD, so this is no evidence for SGD."
        )
    if at_edge:
        flags.append(
            f"Still at an end of the settled steps tried: {'; '.join(at_edge)}. A "
            "better one may lie beyond."
        )
    return flags


def _gains(found: dict[str, Any], answers: Sequence[Answer]) -> Figure:
    titles = [each.prediction.key for each in answers]
    intervals = [Interval(*each.measured) for each in answers]

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        draw_intervals(axes, titles, {"": intervals})
        axes.axvline(0, color=ink, linewidth=0.8)
        axes.set_xlabel("Test accuracy, tuned momentum − tuned SGD, points")
        plain_axes(axes, ink)

    rows = [
        (title, method, seed, accuracy)
        for title, own in found.items()
        for method, each in own["methods"].items()
        for seed, accuracy in enumerate(each["accuracies"])
    ]
    return Figure(
        "gains",
        "What tuned momentum gains over tuned SGD in test accuracy: means and 95% "
        "intervals over paired seeds. Where one holds 0, nothing is shown.",
        draw,
        Table(
            "Test accuracies, by seed",
            ("problem", "method", "seed", "test accuracy"),
            rows,
            {"test accuracy": "{:.2%}"},
        ),
        (7.2, 1.2 + 0.3 * len(titles)),
    )


def _settings(found: dict[str, Any]) -> Table:
    rows = [
        (
            title,
            method,
            each["settled"],
            each["beta"],
            len(each["trials"]),
            sum(each["accuracies"]) / len(each["accuracies"]),
            sum(accuracy == 0 for accuracy in each["accuracies"]),
        )
        for title, own in found.items()
        for method, each in own["methods"].items()
    ]
    header = ("problem", "method", "settled step", "β", "trials", "test accuracy")
    return Table(
        "What the tuning chose, and the mean of the reports",
        (*header, "diverged"),
        rows,
        {"settled step": "{:.3g}", "test accuracy": "{:.2%}"},
    )

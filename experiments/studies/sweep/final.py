"""The final runs of a sweep: what each method's best trial is worth, seed by seed."""

from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import plain_axes, strokes
from experiments.reporting.page import Figure, Section, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    DIFFERENCES,
    mean_and_interval,
    verdict,
)
from experiments.studies.methods import METHODS
from experiments.studies.paired import accuracies, difference
from experiments.studies.sweep.figures import as_percent, title
from experiments.studies.sweep.results import Found, best


def section(found: Found) -> Section:
    """The best trial of each method, with seeds on which nothing was tuned."""
    equations = (f"{title(m)}: {METHODS[m].arm.equation}." for m in found.final)
    return Section(
        "What is gained",
        (
            " ".join(equations),
            "Each method at its own best trial, chosen by validation accuracy and run "
            f"again with {found.budget.seeds} other seeds. Runs of one seed start from "
            "the same parameters and see the images in the same order, so that "
            "differences are taken seed by seed. The test images were read "
            f"{reads(found)} times: once by each of these runs.",
        ),
        figures=(_figure(found),),
        tables=(_accuracies(found), _differences(found)),
    )


def _accuracies(found: Found) -> Table:
    tops = best(found.results)
    rows = []
    for method, own in found.final.items():
        trial = tops[method].trial
        rows.append(
            [
                title(method),
                own[0].config.learning_rate,
                trial.beta if METHODS[method].tunes_beta else None,
                trial.effective_rate,
                trial.batch_size,
                len(own),
                *mean_and_interval(accuracies(own, found.classes)).shown(ACCURACIES),
                mean_and_interval([run.test_loss for run in own]).mean,
            ]
        )
    header = ["method", "α", "β", "α/(1 − β)", "batch size", "n", "test accuracy"]
    header += ["from", "to", "test loss"]
    caption = "Final runs: means with 95% intervals (Student's t)."
    return Table(caption, header, rows, as_percent(("test accuracy", "from", "to")))


def _differences(found: Found) -> Table:
    rows = []
    for method, own in found.final.items():
        if method != "sgd":
            gain = difference(own, found.final["sgd"], found.classes)
            values = [None if x is None else 100 * x for x in gain.shown(DIFFERENCES)]
            rows.append([title(method), len(own), *values, verdict(gain)])
    return Table(
        "Paired differences from SGD in test accuracy, in percentage points, with 95% "
        "intervals.",
        ["method", "n", "points", "from", "to", "verdict"],
        rows,
        {heading: "{:+.2f}" for heading in ("points", "from", "to")},
    )


def reads(found: Found) -> int:
    """How often the test images were read."""
    return sum(run.config.test for run in found.runs)


def _figure(found: Found) -> Figure:
    """Every seed of the final runs, with means and intervals."""
    values = {
        method: accuracies(runs, found.classes) for method, runs in found.final.items()
    }
    drawn = strokes(values)

    def draw(canvas: Canvas, ink: str) -> None:
        axes = canvas.subplots()
        plain_axes(axes, ink)
        for row, (method, own) in enumerate(values.items()):
            mean, low, high = mean_and_interval(own).shown(ACCURACIES)
            colour = drawn[method].color
            axes.scatter(own, [row + 0.18] * len(own), s=16, color=colour, alpha=0.5)
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=colour, linewidth=3)
            axes.plot(mean, row, "D", color=colour)
        axes.set_yticks(range(len(values)), [title(method) for method in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        low, high = axes.get_xlim()
        axes.set(xlabel="test accuracy", xlim=(max(low, 0), min(high, 1)))
        axes.xaxis.set_major_formatter("{x:.1%}")

    header = ["seed", *(title(method) for method in values)]
    seeds = [run.config.seed for run in next(iter(found.final.values()))]
    rows = list(zip(seeds, *values.values(), strict=True))
    return Figure(
        "final",
        "Test accuracy of the final runs: every seed, their mean and its 95% interval.",
        draw,
        Table("Test accuracy by seed.", header, rows, as_percent(header[1:])),
        (6.4, 1.2 + 0.6 * len(values)),
    )

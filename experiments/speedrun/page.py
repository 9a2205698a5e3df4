"""The page of `speedrun`: the curve to the target, and what each part costs in time."""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from experiments.records.metric import ACCURACY
from experiments.records.runs import provenance
from experiments.reporting.drawing import BLUE, label_rows, legend, plain_axes, strokes
from experiments.reporting.page import Figure, FullSize, Page, Section, Table
from experiments.reporting.statistics import (
    counted,
    mean_and_interval,
    number_in_words,
    value_in_words,
)
from experiments.speedrun.options import Speedrun
from experiments.speedrun.recipe import OPERATIONS
from experiments.speedrun.record import SpeedrunRecord
from experiments.studies.terms import SMOKE


def page(
    records: Sequence[SpeedrunRecord],
    plan: Mapping[str, object],
    plan_hash: str,
    options: Speedrun,
    command: str,
) -> Page:
    """The page of some finished runs; `command` repeats them."""
    smoke = options.preset == "smoke"
    full = FullSize("about 45 minutes on two CPU cores", _WHOLE) if smoke else None
    return Page(
        study="speedrun",
        title=f"{plan['dataset']} to {options.target:.0%} with Nesterov momentum",
        summary=_summary(records, options, whole=_is_whole(plan)),
        sections=(_curve(records, options.target), _costs(records), _recipe()),
        plan=plan,
        plan_hash=plan_hash,
        command=command,
        provenance=provenance(records),
        notice=SMOKE if smoke else "",
        full_size=full,
    )


_WHOLE = "python -m experiments speedrun"


def _is_whole(plan: Mapping[str, object]) -> bool:
    """Whether it is the published recipe on CIFAR-10, whose operations are known."""
    settings = plan["dataset"], plan["batch_size"], plan["steps"]
    return settings == ("cifar10", 1024, 476)


def _summary(
    records: Sequence[SpeedrunRecord], options: Speedrun, *, whole: bool
) -> str:
    accuracies = [record.multicrop_accuracy for record in records]
    mean = mean_and_interval(accuracies)
    reached = sum(accuracy >= options.target for accuracy in accuracies)
    minutes = fmean(map(_seconds, records)) / 60
    words = [
        f"{counted(len(records), 'run')} of {counted(records[0].steps, 'step')}: "
        f"{value_in_words(mean, ACCURACY)} of the test images with six views of each, "
        f"in {minutes:.1f} minutes of training and final scoring.",
    ]
    if options.preset == "smoke":
        return " ".join(words)
    who = "It" if len(records) == 1 else "Their mean"
    verb = "reached" if mean.mean >= options.target else "did not reach"
    words.append(f"{who} {verb} {options.target:.1%}.")
    if len(records) > 1:
        words.append(f"{number_in_words(reached)} of the runs did.".capitalize())
    if whole:
        rates = [1e9 * record.matrix_gigaflops for record in records]
        products = fmean(OPERATIONS / rate for rate in rates)
        words.append(
            f"That is {minutes * 60 / products:.2f} times the {products / 60:.1f} "
            "minutes that the recipe's 0.36 PFLOP take as products of 1024×1024 "
            "matrices on the same cores, measured before and after each run."
        )
    return " ".join(words)


def _seconds(record: SpeedrunRecord) -> float:
    return record.training_seconds + record.multicrop_seconds


def _curve(records: Sequence[SpeedrunRecord], target: float) -> Section:
    """Test accuracy after each epoch, and with six views at the end."""
    rows = [
        (record.seed, epoch + 1, loss, train, test)
        for record in records
        for epoch, (loss, train, test) in enumerate(
            zip(
                record.train_loss,
                record.train_accuracy,
                record.test_accuracy,
                strict=True,
            )
        )
    ]
    header = "seed", "epoch", "train loss", "train accuracy", "test accuracy"
    formats = {"train accuracy": "{:.2%}", "test accuracy": "{:.2%}"}
    table = Table("Each epoch", header, rows, formats)
    ends = Table(
        "The end of each run",
        ("seed", "one view", "six views", "training, minutes", "scoring, s", "resumed"),
        [
            (
                record.seed,
                record.test_accuracy[-1],
                record.multicrop_accuracy,
                record.training_seconds / 60,
                record.multicrop_seconds,
                record.resumed,
            )
            for record in records
        ],
        {"one view": "{:.2%}", "six views": "{:.2%}", "training, minutes": "{:.1f}"},
    )
    paragraphs = (
        "The test images have no part in training, and the published settings were not "
        "tuned again. So it does no harm to look at them after each epoch. The last "
        "epoch ends with Lookahead's slow weights.",
    )
    caption = (
        "Test accuracy after each epoch, in %; at the end also the mean of six views "
        "(diamonds). The line is the target."
    )
    draw = partial(_draw_curve, records, target)
    figure = Figure("curve", caption, draw, table)
    return Section("How accuracy rises", paragraphs, (figure,), (ends,))


def _draw_curve(
    records: Sequence[SpeedrunRecord], target: float, canvas: Canvas, ink: str
) -> None:
    axes = canvas.subplots()
    of_seeds = strokes(f"Seed {record.seed}" for record in records)
    for record, (label, stroke) in zip(records, of_seeds.items(), strict=True):
        epochs = range(1, len(record.test_accuracy) + 1)
        accuracy = [100 * value for value in record.test_accuracy]
        axes.plot(
            epochs, accuracy, color=stroke.color, linestyle=stroke.dash, label=label
        )
        best = 100 * record.multicrop_accuracy
        axes.plot(epochs[-1], best, marker="D", markersize=5, color=stroke.color)
    axes.axhline(100 * target, color=ink, linewidth=1, linestyle=":", label="Target")
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Test accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_axes(axes, ink)
    legend(canvas, axes)


def _costs(records: Sequence[SpeedrunRecord]) -> Section:
    """Where the time of a run goes."""
    record = records[0]
    steps = record.steps
    parts = {name: steps * seconds for name, seconds in record.step_parts.items()}
    rest = record.training_seconds - sum(parts.values())
    tested = record.test_seconds * len(record.test_accuracy)
    shares = {
        **parts,
        "exchange between devices, and what the parts overlap": rest,
        "test accuracy after each epoch": tested,
        "test accuracy with six views": record.multicrop_seconds,
        "compilation, the first time": record.compile_seconds,
    }
    rows = [(name, seconds, seconds / steps) for name, seconds in shares.items()]
    header = "part", "seconds of a run", "of a step"
    table = Table("Seconds of each part", header, rows)
    paragraphs = (
        "Each part of a step was compiled and timed alone, forward and backward, and "
        "counts as often as a run takes steps. Programs in which parts stand together "
        "save some of that: what they save and what they exchange is the rest, which "
        "can be negative.",
    )
    caption = f"Seconds of each part in the run of seed {record.seed}."
    height = 0.42 * len(rows) + 0.6
    figure = Figure(
        "costs", caption, partial(_draw_costs, shares), table, (6.4, height)
    )
    return Section("What each part costs", paragraphs, (figure,))


def _draw_costs(shares: Mapping[str, float], canvas: Canvas, ink: str) -> None:
    axes = canvas.subplots()
    axes.barh(
        [row + 0.12 for row in range(len(shares))],
        [*shares.values()],
        height=0.2,
        color=BLUE,
    )
    label_rows(axes, [*shares], ink)
    axes.set_xlabel("Seconds of a run")
    plain_axes(axes, ink)


_RECIPE = (
    (
        "Network",
        "2×2 whitening layer; three groups of two 3×3 convolutions with 64, 256 and "
        "256 channels; BatchNorm without scale; GELU",
        "the first layer needs no training",
    ),
    (
        "Momentum",
        "heavy_ball(0.85, nesterov=True); the step of a constant gradient settles at "
        "10 times the gradient",
        "ten epochs are short",
    ),
    (
        "Learning rate",
        "rises from 0.2 to 1 of its peak in 23% of the steps, then falls to 0.07",
        "steps are long where the loss is far from its minimum",
    ),
    (
        "Biases of BatchNorm",
        "64 times the learning rate",
        "they are few, and learn fast without harm",
    ),
    (
        "Weight decay",
        "0.0153/11.5 of each parameter, added to its gradient",
        "keeps the weights small against their steps",
    ),
    (
        "Lookahead",
        "outer_loop, every 5 steps, 1 − 0.95⁵·(t/T)³ of the way",
        "averages more and more of the path",
    ),
    (
        "Training images",
        "moved by up to 2 pixels; half of them mirrored, in the next epoch the other "
        "half",
        "every image is seen both ways within two epochs",
    ),
    ("Loss", "cross-entropy with label smoothing 0.2", "no label is learned by heart"),
    (
        "Test images",
        "mean logits of six views: the image and two moved by a pixel, each mirrored",
        "errors of single views cancel",
    ),
)


def _recipe() -> Section:
    """What is trained, with the reason of each setting."""
    header = "part", "setting", "why"
    table = Table("The recipe of Jordan 2024, arXiv:2404.00498", header, _RECIPE)
    return Section("The recipe", (), (), (table,))

"""Learning curves of the arms: SVGs for the page, a PNG for anywhere else."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.records.runs import Epoch, Run
from experiments.reporting.drawing import element, legend, picture, plain_axes, strokes

_PANELS = {
    "train_loss": "Training loss",
    "validation_loss": "Validation loss",
    "train_accuracy": "Training accuracy",
    "validation_accuracy": "Validation accuracy",
}
_SPLITS = ("train", "validation")


def curves_svg(runs: Sequence[Run], titles: Mapping[str, str]) -> tuple[str, ...]:
    """Four `<svg>` elements for a page: loss and accuracy, training and validation.

    Text and axes take the page's colour (`currentColor`), so that they suit light and
    dark. Equal runs give equal text. The legend, from `strokes`, is the page's.

    Args:
      runs: of one plan, at least one.
      titles: the title of each arm, by key.
    """
    return tuple(
        element(
            partial(_draw_alone, runs, titles, field),
            (4.4, 3.1),
            field,
            *_described(runs, titles, field),
        )
        for field in _PANELS
    )


def curves_png(runs: Sequence[Run], titles: Mapping[str, str]) -> bytes:
    """The same curves in one picture on white, with legend and data set's name.

    Args:
      runs: of one plan, at least one.
      titles: the title of each arm, by key, in the order of the legend.
    """
    return picture(partial(_draw_all, runs, titles), (8.8, 6.4))


def _draw_alone(
    runs: Sequence[Run], titles: Mapping[str, str], field: str, canvas: Figure, ink: str
) -> None:
    _draw_panel(canvas.subplots(), runs, titles, field, ink)


def _draw_all(
    runs: Sequence[Run], titles: Mapping[str, str], canvas: Figure, ink: str
) -> None:
    grid = canvas.subplots(2, 2)
    for axes, field in zip(grid.flat, _PANELS, strict=True):
        _draw_panel(axes, runs, titles, field, ink)
    legend(canvas, grid[0, 0], title=runs[0].config.dataset)


def _draw_panel(
    axes: Axes,
    runs: Sequence[Run],
    titles: Mapping[str, str],
    field: str,
    ink: str,
) -> None:
    """One figure of all arms: a thin line a seed, and their mean.

    Lines end where a run diverged.
    """
    for arm, stroke in strokes(titles).items():
        values = _values(runs, field, arm)
        if not values.size:
            continue
        epochs = np.arange(1, values.shape[1] + 1)
        dots = "o" if len(epochs) < 3 else None  # so short a line would hardly show
        axes.plot(
            epochs,
            values.T,
            color=stroke.colour,
            linewidth=0.7,
            alpha=0.55,
            marker=dots,
            markersize=3,
        )
        axes.plot(
            epochs,
            values.mean(axis=0),
            label=titles[arm],
            color=stroke.colour,
            linestyle=stroke.dash,
            linewidth=1.8,
            marker=dots,
            zorder=4 if stroke.dash == "dashed" else 3,  # gaps show what is below
        )
    axes.set(title=_PANELS[field], xlabel="Epoch")
    plain_axes(axes, ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.7, len(runs[0].epochs) + 0.3)
    _scale(axes, runs, field)


def _scale(axes: Axes, runs: Sequence[Run], field: str) -> None:
    """The same vertical axis for training and validation."""
    kind = field.split("_")[1]
    values = np.stack([_values(runs, f"{split}_{kind}") for split in _SPLITS])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if kind == "accuracy":
        axes.yaxis.set_major_formatter(lambda x, _: f"{100 * x:.4g}%")
    elif low > 0 and high > 100 * low:  # one arm would flatten all others
        axes.set_yscale("log")
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    margin = 0.05 * (high - low) or 0.01
    axes.set_ylim(low - margin, high + margin)


def _values(runs: Sequence[Run], field: str, arm: str | None = None) -> np.ndarray:
    """One figure of an arm, or of all of them: shape [runs, epochs]."""
    column = Epoch._fields.index(field)
    return np.array(
        [
            [epoch[column] for epoch in run.epochs]
            for run in runs
            if arm in (None, run.config.arm)
        ]
    )


def _described(
    runs: Sequence[Run], titles: Mapping[str, str], field: str
) -> tuple[str, str]:
    """A panel's name and its curves' ends, for those who don't see them."""
    ends = []
    for arm, title in titles.items():
        values = _values(runs, field, arm)
        if values.size:
            last = values[:, -1].mean()
            ends.append(f"{title} " + ("diverged" if np.isnan(last) else f"{last:.3f}"))
    return (
        f"{_PANELS[field]} on {runs[0].config.dataset}, by epoch",
        f"Means of the last epoch: {'; '.join(ends)}.",
    )

"""Learning curves of the arms: SVGs for the page, a PNG for anywhere else."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.runs import Epoch, Run


class Stroke(NamedTuple):
    """How the line of an arm is drawn: CSS's words, which Matplotlib shares."""

    colour: str
    dash: str


# Okabe and Ito's colours that keep a contrast of 3 : 1 on white and on near-black
# alike; dashes tell neighbours apart in print and for any eye.
STROKES = (
    Stroke("#0072b2", "dashed"),
    Stroke("#009e73", "solid"),
    Stroke("#cc79a7", "dashed"),
    Stroke("#d55e00", "solid"),
)

_PANELS = {
    "train_loss": "Training loss",
    "validation_loss": "Validation loss",
    "train_accuracy": "Training accuracy",
    "validation_accuracy": "Validation accuracy",
}
_SPLITS = ("train", "validation")
_INK = "#1b1e23"
# An ink that no drawing uses, to be found in an SVG and given to the page's own.
_PAGE_INK = "#010203"
_STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",  # text stays text: selectable, in the page's own font
    "text.parse_math": False,  # a name with dollar signs is a name
}


def strokes(arms: Iterable[str]) -> dict[str, Stroke]:
    """The stroke of each arm, the same in every drawing of these arms in this order."""
    return dict(zip(arms, cycle(STROKES), strict=False))


def curves_svg(runs: Sequence[Run], titles: Mapping[str, str]) -> tuple[str, ...]:
    """Four `<svg>` elements for a page: loss and accuracy, training and validation.

    Text and axes take the page's colour (`currentColor`), so that they suit light and
    dark. Equal runs give equal text. The legend, from `strokes`, is the page's.

    Args:
      runs: of one plan, at least one.
      titles: the title of each arm, by key.
    """
    elements = []
    for field in _PANELS:
        # The salt makes ids that are the same in every run and unique on the page.
        with matplotlib.rc_context({**_STYLE, "svg.hashsalt": field}):
            figure = Figure(figsize=(4.4, 3.1), layout="constrained")
            _draw_panel(figure.subplots(), runs, titles, field, _PAGE_INK)
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            file = io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        svg = file.getvalue()
        svg = svg[svg.index("<svg ") :].replace(_PAGE_INK, "currentColor")
        svg = re.sub(r'<g id="[a-z0-9_.]+">', "<g>", svg)
        head, body = svg.split(">", 1)
        name, described = _described(runs, titles, field)
        description = f"<title>{escape(name)}</title><desc>{escape(described)}</desc>"
        elements.append(f'{head} role="img">{description}{body}')
    return tuple(elements)


def curves_png(runs: Sequence[Run], titles: Mapping[str, str]) -> bytes:
    """The same curves in one picture on white, with legend and data set's name.

    Args:
      runs: of one plan, at least one.
      titles: the title of each arm, by key, in the order of the legend.
    """
    file = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.8, 6.4), layout="constrained")
        grid = figure.subplots(2, 2)
        for axes, field in zip(grid.flat, _PANELS, strict=True):
            _draw_panel(axes, runs, titles, field, _INK)
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(),
            loc="outside upper center",
            ncols=2,
            frameon=False,
            labelcolor=_INK,
            handlelength=3,
        )
        # The drawing's font lacks most scripts, so a name outside ASCII is spelled out.
        name = runs[0].config.dataset.encode("unicode_escape").decode()
        figure.suptitle(name, x=0.008, ha="left", weight="bold", color=_INK)
        figure.savefig(file, format="png", dpi=160, metadata={"Software": None})
    return file.getvalue()


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
    axes.set_title(_PANELS[field], loc="left", color=ink, size="medium", weight="bold")
    axes.set_xlabel("Epoch", color=ink)
    axes.tick_params(colors=ink, length=3, width=0.6)
    axes.grid(color=ink, alpha=0.12, linewidth=0.6)
    axes.spines[:].set(color=ink, linewidth=0.6)
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
        axes.yaxis.set_major_formatter("{x:g}")  # by default it writes in TeX
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

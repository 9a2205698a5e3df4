"""The page of an invented study, with every kind of element and hostile names."""

import math

import numpy as np
from matplotlib.figure import Figure as Canvas

from experiments.reporting.drawing import (
    heat_map,
    legend,
    line_with_band,
    panels,
    plain_axes,
    strokes,
)
from experiments.reporting.page import Figure, Page, Section, Table

SCRIPT = "<script>document.title = 'hacked'</script>"
TURNED = "\u202edenrut\u202c"  # shown from right to left where it is not spelled out
NAMES = (SCRIPT, "$x^2$ & $_{$", "数字 العربية", "caf\udce9.npz", TURNED, "n" * 90)

RATES = (1e-4, 1e-3, 1e-2, 0.1)
BETAS = (0.0, 0.5, 0.9, 0.99)
ACCURACIES = np.array(
    [
        [0.412, 0.633, 0.8712, 0.9127],
        [0.483, 0.702, 0.9031, 0.9204],
        [0.655, 0.861, 0.9412, math.nan],
        [0.801, 0.922, math.nan, math.nan],
    ]
)

SCORES = Table(
    "Every arm, as tuned; the interval is Student's t over the seeds.",
    ("Arm", "Learning rate", "Images", "Difference", "Loss", "Accuracy", "Remark"),
    (
        (NAMES[0], 0.0125, 1150, -0.0123, 0.2718, 0.9341, "under-tuned"),
        (NAMES[1], 0.1, 1150, 0.004, math.nan, math.nan, "diverged at epoch 3 of 10"),
        (NAMES[2], 2e-5, 45_000, None, 1234.5678, 0.9412, None),
        (NAMES[3], 1.0, 999, 0.0, 0.0000123, 0.8712, "arm 10"),
        (NAMES[4], 0.0001, 12, 0.0123, math.inf, 0.1, "arm 9"),
        (NAMES[5], 0.5, 1150, -0.0123, 0.2718, 0.9341, "the same again"),
    ),
    {"Difference": "{:+.2%}", "Accuracy": "{:.2%}"},
)
HEATS = Table(
    "Validation accuracy at every point.",
    ("β", "Learning rate", "Accuracy"),
    [
        (beta, rate, float(accuracy))
        for beta, row in zip(BETAS, ACCURACIES, strict=True)
        for rate, accuracy in zip(RATES, row, strict=True)
    ],
    {"Accuracy": "{:.2%}"},
)
CURVES = Table(
    "Steps to the target by condition number: the median and the middle half.",
    ("Condition number", *(f"{name}, steps" for name in NAMES[:2])),
    [(10.0**power, 12.0 * 10**power, 9.0 * 10 ** (power / 2)) for power in range(1, 7)],
)


def draw_heat(canvas: Canvas, ink: str) -> None:
    axes = canvas.subplots()
    rates, betas = [f"{rate:g}" for rate in RATES], [f"{beta:g}" for beta in BETAS]
    heat_map(axes, ACCURACIES, rates, betas, ink, "{:.1%}")
    axes.set(xlabel="Effective learning rate", ylabel="β", title=NAMES[1])


def draw_curves(canvas: Canvas, ink: str) -> None:
    rows = np.array(CURVES.rows)
    scales = dict(zip(("log", "linear"), panels(canvas, 2), strict=True))
    for scale, axes in scales.items():
        for column, (name, stroke) in enumerate(strokes(NAMES[:2]).items(), start=1):
            middle = rows[:, column]
            line_with_band(
                axes, rows[:, 0], middle, middle / 2, middle * 2, stroke, name
            )
        plain_axes(axes, ink)
        axes.set(xscale=scale, yscale=scale, title=f"Steps, {scale} axes")
        axes.set(xlabel="Condition number κ", ylabel=NAMES[3])
    legend(canvas, scales["log"])


PAGE = Page(
    study="sweep",
    title=f"Which β, which learning rate, on {SCRIPT}",
    summary=(
        "On 1,797 digits momentum with β = 0.9 at learning rate 0.01 reaches 94.12% of "
        "the validation images, against 92.04% without: a difference of +2.08 points, "
        "95% interval +1.10 to +3.06, n = 10 paired seeds. At β = 0.99 every larger "
        f"learning rate diverged. The data are {NAMES[3]} {TURNED} and {NAMES[2]}."
    ),
    sections=(
        Section(
            "What matters, and how much",
            ("Along a diagonal the settled step is the same.", f"Data: {SCRIPT}."),
            figures=(
                Figure(
                    "heat",
                    "Validation accuracy by learning rate and β; the best is framed, "
                    f"a cross diverged. {NAMES[1]}",
                    draw_heat,
                    HEATS,
                ),
            ),
            tables=(SCORES,),
        ),
        Section(
            "How it grows",
            figures=(Figure("grow/<th>", "Steps to a target.", draw_curves, CURVES),),
        ),
        Section(
            "To use it",
            ("Paste this.",),
            code=f"optimizer = sgd(0.01, beta=0.9)\n# tuned on {SCRIPT}\n" + "x" * 200,
        ),
    ),
    plan={
        "dataset": SCRIPT,
        "learning_rates": list(RATES),
        "betas": BETAS,
        "seeds": {"tuning": [0, 1, 2], "reporting": list(range(100, 110))},
        "budget": np.int64(16),
    },
    plan_hash="0123456789abcdef",
    command=f"python -m experiments sweep --dataset '{SCRIPT}' --output runs/"
    + "y" * 99,
    provenance={
        "device": ["cpu: an imagined one"],
        "jax": ["0.10.2", "0.11.0"],
        "commit": ["c0ffee" * 6],
    },
)


def with_table(table, **changes):
    """The page with this table and nothing else."""
    return PAGE._replace(sections=[Section("Alone", tables=[table])], **changes)

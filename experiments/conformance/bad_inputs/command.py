"""The command `bad-inputs`: gives forty bad inputs to optax_momentum and to Optax."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from rich.console import Console

from experiments.conformance import matrix
from experiments.conformance.bad_inputs import libraries
from experiments.conformance.bad_inputs.inputs import INPUTS, BadInput
from experiments.conformance.bad_inputs.libraries import Library
from experiments.conformance.bad_inputs.modes import MODES
from experiments.conformance.matrix import Cell
from experiments.conformance.options import BadInputs
from experiments.records.plan import make_directory
from experiments.reporting import rendering
from optax_momentum.testing import Result, judge, name_of

FILE_NAME = "bad_inputs.md"
LONGEST = 160  # characters of an outcome


def bad_inputs(options: BadInputs, console: Console) -> None:
    """Runs every input on both libraries and writes the page.

    Raises:
      UsageError: the page can't be written.
    """
    make_directory(options.output)  # an error here comes before the long run
    matrix.use_two_cpu_devices()
    both = libraries.optax_momentum_(), libraries.optax_()
    cells = {library.name: _examine(library, console) for library in both}
    matrix.write_page(options.output / FILE_NAME, render(cells), console)


def examine(bad_input: BadInput, library: Library) -> Cell:
    """Gives a library one input in every mode."""
    return matrix.cell({name_of(m): judge((bad_input,), library, m)[0] for m in MODES})


def promise(bad_input: BadInput) -> str:
    """What should happen, in one line."""
    return " ".join((bad_input.__doc__ or "").split())


def in_words(cell: Cell) -> str:
    """Lists the outcomes, each after its modes; all modes agree if none is named."""
    modes: dict[str, list[str]] = {}
    for result, names in cell.settings.items():
        modes.setdefault(_outcome(result), []).extend(names)
    if len(modes) == 1:
        return next(iter(modes))
    return "; ".join(f"{', '.join(same)}: {outcome}" for outcome, same in modes.items())


def render(cells: Mapping[str, Sequence[Cell]]) -> str:
    """The page, from each library's cells in the order of the inputs."""
    rows = [
        (name_of(bad_input), promise(bad_input), row)
        for bad_input, *row in zip(INPUTS, *cells.values(), strict=True)
    ]
    counts = {
        library: [sum(c.count(x) for c in column) for x in (True, False, None)]
        for library, column in cells.items()
    }
    values = {"versions": matrix.versions(), "rows": rows, "counts": counts}
    template, folder = "bad_inputs.md.jinja", Path(__file__).parent
    return rendering.render(template, values, folder=folder, in_words=in_words)


def _examine(library: Library, console: Console) -> list[Cell]:
    """Every cell of a library, under JAX's default settings."""
    cells = []
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for number, bad_input in enumerate(INPUTS, start=1):
            console.print(f"{library.name}: {number}, {name_of(bad_input)}")
            cells.append(examine(bad_input, library))
    return cells


def _outcome(result: Result) -> str:
    if result.passed:
        return "as promised"
    impossible = "impossible: " if result.passed is None else ""
    return matrix.shorten(impossible + result.detail, LONGEST)

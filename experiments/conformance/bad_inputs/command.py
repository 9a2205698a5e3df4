"""The command `bad-inputs`: runs the table for ours and for Optax, and writes it."""

import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax
from rich.console import Console

from experiments.conformance.bad_inputs import systems
from experiments.conformance.bad_inputs.systems import System
from experiments.conformance.bad_inputs.table import INPUTS, in_words, promise, results
from experiments.records.plan import make_directory
from experiments.records.runs import environment, write_atomically
from experiments.reporting import rendering
from optax_momentum.testing import Result, name_of

FILE_NAME = "bad_inputs.md"


@dataclass(frozen=True)
class BadInputs:
    """Give forty bad inputs to our methods and to Optax's, and write what came of each.

    In four modes: eager, jit, vmap and scan. Every cell of bad_inputs.md is run, none
    is copied. Takes about two minutes.
    """

    output: Path = Path("docs")
    """Directory of the file."""


def bad_inputs(options: BadInputs, console: Console) -> None:
    """Runs everything and writes the file.

    Raises:
      UsageError: the output can't be written.
    """
    make_directory(options.output)  # or refuse it, before anything takes long
    with suppress(RuntimeError):  # once JAX runs, it has the devices that it has
        jax.config.update("jax_num_cpu_devices", 2)
    found = {
        system.name: _examine(system, console)
        for system in (systems.ours(), systems.optax_())
    }
    path = options.output / FILE_NAME
    write_atomically(path, render(found).encode())
    console.print(f"wrote {path}")


def render(found: Mapping[str, list[dict[str, Result]]]) -> str:
    """The page, of each system's results by mode, in the order of the inputs."""
    versions = {**environment(), "device": jax.devices()[0].device_kind}
    versions["platform"] = f"{platform.system()} {platform.machine()}"
    rows = [
        (name_of(bad_input), promise(bad_input), [in_words(own) for own in cells])
        for bad_input, *cells in zip(INPUTS, *found.values(), strict=True)
    ]
    counts = {system: _counts(own) for system, own in found.items()}
    values = {"versions": versions, "rows": rows, "counts": counts}
    return rendering.render("bad_inputs/bad_inputs.md.jinja", values)


def _examine(system: System, console: Console) -> list[dict[str, Result]]:
    """Under JAX's own settings, whatever those of the caller are."""
    found = []
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for number, bad_input in enumerate(INPUTS, start=1):
            console.print(f"{system.name}: {number}, {name_of(bad_input)}")
            found.append(results(bad_input, system))
    return found


def _counts(found: list[dict[str, Result]]) -> tuple[int, int, int]:
    """How many cells are kept, broken and impossible."""
    cells = [result.passed for by_mode in found for result in by_mode.values()]
    kept, broken, impossible = map(cells.count, (True, False, None))
    return kept, broken, impossible

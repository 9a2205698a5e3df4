"""What both matrices share: a cell's results, and the page that shows them."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax
from rich.console import Console

from experiments.distributed.environment import find_devices
from experiments.records.runs import environment, write_atomically
from optax_momentum.testing import Result


@dataclass(frozen=True)
class Cell:
    """One check on one library: the settings or modes that gave each result."""

    settings: Mapping[Result, Sequence[str]]

    def count(self, passed: bool | None) -> int:
        """The settings that pass (True), fail (False) or can't be checked (None)."""
        return sum(map(len, self.reasons(passed).values()))

    def reasons(self, passed: bool | None) -> dict[str, Sequence[str]]:
        """The settings of such results, by the reason that the results give."""
        return {
            result.detail: settings
            for result, settings in self.settings.items()
            if result.passed is passed
        }


def cell(results: Mapping[str, Result]) -> Cell:
    """Groups the results of one check on one library, given by setting."""
    settings: dict[Result, list[str]] = {}
    for setting, result in results.items():
        settings.setdefault(result, []).append(setting)
    return Cell(settings)


def shorten(text: str, most: int) -> str:
    """Cuts a text to that many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def use_two_cpu_devices() -> None:
    """Makes the checks about sharding possible on a CPU.

    Raises:
      UsageError: JAX can't start.
    """
    with suppress(RuntimeError):  # JAX has started, and its devices are fixed
        jax.config.update("jax_num_cpu_devices", 2)
    find_devices()


def versions() -> dict[str, str]:
    """The software and hardware of this run, as the pages list them."""
    return {
        **environment(),
        "device": jax.devices()[0].device_kind,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def write_page(path: Path, text: str, console: Console) -> None:
    """Writes one page and reports its path."""
    write_atomically(path, text.encode())
    console.print(f"wrote {path}")

"""Who keeps which promise: the public kit, run over our methods and over others."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console

from experiments.conformance import subjects
from experiments.conformance.subjects import Subject
from experiments.peers.peer_optimizer import peer
from experiments.records.plan import make_directory
from experiments.records.runs import environment, write_atomically
from experiments.reporting import rendering
from optax_momentum import testing
from optax_momentum.testing import Result

GROUPS = {
    "What it computes": testing.EQUATIONS,
    "What it owes its callers": testing.CONTRACT + testing.CONTRACT_OF_LINEAR,
    "What it refuses, saying where": testing.REFUSALS,
    "Which β it refuses": testing.BAD_BETAS,
}
PEERS = {
    "PyTorch": ("step_pytorch.py", subjects.pytorch),
    "Keras": ("step_keras.py", subjects.keras_),
}
NO_TREES = "it is not on JAX"


@dataclass(frozen=True)
class Conformance:
    """Examine our methods, Optax's, PyTorch's and Keras's, and write the matrix.

    Every cell is run, none is copied: conformance.md and conformance.html say who
    keeps which promise of `optax_momentum.testing`, and how it is broken.
    """

    output: Path = Path("docs")
    """Directory of the two files."""

    peers: Path | None = None
    """Python interpreter of an environment that has PyTorch,
    Keras or both: those are then examined too."""


class Cell(NamedTuple):
    """What came of one promise in all settings of one system."""

    kept: int
    broken: Mapping[str, Sequence[str]]  # reason ↦ settings
    without: Mapping[str, Sequence[str]]  # why it does not apply ↦ settings

    @property
    def failed(self) -> int:
        """How many settings broke it."""
        return sum(map(len, self.broken.values()))


class Row(NamedTuple):
    """One promise."""

    name: str
    explanation: str
    cells: Mapping[str, Cell]  # by system


def conformance(options: Conformance, console: Console) -> None:
    """Runs everything and writes both files.

    Raises:
      UsageError: the output can't be written, or the peers' interpreter is none.
    """
    make_directory(options.output)  # or refuse it, before anything takes long
    with suppress(RuntimeError):  # once JAX runs, it has the devices that it has
        jax.config.update("jax_num_cpu_devices", 2)
    versions = {**environment(), "device": jax.devices()[0].device_kind}
    versions["platform"] = f"{platform.system()} {platform.machine()}"
    with ExitStack() as stack:
        systems = {"optax_momentum": subjects.ours(), "Optax": subjects.optax_()}
        for name, (program, settings) in PEERS.items():
            if options.peers is None:
                continue
            found = stack.enter_context(peer(options.peers, program))
            if found is None:
                console.print(f"{name} is not installed there.")
                continue
            systems[name], versions[name] = settings(found), found.version
        results: dict[str, dict[str, dict[str, Result]]] = {}
        for system, own in systems.items():
            results[system] = {}
            for subject in own:
                console.print(f"{system}: {subject.name}")
                results[system][subject.name] = examine(subject)
    groups = matrix(results)
    for suffix in ("md", "html"):
        path = options.output / f"conformance.{suffix}"
        text = render(f"conformance.{suffix}.jinja", groups, systems, versions)
        write_atomically(path, text.encode())
        console.print(f"wrote {path}")


def examine(subject: Subject) -> dict[str, Result]:
    """Every promise's result, by its name."""
    results: list[Result] = []
    if subject.optimizer is not None and subject.claim is not None:
        results += testing.check_equations(subject.optimizer, subject.claim)
    else:
        results += _without(testing.EQUATIONS, "not a linear method by itself")
    if subject.transformation is not None:
        linear = subject.linear
        results += testing.check_contract(subject.transformation, linear=linear)
        if not linear:
            results += _without(testing.CONTRACT_OF_LINEAR, "not linear")
        results += testing.check_refusals(subject.transformation)
    else:
        jax_only = testing.CONTRACT + testing.CONTRACT_OF_LINEAR + testing.REFUSALS
        results += _without(jax_only, NO_TREES)
    if subject.build is not None:
        results += testing.check_bad_beta(subject.build)
    else:
        results += _without(testing.BAD_BETAS, "takes no β")
    return {result.name: result for result in results}


def matrix(
    results: Mapping[str, Mapping[str, Mapping[str, Result]]],
) -> dict[str, list[Row]]:
    """The rows of each group, from system ↦ setting ↦ promise ↦ result."""
    groups = {}
    for group, promises in GROUPS.items():
        groups[group] = []
        for promise in promises:
            name = testing.name_of(promise)
            cells = {
                system: _cell({setting: own[name] for setting, own in settings.items()})
                for system, settings in results.items()
            }
            explanation = (promise.__doc__ or "").partition("\n")[0]
            groups[group].append(Row(name, explanation, cells))
    return groups


def render(
    template: str,
    groups: Mapping[str, Sequence[Row]],
    systems: Mapping[str, Sequence[Subject]],
    versions: Mapping[str, str],
) -> str:
    """One of the two files; the page needs nothing else."""
    values = {"groups": groups, "systems": systems, "versions": versions}
    return rendering.render(template, values, cell=in_words)


def in_words(cell: Cell) -> str:
    """pass, FAIL with the first reason, or why it does not apply."""
    if cell.broken:
        reason = next(iter(cell.broken))
        reason = reason if len(reason) <= 110 else f"{reason[:109]}…"
        return f"FAIL in {cell.failed} of {cell.failed + cell.kept}: {reason}"
    return "pass" if cell.kept else f"does not apply: {next(iter(cell.without))}"


def _without(promises: Iterable, reason: str) -> list[Result]:
    return [Result(testing.name_of(promise), None, reason) for promise in promises]


def _cell(results: Mapping[str, Result]) -> Cell:
    broken: dict[str, list[str]] = {}
    without: dict[str, list[str]] = {}
    for setting, result in results.items():
        if result.passed is False:
            broken.setdefault(result.detail, []).append(setting)
        elif result.passed is None:
            without.setdefault(result.detail, []).append(setting)
    kept = sum(bool(result.passed) for result in results.values())
    return Cell(kept, broken, without)

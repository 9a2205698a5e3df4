"""The command `conformance`: which library keeps which promise of the test kit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.conformance import subjects
from experiments.conformance.matrix import (
    Cell,
    cell,
    shorten,
    use_two_cpu_devices,
    versions,
    write_page,
)
from experiments.conformance.options import Conformance
from experiments.conformance.subjects import Subject
from experiments.peers.optimizer import start_library
from experiments.records.plan import make_directory
from experiments.reporting import rendering
from optax_momentum import testing
from optax_momentum.testing import Result

GROUPS = {
    "What it computes": testing.EQUATIONS,
    "What its callers rely on": testing.CONTRACT + testing.CONTRACT_OF_LINEAR,
    "Input that it refuses, naming the leaf or argument": testing.REFUSALS,
    "Values of β that it refuses": testing.BAD_BETAS,
}
PEERS = {
    "PyTorch": ("step_pytorch.py", subjects.pytorch),
    "Keras": ("step_keras.py", subjects.keras_),
}


class Row(NamedTuple):
    """One promise."""

    name: str
    explanation: str
    cells: Mapping[str, Cell]  # by library


def conformance(options: Conformance, console: Console) -> None:
    """Checks every setting of every library and writes both files.

    Raises:
      UsageError: the output can't be written, or the peers' interpreter can't run.
    """
    make_directory(options.output)  # an error here comes before the long run
    use_two_cpu_devices()
    facts = versions()
    with ExitStack() as stack:
        libraries = {
            "optax_momentum": subjects.optax_momentum_(),
            "Optax": subjects.optax_(),
        }
        for name, (program, subjects_of) in PEERS.items():
            if options.peers is None:
                break
            peer = stack.enter_context(start_library(options.peers, program))
            if peer is None:
                console.print(f"{name} is not installed in the peers' environment.")
                continue
            libraries[name], facts[name] = subjects_of(peer), peer.version
        results: dict[str, dict[str, dict[str, Result]]] = {}
        for library, examined in libraries.items():
            results[library] = {}
            for subject in examined:
                console.print(f"{library}: {subject.name}")
                results[library][subject.name] = examine(subject)
    groups = matrix(results)
    for name in ("conformance.md", "conformance.html"):
        text = render(f"{name}.jinja", groups, libraries, facts)
        write_page(options.output / name, text, console)


def examine(subject: Subject) -> dict[str, Result]:
    """The result of every promise, by its name."""
    results: list[Result] = []
    if subject.optimizer is not None and subject.claim is not None:
        results += testing.check_equations(subject.optimizer, subject.claim)
    else:
        results += _not_applicable(testing.EQUATIONS, "not a linear method by itself")
    if subject.transformation is not None:
        linear = subject.linear
        results += testing.check_contract(subject.transformation, linear=linear)
        if not linear:
            results += _not_applicable(testing.CONTRACT_OF_LINEAR, "not linear")
        results += testing.check_refusals(subject.transformation)
    else:
        jax_only = testing.CONTRACT + testing.CONTRACT_OF_LINEAR + testing.REFUSALS
        results += _not_applicable(jax_only, "not built on JAX")
    if subject.build is not None:
        results += testing.check_bad_beta(subject.build)
    else:
        results += _not_applicable(testing.BAD_BETAS, "takes no β")
    return {result.name: result for result in results}


def matrix(
    results: Mapping[str, Mapping[str, Mapping[str, Result]]],
) -> dict[str, list[Row]]:
    """The rows of each group, from results by library, setting and promise."""
    return {
        group: [_row(promise, results) for promise in promises]
        for group, promises in GROUPS.items()
    }


def render(
    template: str,
    groups: Mapping[str, Sequence[Row]],
    libraries: Mapping[str, Sequence[Subject]],
    versions: Mapping[str, str],
) -> str:
    """One of the two files; the HTML page needs no other file."""
    values = {"groups": groups, "libraries": libraries, "versions": versions}
    folder = Path(__file__).parent
    return rendering.render(template, values, folder=folder, in_words=in_words)


def in_words(cell: Cell) -> str:
    """Says pass, FAIL with the first reason, or why the promise does not apply."""
    if failed := cell.count(False):
        reason = shorten(next(iter(cell.reasons(False))), 110)
        return f"FAIL in {failed} of {failed + cell.count(True)}: {reason}"
    if cell.count(True):
        return "pass"
    return f"does not apply: {next(iter(cell.reasons(None)))}"


def _row(
    promise: Callable[..., None],
    results: Mapping[str, Mapping[str, Mapping[str, Result]]],
) -> Row:
    name = testing.name_of(promise)
    cells = {
        library: cell({setting: by_name[name] for setting, by_name in settings.items()})
        for library, settings in results.items()
    }
    return Row(name, (promise.__doc__ or "").partition("\n")[0], cells)


def _not_applicable(promises: Iterable[Callable], reason: str) -> list[Result]:
    return [Result(testing.name_of(promise), None, reason) for promise in promises]

"""All forty, in the order of the page, and what is said of each."""

from collections.abc import Callable, Mapping

from experiments.conformance.bad_inputs.inputs_dtypes import DTYPES
from experiments.conformance.bad_inputs.inputs_leaves import LEAVES
from experiments.conformance.bad_inputs.inputs_numbers import NUMBERS
from experiments.conformance.bad_inputs.inputs_trees import TREES
from experiments.conformance.bad_inputs.inputs_values import VALUES
from experiments.conformance.bad_inputs.modes import MODES, Mode
from experiments.conformance.bad_inputs.systems import System
from optax_momentum.testing import Result, judge, name_of

# Raises AssertionError with what happened where it is not what the docstring promises.
BadInput = Callable[[System, Mode], None]

INPUTS: tuple[BadInput, ...] = (*NUMBERS, *LEAVES, *DTYPES, *TREES, *VALUES)

KEPT = "as promised"
LONGEST = 160  # characters of what happened


def results(bad_input: BadInput, system: System) -> dict[str, Result]:
    """What came of one input, by the name of the mode."""
    return {name_of(mode): judge((bad_input,), system, mode)[0] for mode in MODES}


def promise(bad_input: BadInput) -> str:
    """What is promised of it, in a line."""
    return " ".join((bad_input.__doc__ or "").split())


def in_words(by_mode: Mapping[str, Result]) -> str:
    """One cell: what came of it, said once where it is the same in several modes."""
    modes: dict[str, list[str]] = {}
    for mode, result in by_mode.items():
        modes.setdefault(_outcome(result), []).append(mode)
    if len(modes) == 1:
        return next(iter(modes))
    return "; ".join(f"{', '.join(same)}: {outcome}" for outcome, same in modes.items())


def _outcome(result: Result) -> str:
    if result.passed:
        return KEPT
    said = result.detail if result.passed is False else f"impossible: {result.detail}"
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"

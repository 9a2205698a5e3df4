"""`bad-inputs`: optax_momentum keeps the forty promises, and the page says so."""

from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from experiments.conformance.bad_inputs import command, libraries
from experiments.conformance.bad_inputs.command import (
    BadInputs,
    bad_inputs,
    in_words,
    promise,
)
from experiments.conformance.bad_inputs.inputs import (
    INPUTS,
    a_beta_above_one,
    a_state_of_another_optimizer,
    nan_in_one_element,
)
from experiments.conformance.bad_inputs.modes import MODES, jit, scan, vmap
from experiments.conformance.matrix import cell
from experiments.records.config import UsageError
from optax_momentum.testing import DoesNotApply, Result, judge, name_of

PAGE = Path(__file__).parents[3] / "docs" / command.FILE_NAME
IMPOSSIBLE = {(33, "vmap")}


@cache
def result_of(number, mode) -> Result:
    return judge((INPUTS[number - 1],), libraries.optax_momentum_(), mode)[0]


NUMBERS = range(1, len(INPUTS) + 1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=name_of)
@pytest.mark.parametrize(
    "number", NUMBERS, ids=[f"{n} {name_of(i)}" for n, i in enumerate(INPUTS, 1)]
)
def test_optax_momentum_keeps_the_promise(number, mode):
    result = result_of(number, mode)
    assert result.passed is not False, result.detail
    assert (result.passed is None) == ((number, name_of(mode)) in IMPOSSIBLE)


def test_each_of_forty_inputs_has_a_promise():
    assert len({name_of(bad_input) for bad_input in INPUTS}) == 40
    assert all(promise(bad_input).endswith(".") for bad_input in INPUTS)


def test_the_page_has_the_results_of_a_run():
    lines = PAGE.read_text().splitlines()
    for number in NUMBERS:
        bad_input = INPUTS[number - 1]
        results = {name_of(mode): result_of(number, mode) for mode in MODES}
        texts = name_of(bad_input), promise(bad_input), in_words(cell(results))
        (row,) = (line for line in lines if line.startswith(f"| {number} |"))
        assert row.startswith(f"| {number} | {' | '.join(texts)} |")
    cells = len(INPUTS) * len(MODES)
    kept = cells - len(IMPOSSIBLE)
    assert f"| optax_momentum | {kept} | 0 | {len(IMPOSSIBLE)} |" in lines


@pytest.mark.parametrize(
    ("bad_input", "mode", "outcome"),
    [
        (a_beta_above_one, jit, "accepted: gradients of 1 give 1.0, 2.5, 4.75"),
        (
            nan_in_one_element,
            scan,
            "number 3 in a row is applied: the update is [0.749, nan]",
        ),
        (
            a_state_of_another_optimizer,
            vmap,
            "it is refused without saying where: AttributeError: 'tuple' object has",
        ),
    ],
)
def test_a_broken_promise_says_what_happened(bad_input, mode, outcome):
    result = judge((bad_input,), libraries.optax_(), mode)[0]
    assert result.passed is False
    assert result.detail.startswith(outcome)


def fine(library, mode):
    """Works."""


def wrong_in_a_scan(library, mode):
    """Works
    everywhere."""
    if mode is scan:
        raise AssertionError(f"{library.name} | gave 3" + "!" * 200)


def nowhere(library, mode):
    """Refused."""
    raise DoesNotApply("there is none")


def test_the_command_writes_the_outcome_of_every_input(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "INPUTS", (fine, wrong_in_a_scan, nowhere))
    bad_inputs(BadInputs(output=tmp_path / "new"), Console())
    (path,) = (tmp_path / "new").iterdir()
    page = path.read_text()
    assert path.name == "bad_inputs.md"
    assert "| optax_momentum | 7 | 1 | 4 |\n| Optax | 7 | 1 | 4 |\n" in page
    assert "| 1 | fine | Works. | as promised | as promised |\n" in page
    cell = "eager, jit, vmap: as promised; scan: optax_momentum \\| gave 3!!"
    assert f"| 2 | wrong in a scan | Works everywhere. | {cell}" in page
    assert "!" * (command.LONGEST - 24) + "… |" in page
    row = "| 3 | nowhere | Refused. | impossible: there is none |"
    assert f"{row} impossible: there is none |\n" in page


def test_an_output_that_is_a_file_is_refused_before_anything_runs(tmp_path):
    (file := tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"--output {file} is a file"):
        bad_inputs(BadInputs(output=file), Console())

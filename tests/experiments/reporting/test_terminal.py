"""What a comparison prints: names as plain text, whatever is in them."""

from dataclasses import replace
from io import StringIO

import jax
import pytest
from rich.console import Console
from support.synthetic import synthetic_comparison

from experiments.distributed.devices import padded_batch_size
from experiments.reporting import terminal
from experiments.training.step import batch_rows

NAMES = ["[bold]a", "[/] b", "$x$"]


def printing() -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, width=200), file


def test_results_show_the_names_of_optimizers_as_they_are():
    console, printed = printing()
    accuracies = dict(zip(NAMES, ([0.5, 0.52], [0.6, 0.61], [0.5, 0.4]), strict=True))
    runs = synthetic_comparison(accuracies, code="fedcba9876543210")
    terminal.print_results(console, runs, {name: name for name in NAMES})
    for name in NAMES:
        assert printed.getvalue().count(f" {name} ") >= 2  # as key and as optimizer
    words = "• optimizer: [/] b instead of [bold]a: [/] b − [bold]a = +9.50 points (n"
    assert words in printed.getvalue()


@pytest.mark.parametrize("width", [60, 20])
def test_results_are_stacked_where_a_table_would_cut_them(width):
    console, file = Console(file=StringIO(), width=width), StringIO()
    console.file = file
    accuracies = {"sgd_large_step": [0.5, 0.52], "keras": [0.6, 0.61]}
    titles = {"sgd_large_step": "SGD, large step", "keras": "Keras momentum"}
    terminal.print_results(console, synthetic_comparison(accuracies), titles)
    lines = file.getvalue().splitlines()
    start = lines.index("key: sgd_large_step")
    assert lines[start + 1] == "  optimizer: SGD, large step"
    assert lines[start + 2].startswith("  test accuracy: 0.5100 ± 0.0141")
    assert lines[start + 5] == "key: keras"
    assert "…" not in file.getvalue()


def test_progress_fits_a_narrow_terminal():
    file = StringIO()
    console = Console(file=file, width=20)
    with terminal.study_progress(console, "cross-validation", 2) as progress:
        progress.advance(2)
    assert file.getvalue().strip() == "2/2 runs"


def test_a_batch_that_devices_cannot_share_evenly_is_reported():
    (run, *_) = synthetic_comparison({"a": [0.5, 0.6]})
    uneven = "is not shared evenly by 2 devices: in each step"
    for batch_size, said in [
        (64, ""),
        (35, f"--batch-size 35 {uneven} 29 of 64 "),
        (7, f"--batch-size 7 {uneven} 1 of 8 "),
    ]:
        console, printed = printing()
        config = replace(run.config, batch_size=batch_size)
        terminal.announce(console, [config], (90, 8, 8, 1))
        assert said in printed.getvalue()
        assert ("places stay empty" in printed.getvalue()) == bool(said)


@pytest.mark.parametrize(("batch_size", "devices"), [(64, 3), (7, 2), (35, 2), (5, 8)])
def test_places_are_those_of_a_step(batch_size, devices):
    indices, weights = batch_rows(jax.random.key(0), 70, batch_size, devices)
    assert indices.shape[1] == padded_batch_size(batch_size, devices)
    assert weights.sum() == 70


def test_progress_shows_the_name_of_an_optimizer_as_it_is():
    console, printed = printing()
    with terminal.study_progress(console, "[/] b", 2):
        pass
    assert "[/] b" in printed.getvalue()

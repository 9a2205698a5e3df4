"""What a comparison prints: names as plain text, whatever is in them."""

import math
from dataclasses import replace
from io import StringIO

import jax
import pytest
from rich.console import Console
from support.measures import RMSE, by_error
from support.synthetic import synthetic_comparison
from support.validated_runs import validated

from experiments.distributed.devices import padded_batch_size
from experiments.records.metric import ACCURACY
from experiments.reporting import terminal
from experiments.reporting.statistics import PAIRS, against_first, counted
from experiments.training.step import batch_rows

NAMES = ["[bold]a", "[/] b", "$x$"]


def printing() -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, width=200), file


def test_results_show_the_names_of_optimizers_as_they_are():
    console, printed = printing()
    accuracies = dict(zip(NAMES, ([0.5, 0.52], [0.6, 0.61], [0.5, 0.4]), strict=True))
    runs = synthetic_comparison(accuracies, code="fedcba9876543210")
    titles, pairs = {name: name for name in NAMES}, against_first(NAMES)
    terminal.print_results(console, runs, titles, ACCURACY, "image", pairs)
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
    runs = synthetic_comparison(accuracies)
    terminal.print_results(console, runs, titles, ACCURACY, "image", PAIRS)
    lines = file.getvalue().splitlines()
    start = lines.index("key: sgd_large_step")
    assert lines[start + 1] == "  optimizer: SGD, large step"
    assert lines[start + 2].startswith("  test accuracy: 0.5100 ± 0.0141")
    assert lines[start + 4].startswith("  images/s: 2,46")
    assert lines[start + 5] == "key: keras"
    assert "…" not in file.getvalue()


def test_progress_fits_a_narrow_terminal():
    file = StringIO()
    console = Console(file=file, width=20)
    with terminal.study_progress(console, "cross-validation", 2, ACCURACY) as progress:
        progress.advance(2)
    assert file.getvalue().strip() == "2/2 runs"


def test_a_batch_that_devices_cannot_share_evenly_is_reported():
    uneven = "is not shared evenly by 2 devices: in each step"
    for batch_size, said in [
        (64, ""),
        (35, f"--batch-size 35 {uneven} 29 of 64 "),
        (7, f"--batch-size 7 {uneven} 1 of 8 "),
    ]:
        console, printed = printing()
        terminal.report_empty_places(console, batch_size)
        assert said in printed.getvalue()
        assert ("places stay empty" in printed.getvalue()) == bool(said)


@pytest.mark.parametrize(
    ("epochs", "images", "seconds", "memory", "said"),
    [
        ([10] * 12, 1149, 41.4, 52_400_000, "12 runs of 10 epochs on 1,149 images: "),
        ([1], 57, 0.4, 10**6, "1 run of 1 epoch on 57 images: about 0 s and 1 MB of"),
        ([1, 1], 1, 2.0, 10**6, "2 runs of 1 epoch on 1 image: about 2 s and 1 MB"),
        ([2, 5], 9, 119.4, 10**8, "2 runs of up to 5 epochs on 9 images: about 119 s"),
        ([3], 9, 240, 5_433_000_000, "about 4 min and 5.4 GB of memory here."),
        ([3], 9, 9_000, 10**7, "about 2 hours and 10 MB of memory here."),
    ],
)
def test_duration_and_memory_are_announced(epochs, images, seconds, memory, said):
    console, printed = printing()
    (run, *_) = synthetic_comparison({"a": [0.5, 0.6]})
    configs = [replace(run.config, epochs=each) for each in epochs]
    terminal.announce(console, configs, counted(images, "image"), seconds, memory)
    assert said in printed.getvalue()


@pytest.mark.parametrize(("batch_size", "devices"), [(64, 3), (7, 2), (35, 2), (5, 8)])
def test_places_are_those_of_a_step(batch_size, devices):
    indices, weights = batch_rows(jax.random.key(0), 70, batch_size, devices)
    assert indices.shape[1] == padded_batch_size(batch_size, devices)
    assert weights.sum() == 70


def test_progress_shows_the_name_of_an_optimizer_as_it_is():
    console, printed = printing()
    with terminal.study_progress(console, "[/] b", 2, ACCURACY):
        pass
    assert "[/] b" in printed.getvalue()


def test_results_of_another_metric_are_in_its_own_unit():
    console, printed = printing()
    accuracies = {"sgd": [0.5, 0.52, 0.51], "ema": [0.7, 0.71, 0.75]}
    runs = [by_error(run, 1e5) for run in synthetic_comparison(accuracies)]
    titles = {"sgd": "SGD", "ema": "EMA"}
    terminal.print_results(console, runs, titles, RMSE, "row", PAIRS)
    text = printed.getvalue()
    assert "test RMSE" in text and "rows/s" in text
    assert "49,000 ± 1,000" in text
    assert "ema − sgd = −21,000 (95% interval " in text
    assert "winner: EMA" in text
    lost = [replace(run, test_metric=math.inf) for run in runs[:1]]
    terminal.print_results(console, lost + runs[1:], titles, RMSE, "row", PAIRS)
    assert "│ diverged │" in printed.getvalue().replace("  ", "")


def test_progress_shows_the_lowest_error():
    console, printed = printing()
    with terminal.study_progress(console, "tuning", 3, RMSE) as progress:
        for accuracy in (0.5, 0.75, 0.6):
            progress.ended(by_error(validated(accuracy)))
    assert "tuning · best 2.5 " in printed.getvalue()

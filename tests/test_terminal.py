"""What a comparison prints: names as they are, whatever is in them."""

from io import StringIO

from rich.console import Console
from synthetic import synthetic_comparison

from experiments import terminal

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
        assert printed.getvalue().count(f" {name} ") >= 2  # as arm and as method
    assert (
        "• optimizer: [/] b instead of [bold]a: [/] b − [bold]a = +9.50 points"
        in printed.getvalue()
    )


def test_progress_shows_the_name_of_an_optimizer_as_it_is():
    console, printed = printing()
    with terminal.progress(console) as progress:
        progress.add_task("[/] b · seed 3", total=2)
    assert "[/] b · seed 3" in printed.getvalue()

"""Invented runs, for tests of everything that follows training."""

import math
from dataclasses import replace

from experiments.records.config import Config
from experiments.records.runs import Epoch, Run

TITLES = {
    "sgd": "Plain title",
    "ema": "Title of ema",
    "sgd_large_step": "Large title",
    "keras": "Title of keras",
}
ACCURACY = {"sgd": 0.51, "ema": 0.52, "sgd_large_step": 0.62, "keras": 0.66}


def synthetic_run(
    arm: str = "sgd",
    seed: int = 0,
    *,
    test_accuracy: float | None = None,
    test_loss: float = 1.234,
    epochs: int = 3,
    **settings,
) -> Run:
    """A run with invented figures; `settings` replace fields of its config."""
    config = Config("digits", "0123456789abcdef", arm, 0.01, 0.9, 64, epochs, seed)
    config = replace(config, **settings)
    figures = [
        Epoch(2.1 / n, 0.3 + 0.05 * n, 2.2 / n, 0.25 + 0.06 * n)
        for n in range(1, epochs + 1)
    ]
    return Run(
        config=config,
        config_hash=config.digest(),
        epochs=tuple(figures),
        test_loss=test_loss,
        test_metric=ACCURACY[arm] if test_accuracy is None else test_accuracy,
        seconds=12.25,
        seconds_with_compilation=15.5,
        images_per_second=2468.0 + seed,
        skipped_steps=0,
        resumed=0,
        startup_check={"largest_error": 2.5e-7, "repeats_equal": True, "seconds": 0.5},
        versions={"python": "3.11.9", "jax": "0.10.2"},
        device="an imagined cpu",
        git_commit="c0ffee",
    )


def synthetic_comparison(accuracies: dict[str, list[float]], **settings) -> list[Run]:
    """One run for each accuracy, with seeds 0, 1, ... in every arm."""
    return [
        synthetic_run(arm, seed, test_accuracy=accuracy, **settings)
        for arm, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]


def diverged(run: Run) -> Run:
    """The run with every loss NaN after the first epoch."""
    nan = Epoch(math.nan, 0.1, math.nan, 0.1)
    epochs = (run.epochs[0], *[nan] * (len(run.epochs) - 1))
    return replace(run, epochs=epochs, test_loss=math.nan, test_metric=0.1)

"""The options of `batch-size`."""

from dataclasses import dataclass

from experiments.records.config import UsageError
from experiments.studies.options import StudyOptions
from experiments.studies.value_lists import check_batch_sizes, check_rates, check_tuning


@dataclass(frozen=True)
class BatchSize(StudyOptions):
    """Compare SGD with momentum at many batch sizes, tuning the rate at each.

    The number of epochs is constant, so a larger batch takes fewer steps. A third
    optimizer keeps momentum's half-life constant in examples, instead of its beta.

    smoke: digits, 30 runs, less than a minute. default: digits, batch sizes 16 to 512,
    160 runs, 2 to 5 minutes on two CPU cores. Expected: no difference at 16; momentum
    is better from 256 on, by 20 points at 512. paper: CIFAR-10, batch sizes 16 to
    2,048, about 500 runs of 45 seconds, 6 hours on two CPU cores.
    """

    batch_sizes: tuple[int, ...] | None = None
    """Examples per step; sizes larger than the training set
    are left out."""

    effective_rates: tuple[float, ...] | None = None
    """Effective learning rates, LEARNING_RATE / (1 - BETA),
    to try first, at least two; if the first or the last is
    the best, more follow at the same ratio."""

    beta: float | None = None
    """Beta of momentum; at batch size 64 also the beta of
    the optimizer with a constant half-life."""

    tuning_seeds: int | None = None
    """Runs of each setting that is tried."""

    def check(self) -> None:
        """Raises `UsageError` for options that are impossible for any data."""
        super().check()
        if self.batch_sizes is not None:
            check_batch_sizes(self.batch_sizes)
        if self.effective_rates is not None:
            check_rates(self.effective_rates, extensible=True)
        if self.beta is not None and not 0.001 <= self.beta <= 0.999:
            raise UsageError(
                f"--beta must lie in [0.001, 0.999], got {self.beta}; 0.9 is the "
                "tutorial's."
            )
        if self.tuning_seeds is not None:
            check_tuning(self.tuning_seeds)

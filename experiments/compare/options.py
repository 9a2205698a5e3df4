"""The options of `compare`."""

from dataclasses import dataclass
from typing import Literal

from experiments.records.config import (
    Nonfinite,
    UsageError,
    check_at_least_one,
    check_beta,
    check_rate,
)
from experiments.studies.options import StudyOptions
from experiments.user_code import file_and_function


@dataclass(frozen=True)
class Compare(StudyOptions):
    """Train a small CNN with SGD and with momentum, and report the difference.

    Four optimizers (SGD, momentum as the tutorial's equation has it, SGD with larger
    steps, momentum as the tutorial's Keras code has it), each with the same seeds. Runs
    that OUTPUT already holds are not repeated.

    smoke: digits, 8 runs of 2 epochs, half a minute. default: digits, 12 runs of 10
    epochs, about a minute on two CPU cores; expect 90 to 96% of the test images. paper:
    CIFAR-10 with ten seeds, 40 runs, half an hour on two CPU cores.
    """

    arms: str = "momentum"
    """What to compare. momentum: SGD and momentum, the four
    optimizers. storage: one momentum whose buffer is kept in
    float32, in bfloat16 and in 8 bits. FILE.py:function:
    the optimizers in the dictionary that this function of
    the learning rate returns, each against the first."""

    learning_rate: float = 0.01
    """Step size of the optimizers sgd, ema and keras, in
    parameters per gradient; sgd_large_step takes
    LEARNING_RATE / (1 - BETA)."""

    beta: float = 0.9
    """Share of the momentum buffer that a step keeps, in [0,
    1)."""

    batch_size: int = 64
    """Images in one step."""

    schedule: (
        Literal["constant", "step", "cosine", "warmup_cosine", "one_cycle"] | None
    ) = None
    """How the learning rate of the built-in optimizers
    changes during a run; without it, not at all. Those of a function for --arms
    set their own; it may ask for the number of steps:
    arms(learning_rate, steps)."""

    nonfinite: Nonfinite = "stop"
    """What to do about a step whose gradient or result is
    not finite. stop: end, and say at which step and in
    which leaf. skip: leave the step out and count it.
    record: train on, as the optimizer itself would."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        check_rate("--learning-rate", self.learning_rate, "0.01 is the tutorial's")
        check_beta("--beta", self.beta)
        check_at_least_one("--batch-size", self.batch_size, "the images of a step")
        if self.arms in ("momentum", "storage"):
            return
        if ":" not in self.arms:
            raise UsageError(
                f"--arms {self.arms}: it is neither momentum nor storage; for "
                "optimizers of your own give FILE.py:function."
            )
        file_and_function("--arms", self.arms)
        if self.schedule is not None:
            raise UsageError(
                f"--schedule {self.schedule} applies to the built-in optimizers: omit "
                f"it, and build the schedule in {self.arms}, which may ask for the "
                "number of steps, as in arms(learning_rate, steps)."
            )

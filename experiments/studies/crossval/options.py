"""The options of `crossval`."""

from dataclasses import dataclass

from experiments.records.config import check_at_least_one
from experiments.studies.options import StudyOptions
from experiments.studies.value_lists import check_betas, check_folds, check_rates


@dataclass(frozen=True)
class Crossval(StudyOptions):
    """Choose beta by stratified k-fold cross-validation, then compare it with SGD.

    Every beta is tried at every effective learning rate on every fold of the training
    data, and so is SGD. The effective rate is learning rate/(1 - beta): under a
    constant gradient, steps settle at this times the gradient. Parameters and momentum
    start anew in each run. The best setting of each optimizer is then trained with each
    seed and scored on the test data.

    smoke: digits, 30 runs, less than a minute. default: digits, 7 betas at 4 rates on 5
    folds, 180 runs, 2 to 4 minutes on two CPU cores. Expected: beta 0.9, or 0.8 by the
    one-standard-error rule; +1.0 points over tuned SGD on the test images, with an
    interval that contains 0. paper: the same on CIFAR-10, 180 runs of 45 seconds, 2.5
    hours on two CPU cores.
    """

    betas: tuple[float, ...] | None = None
    """Candidates for beta, in [0, 1). SGD, which is beta
    0, is always tried."""

    effective_rates: tuple[float, ...] | None = None
    """Effective learning rates at which each beta is
    tried. The learning rate is these times (1 - beta)."""

    folds: int | None = None
    """Number of parts of the training data. Each part
    validates runs that train on all others."""

    nested: int | None = None
    """Number of inner folds. If it is not 0, beta is also
    chosen anew within each fold, for an unbiased estimate
    of the choice; this takes about NESTED times as long
    as the rest. All presets have 0."""

    batch_size: int | None = None
    """Examples in each step."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        super().check()
        if self.betas is not None:
            check_betas(self.betas)
        if self.effective_rates is not None:
            check_rates(self.effective_rates)
        if self.folds is not None:
            check_folds("--folds", self.folds)
        if self.nested:
            check_folds("--nested", self.nested)
        if self.batch_size is not None:
            check_at_least_one("--batch-size", self.batch_size, "the images of a step")

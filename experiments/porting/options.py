"""The options of `port`."""

from dataclasses import dataclass

import tyro

from experiments.records.config import check_at_least_one


@dataclass(frozen=True)
class Port:
    """Print code that takes the steps of another system's momentum SGD.

    Reads torch.optim.SGD, keras.optimizers.SGD and TensorFlow 1's MomentumOptimizer,
    with literal arguments; nothing of it is run. What the code does not carry over
    stands in its comments. docs/porting.md has the table of all conventions.

    For example: port 'torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True)'
    --scheduler 'MultiStepLR(milestones=[60, 120], gamma=0.2)' --steps-per-epoch 391
    """

    optimizer: tyro.conf.Positional[str]
    """The expression that makes the optimizer."""

    scheduler: str | None = None
    """The expression that makes a scheduler of PyTorch."""

    steps_per_epoch: int | None = None
    """Optimizer steps in one epoch, if the scheduler is
    stepped once after each; without it, it is stepped after
    each optimizer step."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible."""
        if self.steps_per_epoch is not None:
            what = "the optimizer steps of one epoch"
            check_at_least_one("--steps-per-epoch", self.steps_per_epoch, what)

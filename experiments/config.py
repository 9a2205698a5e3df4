"""What one run is: a frozen record of every setting that its result depends on."""

import hashlib
import json
from dataclasses import asdict, dataclass


class UsageError(Exception):
    """A wish that can't be fulfilled, told in one line that names the remedy."""


@dataclass(frozen=True)
class Config:
    """One run: with the same code, equal configs give equal results."""

    dataset: str  # "digits", a name of tensorflow-datasets, or an .npz file's name
    data_digest: str  # of the arrays themselves: a changed file is another data set
    arm: str  # a key of `experiments.arms.ARMS`
    learning_rate: float  # the plan's; an arm may derive its own from it
    beta: float  # retention of the momentum buffer
    batch_size: int  # images a step
    epochs: int  # passes over the training images
    seed: int  # of the initial parameters and of the data order

    def digest(self) -> str:
        """Sixteen hex digits that differ when any setting differs."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

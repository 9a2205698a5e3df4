"""The options of `speedrun`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.records.config import UsageError, check_at_least_one, check_save_every


@dataclass(frozen=True)
class Speedrun:
    """Train CIFAR-10 to 94% in ten epochs, by a published recipe, and time its parts.

    The recipe is that of Jordan 2024, arXiv:2404.00498: a small network behind a
    whitening layer, Nesterov momentum of large steps, Lookahead, and the mean over six
    views of each test image. Repeat the command and an interrupted run resumes.

    smoke: one epoch, about five minutes on two CPU cores. default: 9.9 epochs, about 45
    minutes on two CPU cores; 94% of the test images is what its author reports.
    """

    preset: Literal["smoke", "default"] = "default"
    """How much is done: the whole recipe, or one epoch."""

    epochs: float | None = None
    """Passes over the training images, over which the
    learning rate rises and falls; 9.9 by default."""

    seeds: int = 1
    """Runs, one after the other."""

    target: float = 0.94
    """Test accuracy that a run is to reach, in (0, 1)."""

    batch_size: int = 1024
    """Images in one step; the learning rate changes in
    proportion."""

    dataset: str = "cifar10"
    """A name of tensorflow-datasets, a path that ends in
    .npz, or a folder of images; of 18x18 pixels at least."""

    data_dir: Path | None = None
    """Where tensorflow-datasets has prepared its data sets;
    without it, TFDS_DATA_DIR or else ~/tensorflow_datasets."""

    output: Path | None = None
    """Directory of the results, made if it isn't there;
    without it, one under runs/ that is named after the
    plan."""

    save_every: float = 60.0
    """Seconds between the checkpoints of a run."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        if self.epochs is not None and not 0 < self.epochs <= 10_000:
            raise UsageError(
                f"--epochs must lie in (0, 10000], got {self.epochs}; the recipe "
                "takes 9.9."
            )
        if not 0 < self.target < 1:
            raise UsageError(
                f"--target must lie in (0, 1), got {self.target}: it is a share of the "
                "test images, such as 0.94."
            )
        check_at_least_one("--seeds", self.seeds, "the runs")
        check_at_least_one("--batch-size", self.batch_size, "the images of a step")
        check_save_every(self.save_every)

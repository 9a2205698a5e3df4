"""What all studies can be told, and how it changes a preset's budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import tyro

from experiments.data.streaming import check_streamable
from experiments.distributed.options import ALONE, Processes
from experiments.records.config import (
    UsageError,
    check_at_least_one,
    check_save_every,
)
from experiments.user_code import file_and_function

TUNING_SEED = 1_000  # and those that follow it; reporting seeds are 0, 1, …

# The keys of `METHODS` and of `SCHEDULES`, which take long to import.
METHOD_NAMES = ("sgd", "momentum", "nesterov", "qhm")
SCHEDULE_NAMES = ("constant", "step", "cosine", "warmup_cosine", "one_cycle")

# Options that apply to one kind of data alone.
_OF_IMAGES = (
    *("dataset", "image_size", "data_dir", "skip_broken", "skip_broken_up_to"),
    *("stream", "model", "augment", "label_smoothing"),
)
_OF_TABLES = ("target", "table_task", "impute")

Budget = TypeVar("Budget", bound=NamedTuple)


@dataclass(frozen=True)
class StudyOptions:
    """What all studies can be told."""

    preset: Literal["smoke", "default", "paper"] = "default"
    """How much is done. smoke: a look at the page, in less
    than a minute. default: minutes on two CPU cores, on
    the built-in digits. paper: the full protocol on
    CIFAR-10, hours. What a preset sets, the options below
    can change."""

    dataset: str | None = None
    """digits; a name of tensorflow-datasets, such as
    cifar10; a path that ends in .npz; or a folder of
    images, one subfolder a class."""

    image_size: int | None = None
    """Resize the images to so many pixels in height and
    width, keeping the middle of those that aren't square;
    without it, all must have one size."""

    data_dir: Path | None = None
    """Where tensorflow-datasets has prepared its data
    sets; without it, TFDS_DATA_DIR or else
    ~/tensorflow_datasets."""

    skip_broken: bool = False
    """Leave out files of a folder that can't be used,
    instead of stopping, up to 10% of them."""

    skip_broken_up_to: float | None = None
    """Leave out files of a folder up to this share of them,
    such as 0.3, instead of 10%."""

    stream: bool = False
    """Read images when they are needed, because they don't
    fit into memory: of tensorflow-datasets or a folder. The
    results are the same."""

    model: str | None = None
    """FILE.py:function, which takes (image_shape, classes,
    rngs) and returns a Flax module; without it, the
    tutorial's CNN."""

    problem: str | None = None
    """FILE.py:function, which returns a problem of your own
    (experiments.problems.Problem): data, initial
    parameters, loss and metric."""

    table: str | None = None
    """Instead of images, a table: FILE.csv with a header,
    or scikit-learn's diabetes or wine."""

    target: str | None = None
    """The column of --table to predict."""

    table_task: Literal["classification", "regression"] | None = None
    """What the target is: a class or a number. Without it,
    text and few whole numbers are classes."""

    impute: bool = False
    """Replace missing values of --table by the median or
    the most frequent value of the training rows."""

    text: Path | None = None
    """Instead of images, a text file, whose characters a
    small transformer predicts."""

    augment: Literal["crop-flip"] | None = None
    """How training images vary. crop-flip: moved by up to 4
    pixels, with reflected margins, and half of them
    mirrored."""

    label_smoothing: float | None = None
    """Share of each image's target that is spread over all
    classes, in training."""

    weight_decay: float | None = None
    """Multiple of each parameter that is added to its
    gradient, before momentum."""

    decay_kernels_only: bool = False
    """Spare parameters of fewer than two axes, such as
    biases and scales, from --weight-decay."""

    epochs: int | None = None
    """Passes over the training images."""

    seeds: int | None = None
    """Runs of each final comparison, paired by seed; they
    are other seeds than those of the tuning."""

    output: Path | None = None
    """Directory of the results, made if it isn't there;
    without it, one under runs/ that is named after the
    plan."""

    save_every: float = 30.0
    """Seconds between the checkpoints of a run."""

    tensorboard: bool = False
    """Also write event files for TensorBoard."""

    together: tyro.conf.OmitArgPrefixes[Processes] = ALONE

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        if self.epochs is not None:
            check_at_least_one("--epochs", self.epochs, "the passes over the data")
        check_save_every(self.save_every)
        if self.image_size is not None:
            what = "the height and width of the images"
            check_at_least_one("--image-size", self.image_size, what, most=10_000)
        share = self.skip_broken_up_to
        if share is not None and not 0 < share <= 1:
            raise UsageError(
                f"--skip-broken-up-to must lie in (0, 1], got {share}: the share of "
                "the files that may be left out, such as 0.3."
            )
        if self.model is not None:
            file_and_function("--model", self.model)
        if self.problem is not None:
            file_and_function("--problem", self.problem)
        self._check_source()
        if not 0 <= (self.label_smoothing or 0) < 1:
            raise UsageError(
                f"--label-smoothing must lie in [0, 1), got {self.label_smoothing}; "
                "0.1 is usual."
            )
        if not 0 <= (self.weight_decay or 0) <= 1e30:
            raise UsageError(
                f"--weight-decay must be at least 0 and finite, got "
                f"{self.weight_decay}; 0.0005 is usual."
            )
        if self.decay_kernels_only and not self.weight_decay:
            raise UsageError(
                "--decay-kernels-only says which parameters --weight-decay changes: "
                "give that too, such as --weight-decay 0.0005."
            )
        if self.seeds is not None:
            if self.seeds > TUNING_SEED:
                raise UsageError(
                    f"--seeds must be at most {TUNING_SEED}, got {self.seeds}: the "
                    "seeds from there on are those of the tuning."
                )
            check_at_least_one("--seeds", self.seeds, "the runs of each comparison")
        self.together.check()

    def _check_source(self) -> None:
        """Raises `UsageError` for two sources of data, or options of another one."""
        names = [name for name in ("problem", "table", "text") if self._is_given(name)]
        if len(names) > 1:
            first, second = map(option_name, names[:2])
            raise UsageError(f"{first} and {second} exclude each other; give one.")
        foreign = _OF_TABLES if "table" not in names else ()
        foreign += _OF_IMAGES if names else ()
        for name in foreign:
            if not self._is_given(name):
                continue
            if name in _OF_TABLES:
                raise UsageError(
                    f"{option_name(name)} applies to a table; give --table FILE.csv "
                    "too, or omit it."
                )
            raise UsageError(
                f"{option_name(name)} applies to images, and {option_name(names[0])} "
                "brings other examples; omit one of the two."
            )

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) != type(self).__dataclass_fields__[name].default


def option_name(field: str) -> str:
    """The option of a field: --table-task of table_task."""
    return "--" + field.replace("_", "-")


def resolve_budget(options: StudyOptions, budgets: Mapping[str, Budget]) -> Budget:
    """The preset's budget, changed by the options that were given.

    Raises:
      UsageError: data that are read whole are to be streamed.
    """
    budget = budgets[options.preset]
    given = {name: getattr(options, name, None) for name in budget._fields}
    changed = {name: value for name, value in given.items() if value is not None}
    budget = budget._replace(**changed)
    if options.stream:
        check_streamable(budget.dataset)  # type: ignore[attr-defined]
    return budget

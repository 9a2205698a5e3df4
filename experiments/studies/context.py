"""Where studies are run: configs in, recorded runs out, many trained as one program."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from rich.console import Console

from experiments.data import image_dataset
from experiments.data.examples import Examples, Splits
from experiments.distributed.devices import on_all_devices
from experiments.distributed.processes import is_first
from experiments.optimizers.arms import Arm
from experiments.optimizers.schedules import SCHEDULES
from experiments.records import runs
from experiments.records.config import Config
from experiments.records.runs import Epoch, Run
from experiments.reporting import terminal
from experiments.training.checkpoints import Checkpoints, checkpoints_of
from experiments.training.grid import Outcome, compile_at_most, fit_grid
from experiments.training.lanes import Point, Program
from experiments.training.scoring import Network
from experiments.training.startup_check import Canary

_LANES = 16  # of one program where these are trained in step, on a GPU or TPU


Key = TypeVar("Key", bound=Hashable)


class Fold(NamedTuple):
    """Indices of the training images: to train on, and to validate with."""

    train: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class StudyContext:
    """All that the runs of a study share; `finished` grows as they end."""

    output: Path
    dataset: image_dataset.Dataset
    network: Network
    arms: Mapping[str, Arm]
    folds: Mapping[str, Fold]
    console: Console
    finished: dict[str, Run]  # by config hash
    canary: Canary
    save_every: float = 30.0  # seconds between the checkpoints of a run
    programs: dict[Any, tuple[Program, float]] = field(default_factory=dict)

    def checkpoints(self, chunk: Sequence[Config]) -> Checkpoints:
        """Where runs that are trained together are kept until they are recorded."""
        tell = partial(terminal.say, self.console)
        return checkpoints_of(self.output, chunk, self.save_every, tell)


class _Kind(NamedTuple):
    """What the runs of one program have in common."""

    fold: str
    transformation: Any
    schedule: str
    batch_size: int
    epochs: int
    test: bool


def hold_out(dataset: image_dataset.Dataset) -> dict[str, Fold]:
    """The fold of every run that names none: the last 20% validate, as in Keras."""
    images = np.arange(len(dataset.train_labels))
    kept = len(image_dataset.hold_out(dataset)[1])
    return {"hold-out": Fold(images[:kept], images[kept:])}


def with_seeds(
    config: Config, seeds: Iterable[int], *, test: bool = False
) -> list[Config]:
    """The config once for each seed; `test` says whether the test split is read."""
    return [replace(config, seed=seed, test=test) for seed in seeds]


def run_groups(
    context: StudyContext, groups: Mapping[Key, Sequence[Config]], phase: str
) -> dict[Key, list[Run]]:
    """Trains all groups together; returns the runs of each, in its own order."""
    configs = [config for group in groups.values() for config in group]
    runs = iter(run_all(context, configs, phase))
    return {key: list(islice(runs, len(group))) for key, group in groups.items()}


def run_all(context: StudyContext, configs: Sequence[Config], phase: str) -> list[Run]:
    """The runs of the configs, in their order; those not yet finished are done.

    Every run starts from parameters and a state of its own, whatever ran before it.
    Finished runs are recorded some at a time, as many as one program trains; until then
    these are kept in checkpoints.

    Args:
      context: where they run.
      configs: may repeat and may differ in all but the data.
      phase: what is being done, for the progress.

    Raises:
      UsageError: a config that no run can be trained with, or a full disk.
    """
    wanted = {config.digest(): config for config in configs}
    missing = [c for key, c in wanted.items() if key not in context.finished]
    if missing:
        with terminal.study_progress(context.console, phase, len(missing)) as shown:
            for run in _train(context, missing, shown.advance):
                context.finished[run.config_hash] = run
                shown.ended(run)
    return [context.finished[config.digest()] for config in configs]


def _train(
    context: StudyContext,
    configs: Sequence[Config],
    advance: Callable[[float], None],
) -> Iterator[Run]:
    """Trains and records kind by kind; `advance` is told the share of a run done."""

    def kind(config: Config) -> _Kind:
        return _Kind(
            config.fold,
            context.arms[config.arm].transformation,
            config.schedule,
            config.batch_size,
            config.epochs,
            config.test,
        )

    kinds = list(dict.fromkeys(map(kind, configs)))
    ordered = sorted(configs, key=lambda config: kinds.index(kind(config)))
    for fold, of_fold in groupby(ordered, key=lambda config: config.fold):
        splits = _splits(context, fold)
        for common, group in groupby(of_fold, key=kind):
            program, compile_seconds = _program(context, common, splits)
            own = list(group)
            for first in range(0, len(own), program.lanes):
                chunk = own[first : first + program.lanes]
                checkpoints = context.checkpoints(chunk)
                outcome = fit_grid(
                    program,
                    [Point(c.learning_rate, c.beta, c.seed) for c in chunk],
                    splits,
                    common.epochs,
                    test=common.test,
                    checkpoints=checkpoints,
                    on_epoch=partial(advance, len(chunk) / common.epochs),
                )
                finished = _runs(context, chunk, outcome, compile_seconds)
                if is_first():
                    runs.record(context.output, *finished)
                checkpoints.discard()
                yield from finished


def _runs(
    context: StudyContext,
    chunk: Sequence[Config],
    outcome: Outcome,
    compile_seconds: float,
) -> list[Run]:
    """The records of runs that were trained together, each with its share of time."""
    seconds = outcome.seconds / len(chunk)
    versions, commit = runs.environment(), runs.git_commit()
    device = jax.devices()[0]
    return [
        Run(
            config=config,
            config_hash=config.digest(),
            epochs=_epochs(outcome, lane),
            test_loss=float(outcome.test.loss[lane]) if outcome.test else np.nan,
            test_accuracy=float(outcome.test.accuracy[lane])
            if outcome.test
            else np.nan,
            seconds=seconds,
            seconds_with_compilation=seconds + compile_seconds,
            images_per_second=outcome.images_per_second / len(chunk),
            skipped_steps=0,
            resumed=outcome.resumed,
            canary=context.canary._asdict(),
            versions=versions,
            device=f"{device.platform}: {device.device_kind}",
            git_commit=commit,
        )
        for lane, config in enumerate(chunk)
    ]


def _epochs(outcome: Outcome, lane: int) -> tuple[Epoch, ...]:
    columns = (*outcome.train, *outcome.validation)
    rows = zip(*(column[lane] for column in columns), strict=True)
    return tuple(Epoch(*map(float, row)) for row in rows)


def _program(
    context: StudyContext, kind: _Kind, splits: Splits
) -> tuple[Program, float]:
    """The program of a kind, and the seconds of its compilation.

    Folds of equal sizes share it, and so do all epochs where the rate is constant.
    """
    schedule = SCHEDULES[kind.schedule]
    steps = kind.epochs * -(-len(splits.train.labels) // kind.batch_size)
    sizes = len(splits.train.labels), len(splits.validation.labels)
    changing = None if schedule.factor is None else (kind.schedule, steps)
    key = kind.transformation, kind.batch_size, sizes, changing
    if key not in context.programs:

        def transformation(learning_rate, beta) -> optax.GradientTransformation:
            return kind.transformation(schedule.rate(learning_rate, steps), beta)

        lanes = jax.device_count() if jax.default_backend() == "cpu" else _LANES
        start = time.perf_counter()
        program = compile_at_most(
            transformation, lanes, splits, kind.batch_size, network=context.network
        )
        context.programs[key] = program, time.perf_counter() - start
    return context.programs[key]


def _splits(context: StudyContext, fold: str) -> Splits:
    """What the runs of a fold read, on the devices."""
    dataset, own = context.dataset, context.folds[fold]

    def examples(images: np.ndarray, labels: np.ndarray) -> Examples:
        return Examples(*on_all_devices((images, labels)))

    return Splits(
        *(
            examples(dataset.train_images[chosen], dataset.train_labels[chosen])
            for chosen in own
        ),
        test=examples(dataset.test_images, dataset.test_labels),
        classes=dataset.classes,
    )

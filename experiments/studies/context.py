"""Where studies run: configs in, recorded runs out, many trained as one program."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from jax.typing import ArrayLike
from rich.console import Console

from experiments.data.examples import Splits
from experiments.data.streaming import is_streamed
from experiments.distributed.devices import on_all_devices
from experiments.distributed.processes import is_first
from experiments.optimizers.arms import Arm, with_decay
from experiments.optimizers.schedules import SCHEDULES
from experiments.problems.problem import Batch, examples_in
from experiments.records import runs
from experiments.records.config import Config, Nonfinite, recorded_digest
from experiments.records.metric import Metric
from experiments.records.runs import Epoch, Run
from experiments.reporting import terminal
from experiments.reporting.statistics import counted
from experiments.studies.subject import Fold, Subject
from experiments.training import nonfinite
from experiments.training.checkpoints import Checkpoints, checkpoints_of
from experiments.training.engine import (
    Outcome,
    compile_to_fit,
    seconds_per_step,
    train_runs,
)
from experiments.training.points import Point
from experiments.training.program import Program
from experiments.training.startup_check import StartupCheck
from experiments.training.step import steps_per_epoch

_LANES = 16  # runs of one program on a GPU or TPU, which trains them in lockstep

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class StudyContext:
    """All that the runs of a study share; `finished` grows as they end."""

    output: Path
    subject: Subject
    arms: Mapping[str, Arm]
    folds: Mapping[str, Fold]  # besides the hold-out
    console: Console
    finished: dict[str, Run]  # by `recorded_digest`
    startup_check: StartupCheck
    save_every: float = 30.0  # seconds between the checkpoints of a run
    # Whether each run has all devices to itself, sharing its batches among them, with
    # its learning rate and beta as constants of its program. Else runs that differ in
    # these alone train side by side.
    one_at_a_time: bool = False
    programs: dict[Hashable, Program] = field(default_factory=dict)

    def checkpoints(self, chunk: Sequence[Config]) -> Checkpoints:
        """Where runs that train together are saved until they are recorded."""
        log = partial(terminal.say, self.console)
        return checkpoints_of(self.output, chunk, self.save_every, log)


class ProgramKey(NamedTuple):
    """What the runs of one program have in common."""

    fold: str
    transformation: Any
    schedule: str
    batch_size: int
    epochs: int
    test: bool
    nonfinite: Nonfinite
    weight_decay: float
    decay_kernels_only: bool
    constants: tuple[float, float] | None  # learning rate and beta, if one at a time


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
    """Returns the runs of the configs, in their order, training those not yet finished.

    Every run starts from its own initial parameters and state, whatever ran before it.
    Runs that one program trains together are recorded together; until then they are
    saved in checkpoints. Configs may repeat, and may differ in everything but the data.
    The progress bar shows the phase.

    Raises:
      UsageError: a config that no run can be trained with, or a full disk.
    """
    wanted = {recorded_digest(c, context.finished): c for c in configs}
    missing = [c for digest, c in wanted.items() if digest not in context.finished]
    if missing:
        with terminal.study_progress(
            context.console, phase, len(missing), context.subject.measure.metric
        ) as progress:
            for run in _train(context, missing, progress.advance):
                context.finished[recorded_digest(run.config)] = run
                progress.ended(run)
    return [context.finished[recorded_digest(c, context.finished)] for c in configs]


def _train(
    context: StudyContext,
    configs: Sequence[Config],
    report_progress: Callable[[float], None],
) -> Iterator[Run]:
    """Trains and records program by program; reports each finished share of a run."""
    keys = {config: _key(context, config) for config in configs}
    order = list(dict.fromkeys(keys.values()))
    ordered = sorted(configs, key=lambda config: order.index(keys[config]))
    for fold, of_fold in groupby(ordered, key=lambda config: config.fold):
        splits = _splits(context, fold)
        for key, group in groupby(of_fold, key=keys.__getitem__):
            # Several processes are not made to wait for steps that train nothing.
            first = not context.programs and jax.process_count() == 1
            program = _program(context, key, splits)
            if first:
                _announce(context, keys, program, splits)
            alike = list(group)
            for first in range(0, len(alike), program.lanes):
                chunk = alike[first : first + program.lanes]
                checkpoints = context.checkpoints(chunk)
                outcome = train_runs(
                    program,
                    [Point(c.learning_rate, c.beta, c.seed) for c in chunk],
                    splits,
                    key.epochs,
                    test=key.test,
                    checkpoints=checkpoints,
                    on_epoch=partial(report_progress, len(chunk) / key.epochs),
                    refuse_nonfinite=chunk[0] if key.nonfinite == "stop" else None,
                )
                finished = _records(context, chunk, outcome, program.compile_seconds)
                if is_first():
                    runs.record(context.output, *finished)
                checkpoints.discard()
                yield from finished


def _announce(
    context: StudyContext,
    keys: Mapping[Config, ProgramKey],
    program: Program,
    splits: Splits,
) -> None:
    """Says what the runs will take, as far as their first program shows it.

    Others take as long for an image, and as long to compile.
    """
    trained, validated = map(examples_in, (splits.train, splits.validation))
    # A step computes the network, and gradients at about twice that cost.
    steps = steps_per_epoch(splits.train, program.spec.batch_size)
    epoch = seconds_per_step(program, splits) * steps * (1 + validated / trained / 3)
    alike = Counter(keys.values())
    epochs = sum(key.epochs * -(-n // program.lanes) for key, n in alike.items())
    programs = {key._replace(fold="", epochs=0) for key in alike}
    seconds = epochs * epoch + program.compile_seconds * (len(programs) - 1)
    examples = counted(trained, context.subject.measure.noun)
    terminal.announce(context.console, [*keys], examples, seconds, program.memory)


def _key(context: StudyContext, config: Config) -> ProgramKey:
    constants = (config.learning_rate, config.beta) if context.one_at_a_time else None
    return ProgramKey(
        config.fold,
        context.arms[config.arm].transformation,
        config.schedule,
        config.batch_size,
        config.epochs,
        config.test,
        config.nonfinite,
        config.weight_decay,
        config.decay_kernels_only,
        constants,
    )


def _program(context: StudyContext, key: ProgramKey, splits: Splits) -> Program:
    """The program of a key, compiled once.

    Folds of equal sizes share it, and so do all epochs if the rate is constant.
    """
    schedule = SCHEDULES[key.schedule]
    steps = key.epochs * steps_per_epoch(splits.train, key.batch_size)
    sizes = examples_in(splits.train), examples_in(splits.validation)
    changing = None if schedule.factor is None else (key.schedule, steps)
    policy = key.nonfinite
    decay = key.weight_decay, key.decay_kernels_only
    transformation = key.transformation, *decay, key.constants
    cached = transformation, key.batch_size, sizes, changing, policy
    if cached in context.programs:
        return context.programs[cached]

    def optimizer(
        learning_rate: ArrayLike, beta: ArrayLike
    ) -> optax.GradientTransformation:
        if key.constants is not None:
            learning_rate, beta = key.constants
        rate = schedule.rate(learning_rate, steps)
        return with_decay(key.transformation(rate, beta), *decay)

    task = context.subject.task
    spec = nonfinite.train_spec(optimizer, key.batch_size, task, policy)
    lanes = jax.device_count() if jax.default_backend() == "cpu" else _LANES
    if context.one_at_a_time:
        context.programs.clear()  # the memory of the program before
        lanes = 1
    program = compile_to_fit(spec, lanes, splits, test=key.test)
    context.programs[cached] = program
    return program


def runs_on() -> dict[str, str]:
    """The devices of this process and of those that train with it."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "devices": str(jax.device_count()),
    }


def _records(
    context: StudyContext, chunk: Sequence[Config], outcome: Outcome, compiling: float
) -> list[Run]:
    """The records of runs that trained together, each with its share of the time."""
    seconds = outcome.seconds / len(chunk)
    versions, commit = runs.environment(), runs.git_commit()
    place = runs_on()
    test, metric = outcome.test, context.subject.problem.metric
    return [
        Run(
            config=config,
            config_hash=config.digest(),
            epochs=_epochs(outcome, lane, metric),
            test_loss=float(test.loss[lane]) if test else np.nan,
            test_metric=metric.of(test.metric[lane]) if test else np.nan,
            seconds=seconds,
            seconds_with_compilation=seconds + compiling,
            images_per_second=outcome.images_per_second / len(chunk),
            skipped_steps=int(outcome.skipped_steps[lane]),
            resumed=outcome.resumed,
            startup_check=context.startup_check._asdict(),
            versions=versions,
            device=place["device"],
            git_commit=commit,
            devices=int(place["devices"]),
            metric=metric.name,
        )
        for lane, config in enumerate(chunk)
    ]


def _epochs(outcome: Outcome, lane: int, metric: Metric) -> tuple[Epoch, ...]:
    columns = (*outcome.train, *outcome.validation)
    rows = zip(*(column[lane] for column in columns), strict=True)
    return tuple(
        Epoch(float(row[0]), metric.of(row[1]), float(row[2]), metric.of(row[3]))
        for row in rows
    )


def _splits(context: StudyContext, fold: str) -> Splits:
    """What the runs of a fold read, on the devices.

    Of several processes that share each batch, every one copies only its own training
    examples to its devices, so these stay on the host; except that each step on whole
    batches may read any of them.
    """
    subject = context.subject
    train, validation = subject.split(context.folds.get(fold))
    shares = context.one_at_a_time and not subject.task.whole_batches
    on_host = shares and jax.process_count() > 1
    return Splits(
        train=train if on_host else _placed(train),
        validation=_placed(validation),
        test=_placed(subject.problem.test),
    )


def _placed(split: Batch) -> Batch:
    """The examples on all devices, unless they are streamed."""
    return split if is_streamed(split) else on_all_devices(split)

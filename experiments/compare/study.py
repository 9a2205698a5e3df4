"""SGD against momentum: the same seeds through every arm, then a report."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import tyro
from rich.console import Console

from experiments.compare.page import Setup, page
from experiments.data import image_dataset
from experiments.data.examples import Splits
from experiments.data.splits import split
from experiments.distributed import shared_plan
from experiments.distributed.processes import ALONE, Processes, is_first
from experiments.networks import cnn
from experiments.optimizers import user_arms
from experiments.optimizers.arms import ARMS, STORAGES, Arm
from experiments.records import plan, runs
from experiments.records.command_line import repeating
from experiments.records.config import (
    Config,
    Nonfinite,
    UsageError,
    check_at_least_one,
    check_beta,
    check_rate,
    check_save_every,
)
from experiments.reporting import html, terminal
from experiments.training import startup_check
from experiments.training.checkpoints import Checkpoints, checkpoints_of, clear
from experiments.training.fit import Program, compile_program, fit
from experiments.training.scoring import check_takes


@dataclass(frozen=True)
class Compare:
    """Train a small CNN with SGD and with momentum, and report the difference.

    Four arms (SGD, momentum as the tutorial's equation has it, SGD with larger steps,
    momentum as the tutorial's Keras code has it), each with the same seeds. A run that
    OUTPUT already holds is not repeated.
    """

    arms: str = "momentum"
    """What to compare. momentum: SGD and momentum, the four
    arms. storage: one momentum whose buffer is kept in
    float32, in bfloat16 and in 8 bits. FILE.py:function:
    the optimizers in the dictionary that this function of
    the learning rate returns, each against the first."""

    dataset: str = "digits"
    """What to train on: digits (1,797 handwritten digits,
    built in); the name of an image-classification data
    set of tensorflow-datasets, such as cifar10; a path that
    ends in .npz; or a folder of images, one subfolder a
    class."""

    data_dir: Path | None = None
    """Directory where tensorflow-datasets has prepared its
    data sets; without it, TFDS_DATA_DIR or else
    ~/tensorflow_datasets."""

    skip_broken: bool = False
    """Leave out images of a folder that can't be read,
    instead of stopping."""

    learning_rate: float = 0.01
    """Step size of the arms sgd, ema and keras, in
    parameters per gradient; the arm sgd_large_step takes
    LEARNING_RATE / (1 - BETA)."""

    beta: float = 0.9
    """Share of the momentum buffer that a step keeps, in [0,
    1)."""

    batch_size: int = 64
    """Images a step."""

    epochs: int = 10
    """Passes over the training images, the last 20% of which
    are held out to validate."""

    seeds: int = 3
    """Runs of each arm, with seeds 0, 1, ...; two are the
    least for an interval."""

    nonfinite: Nonfinite = "stop"
    """What to do about a step whose gradient or result is
    not finite. stop: end, and say at which step and in
    which leaf. skip: leave the step out and count it.
    record: train on, as the arm itself would."""

    save_every: float = 30.0
    """Seconds between the checkpoints of a run."""

    output: Path | None = None
    """Directory of the results, made if it isn't there;
    without it, one under runs/ that is named after the
    settings."""

    together: tyro.conf.OmitArgPrefixes[Processes] = ALONE

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever the data are."""
        check_rate("--learning-rate", self.learning_rate, "0.01 is the tutorial's")
        check_beta("--beta", self.beta)
        check_at_least_one("--batch-size", self.batch_size, "the images of a step")
        check_at_least_one("--epochs", self.epochs, "the passes over the data")
        check_at_least_one("--seeds", self.seeds, "the runs of each arm", 1_000)
        check_save_every(self.save_every)


def compare(options: Compare, console: Console) -> Path:
    """Does all that is missing of a comparison; returns the path of its report.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    subject, arms, code = _chosen_arms(options.arms)
    if options.output is not None and is_first():
        plan.make_directory(options.output)  # or refuse it, before anything takes long
    console.print(f"Reading {options.dataset} …", markup=False, highlight=False)
    dataset = image_dataset.load(
        options.dataset, options.data_dir, skip_broken=options.skip_broken
    )
    image_dataset.check_batch_size(options.batch_size, dataset)
    check_takes(cnn, dataset.train_images, dataset.classes)
    splits = split(dataset)
    settings = Config(
        dataset=dataset.name,
        data_digest=image_dataset.digest(dataset),
        arm="",
        learning_rate=options.learning_rate,
        beta=options.beta,
        batch_size=options.batch_size,
        epochs=options.epochs,
        seed=0,
        code=code,
        nonfinite=options.nonfinite,
    )
    held = plan.shared(settings)
    name = f"{subject}-{Path(dataset.name).stem}-{plan.digest(held)}"
    output = options.output or Path("runs") / name
    with shared_plan.hold(output, held) as finished:
        clear(output, [run.config_hash for run in finished])
        wanted = [
            replace(settings, arm=arm, seed=seed)
            for arm in arms
            for seed in range(options.seeds)
        ]
        done = {run.config: run for run in finished if run.config in wanted}
        missing = [config for config in wanted if config not in done]
        terminal.announce(console, len(done), missing, splits.train.images.shape)
        tell = partial(terminal.say, console)
        keep = partial(checkpoints_of, output, every=options.save_every, tell=tell)
        for run, checkpoints in _run_all(missing, arms, splits, console, keep):
            if is_first():
                runs.record(output, run)
            checkpoints.discard()
            done[run.config] = run
        setting = Setup(
            titles={key: arm.title for key, arm in arms.items()},
            equations={key: arm.equation for key, arm in arms.items()},
            train_images=len(splits.train.labels),
            validation_images=len(splits.validation.labels),
            test_images=len(splits.test.labels),
            command=repeating("compare", options),
        )
        ordered = [done[config] for config in wanted]
        path = output
        if is_first():
            path = html.write(output, page(ordered, setting))
    terminal.print_results(console, ordered, setting.titles)
    console.print(f"Report: {path}", markup=False, highlight=False, soft_wrap=True)
    return path


def _chosen_arms(name: str) -> tuple[str, Mapping[str, Arm], str]:
    """The subject of the comparison, its arms, and the digest of a user's code."""
    if name == "momentum":
        return "compare", ARMS, ""
    if name == "storage":
        return "storage", STORAGES, ""
    if ":" not in name:
        raise UsageError(
            f"--arms {name}: it is neither momentum nor storage; for optimizers of "
            "your own give FILE.py:function."
        )
    return "arms", *user_arms.arms("--arms", name)


def _run_all(
    configs: list[Config],
    arms: Mapping[str, Arm],
    splits: Splits,
    console: Console,
    keep: Callable[[list[Config]], Checkpoints],
) -> Iterator[tuple[runs.Run, Checkpoints]]:
    """Each run as soon as it is finished, and where it has been kept until then.

    An arm is compiled once for all its seeds.
    """
    if not configs:
        return
    checked = startup_check.check()
    versions, commit = runs.environment(), runs.git_commit()
    device = jax.devices()[0]
    programs: dict[str, Program] = {}
    with terminal.progress(console) as progress:
        task = progress.add_task("", total=sum(config.epochs for config in configs))
        for config in configs:
            progress.update(task, description=f"{config.arm} · seed {config.seed}")
            if config.arm not in programs:
                make = arms[config.arm].transformation
                transformation = make(config.learning_rate, config.beta)
                programs = {
                    config.arm: compile_program(
                        transformation, splits, config.batch_size, config.nonfinite
                    )
                }
            program, checkpoints = programs[config.arm], keep([config])
            outcome = fit(
                program, splits, config, checkpoints, lambda: progress.advance(task)
            )
            run = runs.Run(
                config=config,
                config_hash=config.digest(),
                epochs=outcome.epochs,
                test_loss=float(outcome.test.loss),
                test_accuracy=float(outcome.test.accuracy),
                seconds=outcome.seconds,
                seconds_with_compilation=outcome.seconds + program.compile_seconds,
                images_per_second=outcome.images_per_second,
                skipped_steps=outcome.skipped_steps,
                resumed=outcome.resumed,
                canary=checked._asdict(),
                versions=versions,
                device=f"{device.platform}: {device.device_kind}",
                git_commit=commit,
            )
            yield run, checkpoints

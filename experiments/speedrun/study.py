"""The command `speedrun`: trains run after run, and writes the page."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from rich.console import Console

from experiments.data import image_dataset
from experiments.data.examples import Examples
from experiments.data.image_dataset import Dataset
from experiments.distributed import shared_plan
from experiments.distributed.devices import on_all_devices
from experiments.distributed.matrix_products import matrix_products
from experiments.networks.network import RandomKey
from experiments.networks.on_cpu import fast_on_cpu
from experiments.problems.problem import Loss, Task
from experiments.records import plan, runs
from experiments.records.command_line import repeating
from experiments.records.config import UsageError
from experiments.reporting import terminal
from experiments.speedrun import costs, record
from experiments.speedrun import recipe as recipes
from experiments.speedrun.options import Speedrun
from experiments.speedrun.page import page
from experiments.speedrun.recipe import Recipe
from experiments.speedrun.record import SpeedrunRecord
from experiments.speedrun.steps import compile_steps, initial_state
from experiments.studies import lifecycle
from experiments.training.checkpoints import DIRECTORY, Checkpoints
from experiments.training.epochs import Progress, StateSteps, Training, train_epochs
from experiments.training.scoring import Score, score
from experiments.training.step import TrainState

_SMALLEST_SIDE = 9  # pixels, of which the three groups leave one


class _Program(NamedTuple):
    """What all runs of a plan share."""

    recipe: Recipe
    train: Examples
    test: Examples
    steps_of_seed: Callable[[int], StateSteps]
    test_once: Callable[[TrainState], Score]
    test_six_views: Callable[[TrainState], Score]
    compile_seconds: float
    test_seconds: float
    step_parts: dict[str, float]


def speedrun(options: Speedrun, console: Console) -> Path:
    """Trains the runs that are missing, writes the page and returns its path.

    Raises:
      UsageError: the data or the directory can't be used.
      Stopped: by a signal; the run is saved.
    """
    options.check()
    if options.output is not None:
        plan.make_directory(options.output)
    dataset = image_dataset.load(options.dataset, options.data_dir)
    recipe = _recipe(options, dataset)
    speedrun_plan = {
        "study": "speedrun",
        "dataset": dataset.name,
        "data_digest": image_dataset.digest(dataset),
        "batch_size": recipe.batch_size,
        "steps": recipe.length.total,
        "dtype": jnp.dtype(recipe.dtype).name,
        **shared_plan.numerics(),
    }
    digest = plan.digest(speedrun_plan)
    name = f"speedrun-{Path(dataset.name).stem}-{digest}"
    output = options.output or Path("runs") / name
    with plan.hold(output, speedrun_plan):
        terminal.say(console, f"Plan {digest}, in {output}")
        finished: list[SpeedrunRecord] = []
        program = None
        for seed in range(options.seeds):
            done = record.read(output, seed)
            if done is None:
                if program is None:
                    program = _compile(recipe, dataset, console)
                done = _run(program, seed, output, options.save_every, console)
                record.write(output, done)
            else:
                terminal.say(console, f"Seed {seed} is finished and kept.")
            terminal.say(console, _result(done, options.target))
            finished.append(done)
        command = repeating("speedrun", options)
        written = page(finished, speedrun_plan, digest, options, command)
        return lifecycle.write_page(output, written, console)


def _result(done: SpeedrunRecord, target: float) -> str:
    """A finished run in one line."""
    accuracy = done.multicrop_accuracy
    seconds = done.training_seconds + done.multicrop_seconds
    return (
        f"Seed {done.seed}: {accuracy:.2%} of the test images with six views, "
        f"{target:.1%} {'reached' if accuracy >= target else 'not reached'}, in "
        f"{terminal.duration(seconds)}."
    )


def _recipe(options: Speedrun, dataset: Dataset) -> Recipe:
    """What is trained on these images.

    Raises:
      UsageError: the images are too small or too few, or the batch can't be divided.
    """
    images, height, width, channels = np.shape(dataset.train_images)
    if min(height, width) < _SMALLEST_SIDE:
        raise UsageError(
            f"--dataset {options.dataset} has images of {height}x{width}; the network "
            f"needs {_SMALLEST_SIDE}x{_SMALLEST_SIDE} pixels at least. Enlarge them."
        )
    size, devices = options.batch_size, jax.device_count()
    if size > images:
        raise UsageError(
            f"--batch-size {size} is more than the {images} training images of "
            f"--dataset {options.dataset}; choose {images // devices * devices} or "
            "less."
        )
    if size % devices:
        raise UsageError(
            f"--batch-size {size} can't be divided among {devices} devices; choose "
            f"{max(1, size // devices) * devices}."
        )
    smoke = options.preset == "smoke"
    epochs = options.epochs or (1 if smoke else recipes.EPOCHS)
    return Recipe(
        (height, width, channels),
        dataset.classes,
        size,
        recipes.length(images, size, epochs),
        jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16,
    )


def _compile(recipe: Recipe, dataset: Dataset, console: Console) -> _Program:
    """Places the images, compiles all programs and times the parts of a step."""
    terminal.say(console, "Compiling, and timing the parts of a step …")
    train = Examples(*on_all_devices((dataset.train_images, dataset.train_labels)))
    test = Examples(*on_all_devices((dataset.test_images, dataset.test_labels)))
    start = time.perf_counter()
    state = initial_state(recipe, 0, train)
    steps = compile_steps(recipe, train, state)
    once = _scored(recipe, recipes.plain_loss(recipe), state, test)
    six = _scored(recipe, recipes.multicrop_loss(recipe), state, test)
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    jax.block_until_ready(once(state))
    test_seconds = time.perf_counter() - start
    parts = costs.seconds_of_parts(recipe, train, state)
    seconds = sum(parts.values())
    terminal.say(
        console,
        f"{recipe.length.total} steps of about {seconds:.2g} s: about "
        f"{terminal.duration(recipe.length.total * seconds)} a run.",
    )
    return _Program(
        recipe, train, test, steps, once, six, compile_seconds, test_seconds, parts
    )


def _scored(
    recipe: Recipe, loss: Loss, state: TrainState, test: Examples
) -> Callable[[TrainState], Score]:
    """Compiles the mean loss and accuracy of a run on the test images."""

    def init(key: RandomKey, batch: Examples) -> tuple[PyTree, PyTree]:
        return recipes.initial_variables(recipe, key, batch.images)

    task = Task(init, fast_on_cpu(loss), metric="accuracy")
    compiled = score.lower(task, state.params, test, state.model_state).compile()
    return lambda state: compiled(state.params, test, state.model_state)


def _run(
    program: _Program, seed: int, output: Path, save_every: float, console: Console
) -> SpeedrunRecord:
    """Trains one run, from its checkpoint if there is one."""
    recipe, of_seed = program.recipe, program.steps_of_seed(seed)
    per_epoch, total = recipe.length
    rate_of_products = matrix_products()
    before = rate_of_products()

    def train_steps(
        state: TrainState, epoch: int, start_step: int, stop_step: int
    ) -> TrainState:
        there = min(per_epoch, total - epoch * per_epoch)  # steps of this epoch
        state = of_seed(state, epoch, min(start_step, there), min(stop_step, there))
        if stop_step == per_epoch and epoch == recipe.length.epochs - 1:
            state = _finished(state, per_epoch / there)
        return state

    training = Training(
        start=lambda: initial_state(recipe, seed, program.train),
        train_steps=train_steps,
        validate=program.test_once,
        steps=per_epoch,
        examples=per_epoch * recipe.batch_size,
    )
    seconds_at: dict[int, float] = {}

    def report(progress: Progress) -> None:
        done, seconds = progress.epoch, progress.seconds
        if done in seconds_at:
            return
        seconds_at[done] = seconds
        steps = min(total, done * per_epoch)
        accuracy = progress.curves[done - 1, 3]
        left = (seconds / steps) * (total - steps)
        terminal.say(
            console,
            f"Seed {seed}, epoch {done} of {recipe.length.epochs}: {accuracy:.2%} of "
            f"the test images, {terminal.duration(seconds)}, about "
            f"{terminal.duration(left)} left.",
        )

    work = {"plan": "speedrun", "runs": [f"seed {seed}"], "seeds": [seed]}
    checkpoints = Checkpoints(
        output / DIRECTORY / f"seed-{seed}",
        work,
        save_every,
        lambda line: terminal.say(console, line),
    )
    progress = train_epochs(training, recipe.length.epochs, checkpoints, report)
    start = time.perf_counter()
    six_views = jax.block_until_ready(program.test_six_views(progress.train_state))
    multicrop_seconds = time.perf_counter() - start
    rate = (before + rate_of_products()) / 2
    checkpoints.discard()
    device = jax.devices()[0]
    columns = progress.curves.T.astype(float).tolist()
    return SpeedrunRecord(
        seed,
        total,
        *columns,
        multicrop_accuracy=float(six_views.metric),
        training_seconds=progress.seconds,
        multicrop_seconds=multicrop_seconds,
        compile_seconds=program.compile_seconds,
        test_seconds=program.test_seconds,
        step_parts=program.step_parts,
        matrix_gigaflops=rate / 1e9,
        resumed=progress.resumed,
        versions=runs.environment(),
        device=f"{device.platform}: {device.device_kind}",
        devices=jax.device_count(),
        git_commit=runs.git_commit(),
    )


def _finished(state: TrainState, scale: float) -> TrainState:
    """After the last step: Lookahead's slow weights, and sums as of a whole epoch."""
    sums = jax.tree.map(lambda x: x * scale, state.sums)
    return state._replace(params=state.opt_state.slow, sums=sums)

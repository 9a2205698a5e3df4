"""A run interrupted at any step equals the uninterrupted run, bit for bit."""

import signal
from dataclasses import replace
from typing import Any, cast
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small_splits import SPLITS, TASK
from support.usage_errors import usage_error

from experiments.distributed.signals import Stopped, defer_signals
from experiments.optimizers.arms import ARMS, STORAGES
from experiments.records.config import Config
from experiments.training import checkpoints, engine, epochs, nonfinite
from experiments.training.checkpoints import Checkpoints
from experiments.training.engine import Outcome, train_runs
from experiments.training.points import Point
from experiments.training.program import Program, compile_program
from experiments.training.step import TrainSpec, TrainState, constant

pytestmark = pytest.mark.usefixtures("small_network")

BATCH, EPOCHS, STEPS = 8, 3, 4  # of 29 images
POINT = Point(0.05, 0.8, seed=3)
CONFIG = Config("made up", "0" * 16, "keras", 0.05, 0.8, BATCH, EPOCHS, seed=3)


def noisy() -> optax.GradientTransformation:
    """SGD with noise, whose state is a random key."""

    def update(updates, key, params=None):
        key, own = jax.random.split(key)
        noise = 1 + 0.1 * jax.random.normal(own, ())
        return jax.tree.map(lambda g: -0.05 * noise * g, updates), key

    def init(params):
        return jax.random.key(4)

    return optax.GradientTransformation(init, cast(Any, update))


OPTIMIZERS = {
    "keras": ARMS["keras"].transformation(0.05, 0.8),
    "momentum in 8 bits": STORAGES["keras_int8"].transformation(0.05, 0.8),
    "SGD with noise": noisy(),
}


class Interrupting(Checkpoints):
    """Saves at every check; at check `stop_after`, a signal stops the run."""

    def __init__(self, directory, stop_after: int | None = None):
        super().__init__(directory, {}, 0.0, lambda line: None)
        self.checks, self.stop_after = 0, stop_after

    def due(self) -> bool:
        self.checks += 1
        if self.checks == self.stop_after:
            signal.raise_signal(signal.SIGTERM)
        return True


@pytest.fixture(autouse=True)
def a_call_is_a_step(monkeypatch):
    monkeypatch.setattr(epochs, "_FIRST_CALL", 1)
    monkeypatch.setattr(epochs, "_CALL_SECONDS", 0.0)


@pytest.fixture(params=OPTIMIZERS)
def program(request) -> Program:
    return compiled(OPTIMIZERS[request.param])


def compiled(optimizer: optax.GradientTransformation) -> Program:
    return compile_program(
        TrainSpec(constant(optimizer), BATCH, TASK), 1, SPLITS, test=True
    )


def train(program: Program, saves: Checkpoints | None = None) -> Outcome:
    return train_runs(program, [POINT], SPLITS, EPOCHS, test=True, checkpoints=saves)


def test_a_run_resumed_at_any_step_equals_the_uninterrupted_run(program, tmp_path):
    whole = train(program)
    assert whole.resumed == 0
    resumed, outcome = 0, None
    while outcome is None:
        try:  # every process takes two steps and is then stopped
            outcome = train(program, Interrupting(tmp_path / "a", 2))
        except Stopped as stop:
            assert stop.signal == signal.SIGTERM
            resumed += 1
    assert resumed == outcome.resumed == EPOCHS * STEPS // 2
    jax.tree.map(np.testing.assert_array_equal, outcome[:3], whole[:3])


@pytest.mark.slow
def test_the_last_state_equals_that_of_the_uninterrupted_run(program, tmp_path):
    training = engine._training(program, [POINT], SPLITS, None)
    whole = epochs.train_epochs(training, EPOCHS)
    for stop_after in (1, 3, 8):  # within an epoch, at its end, before the last
        directory = tmp_path / str(stop_after)
        with pytest.raises(Stopped):
            epochs.train_epochs(training, EPOCHS, Interrupting(directory, stop_after))
        resumed = epochs.train_epochs(training, EPOCHS, Interrupting(directory))
        assert resumed.resumed == 1
        np.testing.assert_array_equal(resumed.curves, whole.curves)
        pairs = map(jax.tree.leaves, (resumed.train_state, whole.train_state))
        for a, b in zip(*pairs, strict=True):
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = map(jax.random.key_data, (a, b))
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_resumed_lanes_equal_uninterrupted_ones(tmp_path):
    points = [Point(rate, 0.8, seed) for rate in (0.05, 1e38) for seed in (3, 4)][:3]
    spec = TrainSpec(ARMS["keras"].transformation, BATCH, TASK)
    program = compile_program(spec, 3, SPLITS)
    arguments = program, points, SPLITS, EPOCHS
    whole = train_runs(*arguments, test=True)
    with pytest.raises(Stopped):
        train_runs(*arguments, checkpoints=Interrupting(tmp_path / "a", 5))
    epoch, kept = Mock(), Interrupting(tmp_path / "a")
    resumed = train_runs(*arguments, test=True, checkpoints=kept, on_epoch=epoch)
    assert (whole.resumed, resumed.resumed) == (0, 1)
    assert epoch.call_count == EPOCHS  # also for epochs before the interruption
    jax.tree.map(np.testing.assert_array_equal, resumed[:3], whole[:3])


def test_the_position_of_the_stop_is_reported(program, tmp_path):
    with pytest.raises(Stopped) as stopped:
        train(program, Interrupting(tmp_path / "a", 5))
    assert str(stopped.value) == (
        "stopped by SIGTERM after 1 epochs and 1 steps of this run, which are saved: "
        "repeat the command to resume."
    )


def test_a_failed_last_save_is_reported(tmp_path, monkeypatch):
    def full(*_) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints, "write", full)
    program = compiled(OPTIMIZERS["keras"])
    with pytest.raises(Stopped, match="of this run, which could not be saved:"):
        train(program, Interrupting(tmp_path / "a", 1))


@pytest.fixture
def sigint_interrupts():
    """SIGINT interrupts, even if a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_interrupts")
def test_a_signal_after_the_last_check_is_delivered():
    with pytest.raises(KeyboardInterrupt), defer_signals() as stop_signal:
        assert stop_signal() is None
        signal.raise_signal(signal.SIGINT)


def test_calls_grow_to_their_longest_duration(monkeypatch):
    monkeypatch.setattr(epochs, "_CALL_SECONDS", 1.0)
    monkeypatch.setattr(epochs, "_FIRST_CALL", 8)
    seconds, calls = [0.0], []
    monkeypatch.setattr(epochs.time, "perf_counter", lambda: seconds[0])

    def train_steps(state, epoch, start_step, stop_step):
        calls.append((epoch, start_step, stop_step))
        seconds[0] += 0.01 * (stop_step - start_step)  # a step takes 10 ms
        return state

    scores = epochs.Score(jnp.zeros(()), jnp.zeros(()))
    state = TrainState({}, (), scores)
    training = epochs.Training(
        lambda: state, train_steps, lambda params: scores, steps=250, examples=1
    )
    epochs.train_epochs(training, 2)
    assert calls[:4] == [(0, 0, 8), (0, 8, 72), (0, 72, 172), (0, 172, 250)]
    assert calls[4:] == [(1, 0, 100), (1, 100, 200), (1, 200, 250)]


def poisoned(at_step: int) -> optax.GradientTransformation:
    """SGD whose result is infinite at one step."""

    def update(updates, state, params=None):
        factor = jnp.where(state == at_step, jnp.inf, -0.05)
        return jax.tree.map(lambda g: factor * g, updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


def test_stopping_names_the_step_and_keeps_the_run_before_it(tmp_path):
    spec = nonfinite.train_spec(constant(poisoned(5)), BATCH, TASK, "stop")
    program = compile_program(spec, 1, SPLITS)
    config = replace(CONFIG, nonfinite="stop")
    kept = Interrupting(tmp_path / "a")
    arguments = program, [POINT], SPLITS, EPOCHS
    options = {"checkpoints": kept, "refuse_nonfinite": config}
    for _ in range(2):  # the second time from the checkpoint
        assert usage_error("", train_runs, *arguments, **options) == (
            "keras, seed 3: at step 2 of epoch 2 every gradient is finite, but the "
            "update is not finite. Lower --learning-rate, or choose --nonfinite skip "
            "to skip such steps or --nonfinite record to train on. The state before "
            f"that step is saved in {tmp_path / 'a'}."
        )
        assert (kept.directory / "00000001-00000001").exists()

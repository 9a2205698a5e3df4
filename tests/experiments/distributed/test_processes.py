"""Several processes compute what one computes; none waits for a lost one."""

import json
import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import small_command, small_images
from support.usage_errors import usage_error

from experiments.distributed.options import Processes

FORKED = get_context("forkserver")  # from a process that has imported everything
FORKED.set_forkserver_preload(
    [
        "support.small_command",
        "experiments.compare.study",
        "experiments.studies.crossval.study",
    ]
)


ARMS = """
from optax_momentum import sgd

def arms(learning_rate):
    return {"momentum": sgd(learning_rate, 0.8)}
"""


class Started(NamedTuple):
    """A running command."""

    process: Any
    log: Path  # directory of its output


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return small_images.write(tmp_path_factory.mktemp("small") / "data.npz")


@pytest.fixture(scope="module")
def one_arm(tmp_path_factory) -> list[str]:
    """A comparison of one optimizer with one seed, which compiles quickly."""
    path = tmp_path_factory.mktemp("arms") / "arms.py"
    path.write_text(ARMS)
    return ["compare", "--seeds", "1", "--batch-size", "10", "--arms", f"{path}:arms"]


@pytest.fixture
def start(images, tmp_path_factory):
    """Starts a process for each command; kills those that run after the test."""
    running: list[Started] = []

    def start(*commands, devices: int | Sequence[int] = 1, join_timeout=60):
        together = ["--coordinator", f"127.0.0.1:{free_port()}"]
        together += ["--processes", str(len(commands))]
        if isinstance(devices, int):
            devices = [devices] * len(commands)
        started = []
        for index, (words, count) in enumerate(zip(commands, devices, strict=True)):
            words = [*words, "--dataset", str(images)]
            if len(commands) > 1:
                words += [*together, "--process-id", str(index)]
            log = tmp_path_factory.mktemp("log")
            for name in ("out", "errors"):
                (log / name).touch()
            job = small_command.Job(words, log, count, join_timeout)
            process = FORKED.Process(target=small_command.run, args=(job,))
            process.start()
            started.append(Started(process, log))
        running.extend(started)
        return started

    yield start
    for process, _ in running:
        process.kill()
        process.join()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(started: Sequence[Started]) -> list[tuple[int | None, str]]:
    """Exit status and error message of each process, without JAX's own log."""
    outcomes = []
    for process, log in started:
        process.join(240)
        errors = (log / "errors").read_text().splitlines()
        messages = [line for line in errors if line.startswith(("error:", "stopped"))]
        outcomes.append((process.exitcode, "\n".join(messages)))
    return outcomes


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 200
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def records(output: Path) -> list[dict]:
    return [*map(json.loads, (output / "runs.jsonl").read_text().splitlines())]


def losses(output: Path) -> list[float]:
    return [
        figure
        for run in records(output)
        for epoch in run["epochs"]
        for figure in (epoch["train_loss"], epoch["validation_loss"])
    ]


@pytest.mark.slow
def test_processes_compute_what_one_computes(start, one_arm, tmp_path):
    computed = {}
    for processes, devices in [(1, 1), (1, 2), (2, 1), (4, 1), (1, 8)]:
        output = tmp_path / f"{processes}x{devices}"
        words = [*one_arm, "--epochs", "2", "--output", str(output)]
        words += ["--devices", str(processes * devices)]
        started = start(*[words] * processes, devices=devices)
        assert wait_for(started) == [(0, "")] * processes
        assert (output / "report.html").exists()
        computed[processes, devices] = losses(output)
    assert len(computed[1, 1]) == 2 * 2
    assert computed[2, 1] == computed[1, 2]  # the same devices: the same bits
    for got in computed.values():
        assert got == pytest.approx(computed[1, 1], rel=2e-6)


@pytest.mark.slow
def test_lanes_are_spread_over_the_devices_of_all_processes(start, tmp_path):
    words = ["crossval", "--preset", "smoke", "--epochs", "2", "--batch-size", "10"]
    words += ["--folds", "2", "--betas", "0.5", "--effective-rates", "0.1"]
    for processes, devices in [(1, 2), (2, 1)]:
        command = [*words, "--output", str(tmp_path / str(processes))]
        started = start(*[command] * processes, devices=devices)
        assert wait_for(started) == [(0, "")] * processes
    assert losses(tmp_path / "2") == losses(tmp_path / "1")


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_resumes(start, one_arm, tmp_path):
    output, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    words = [*one_arm, "--epochs", "100"]
    command = [*words, "--output", str(output)]
    saving = [*command, "--save-every", "0"]
    started = start(saving, saving)
    wait_until(lambda: list(output.glob("checkpoints/*/*/manifest.json")))
    assert started[1].process.is_alive()
    started[1].process.kill()
    before = time.monotonic()
    (status, message), _ = wait_for(started)
    assert time.monotonic() - before < 60
    assert status == 1
    assert message.startswith("error: another process has ended, and so does this one")
    assert wait_for(start(command, command)) == [(0, "")] * 2
    assert sum(run["resumed"] for run in records(output)) == 1
    (started,) = start([*words, "--output", str(undisturbed)], devices=2)
    assert wait_for([started]) == [(0, "")]
    assert losses(output) == losses(undisturbed)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_a_save(start, one_arm, tmp_path):
    words = [*one_arm, "--epochs", "3000", "--save-every", "0"]
    words += ["--output", str(tmp_path / "a")]
    started = start(words, words)
    wait_until(lambda: list(tmp_path.glob("a/checkpoints/*/*/manifest.json")))
    started[1].process.terminate()
    for status, message in wait_for(started):
        assert status == 128 + signal.SIGTERM
        assert message.startswith("stopped by SIGTERM after ")


@pytest.mark.slow
def test_other_numbers_of_devices_resume_from_a_checkpoint(start, one_arm, tmp_path):
    output = tmp_path / "a"
    words = [*one_arm, "--epochs", "400", "--save-every", "0", "--output", str(output)]
    for devices in (1, 2, 4, 8):
        ((process, log),) = start(words, devices=devices)
        wait_until(lambda: list(output.glob("checkpoints/*/*/manifest.json")))
        if devices > 1:
            wait_until(lambda log=log: "Resuming from" in (log / "out").read_text())
        process.terminate()
        process.join()
        assert process.exitcode in (128 + signal.SIGTERM, -signal.SIGTERM)


@pytest.mark.slow
def test_a_missing_process_is_reported(start, tmp_path):
    words = ["compare", "--output", str(tmp_path)]
    first, second = start(words, words, join_timeout=3)
    second.process.kill()
    (status, message), _ = wait_for([first, second])
    assert status == 2
    assert message.startswith("error: not all processes met at 127.0.0.1:")
    first, second = start(words, words, join_timeout=3)
    first.process.kill()
    _, (status, message) = wait_for([first, second])
    assert status == 2
    assert "within 3 seconds: start process 0 there" in message


def test_processes_with_different_options_are_refused(start, tmp_path):
    words = ["compare", "--output", str(tmp_path), "--epochs"]
    expected = "error: process 1 was started with other epochs than process 0 (hashes "
    for status, message in wait_for(start([*words, "3"], [*words, "4"])):
        assert status == 2 and message.startswith(expected)
    assert not (tmp_path / "runs.jsonl").exists()


def test_unequal_numbers_of_devices_are_refused(start, one_arm, tmp_path):
    words = [*one_arm, "--output", str(tmp_path)]
    message = (
        "error: processes 0, 1, ... have 1, 2 devices, and must all have as many; "
        "(on CPUs) set JAX_NUM_CPU_DEVICES."
    )
    assert wait_for(start(words, words, devices=(1, 2))) == [(2, message)] * 2


def test_an_unexpected_number_of_devices_is_refused(start):
    message = (
        "error: --devices 64, but there are 2: 1 processes with 2 each. Start other "
        "processes, or (on CPUs) set JAX_NUM_CPU_DEVICES."
    )
    assert wait_for(start(["compare", "--devices", "64"], devices=2)) == [(2, message)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Processes(processes=2), "--processes and --process-id need --coordinator"),
        (Processes("auto", process_id=0), "with --coordinator auto leave them out."),
        (Processes("somewhere", 2, 0), "--coordinator must be HOST:PORT or auto, got "),
        (Processes(":80", 2, 0), "--coordinator must be HOST:PORT or auto, got :80."),
        (Processes("h:99999", 2, 0), "--coordinator must be HOST:PORT or auto, got"),
        (Processes("host:80", 2), "needs --processes, how many there are"),
        (Processes("host:80", 2, 2), "--process-id must lie in [0, --processes), got"),
        (Processes("host:80", 2, -1), "--process-id must lie in [0, --processes), got"),
    ],
)
def test_contradictory_options_are_refused(options, message):
    assert message in usage_error("", options.check)

"""Several processes train as one does, and none is left waiting for another."""

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

from experiments.distributed.processes import Processes
from experiments.records.config import UsageError

STARTED = get_context("forkserver")  # where all imports are done already
STARTED.set_forkserver_preload(["support.small_command", "experiments.__main__"])


class Started(NamedTuple):
    """A command on its way."""

    process: Any
    log: Path  # directory of what it prints


ARMS = """
from optax_momentum import sgd

def arms(learning_rate):
    return {"momentum": sgd(learning_rate, 0.8)}
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return small_images.write(tmp_path_factory.mktemp("small") / "data.npz")


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> list[str]:
    """Trains with one seed and one optimizer, which is compiled in no time."""
    path = tmp_path_factory.mktemp("arms") / "arms.py"
    path.write_text(ARMS)
    return ["compare", "--seeds", "1", "--batch-size", "10", "--arms", f"{path}:arms"]


@pytest.fixture
def start(images, tmp_path_factory):
    """Starts a process for each command, all together; ends what is left of them."""
    running: list[Started] = []

    def start(
        *commands: Sequence[str], devices: int | Sequence[int] = 1, meet: int = 60
    ) -> list[Started]:
        together = ["--coordinator", f"127.0.0.1:{free_port()}"]
        together += ["--processes", str(len(commands))]
        if isinstance(devices, int):
            devices = [devices] * len(commands)
        started = []
        for index, (words, own) in enumerate(zip(commands, devices, strict=True)):
            words = [*words, "--dataset", str(images)]
            if len(commands) > 1:
                words += [*together, "--process-id", str(index)]
            log = tmp_path_factory.mktemp("log")
            for name in ("out", "errors"):
                (log / name).touch()
            job = small_command.Job(words, log, own, meet)
            process = STARTED.Process(target=small_command.run, args=(job,))
            process.start()
            started.append(Started(process, log))
        running.extend(started)
        return started

    yield start
    for process, _ in running:
        process.kill()
        process.join()


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def ended(started: Sequence[Started]) -> list[tuple[int | None, str]]:
    """Status and errors of each; what JAX logs by itself is left out."""
    ends = []
    for process, log in started:
        process.join(240)
        errors = (log / "errors").read_text().splitlines()
        told = [line for line in errors if line.startswith(("error:", "stopped"))]
        ends.append((process.exitcode, "\n".join(told)))
    return ends


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 200
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def records(output: Path) -> list[dict]:
    lines = (output / "runs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def losses(output: Path) -> list[float]:
    return [
        figure
        for run in records(output)
        for epoch in run["epochs"]
        for figure in (epoch["train_loss"], epoch["validation_loss"])
    ]


def test_processes_compute_what_one_computes(start, one, tmp_path):
    found = {}
    for processes, devices in [(1, 1), (1, 2), (2, 1), (4, 1), (1, 8)]:
        output = tmp_path / f"{processes}x{devices}"
        words = [*one, "--epochs", "2", "--output", str(output)]
        words += ["--devices", str(processes * devices)]
        started = start(*[words] * processes, devices=devices)
        assert ended(started) == [(0, "")] * processes
        assert (output / "report.html").exists()
        found[processes, devices] = losses(output)
    assert len(found[1, 1]) == 2 * 2
    assert found[2, 1] == found[1, 2]  # the same devices: the same bits
    for got in found.values():
        assert got == pytest.approx(found[1, 1], rel=2e-6)


def test_lanes_are_spread_over_the_devices_of_all_processes(start, tmp_path):
    words = ["crossval", "--preset", "smoke", "--epochs", "2", "--batch-size", "10"]
    words += ["--folds", "2", "--betas", "0.5", "--effective-rates", "0.1"]
    for processes, devices in [(1, 2), (2, 1)]:
        own = [*words, "--output", str(tmp_path / str(processes))]
        started = start(*[own] * processes, devices=devices)
        assert ended(started) == [(0, "")] * processes
    assert losses(tmp_path / "2") == losses(tmp_path / "1")


def test_a_killed_process_ends_the_others_and_the_run_goes_on(start, one, tmp_path):
    output, whole = tmp_path / "killed", tmp_path / "whole"
    words = [*one, "--epochs", "100"]
    own = [*words, "--output", str(output)]
    often = [*own, "--save-every", "0"]
    started = start(often, often)
    wait_until(lambda: list(output.glob("checkpoints/*/*/manifest.json")))
    assert started[1].process.is_alive()
    started[1].process.kill()
    before = time.monotonic()
    (status, told), _ = ended(started)
    assert time.monotonic() - before < 60
    assert status == 1
    assert told.startswith("error: another process has ended, and so does this one; ")
    assert ended(start(own, own)) == [(0, "")] * 2
    assert sum(run["resumed"] for run in records(output)) == 1
    assert ended(start([*words, "--output", str(whole)], devices=2)) == [(0, "")]
    assert losses(output) == losses(whole)


def test_a_signal_to_one_stops_all_where_they_can_go_on(start, one, tmp_path):
    words = [*one, "--epochs", "3000", "--save-every", "0"]
    words += ["--output", str(tmp_path / "a")]
    started = start(words, words)
    wait_until(lambda: list(tmp_path.glob("a/checkpoints/*/*/manifest.json")))
    started[1].process.terminate()
    for status, told in ended(started):
        assert status == 128 + signal.SIGTERM
        assert told.startswith("stopped by SIGTERM after ")


def test_a_checkpoint_is_gone_on_from_on_other_numbers_of_devices(start, one, tmp_path):
    output = tmp_path / "a"
    words = [*one, "--epochs", "400", "--save-every", "0", "--output", str(output)]
    for devices in (1, 2, 4, 8):
        ((process, log),) = start(words, devices=devices)
        wait_until(lambda: list(output.glob("checkpoints/*/*/manifest.json")))
        if devices > 1:
            wait_until(lambda log=log: "Going on from" in (log / "out").read_text())
        process.terminate()
        process.join()
        assert process.exitcode in (128 + signal.SIGTERM, -signal.SIGTERM)


def test_processes_that_do_not_meet_say_so(start, tmp_path):
    words = ["compare", "--output", str(tmp_path)]
    one, two = start(words, words, meet=3)
    two.process.kill()
    (status, told), _ = ended([one, two])
    assert status == 2
    assert told.startswith("error: not all processes met at 127.0.0.1:")
    one, two = start(words, words, meet=3)
    one.process.kill()
    _, (status, told) = ended([one, two])
    assert status == 2
    assert "within 3 seconds: start process 0 there" in told


def test_processes_that_were_started_differently_say_in_what(start, tmp_path):
    words = ["compare", "--output", str(tmp_path), "--epochs"]
    for status, told in ended(start([*words, "3"], [*words, "4"])):
        assert status == 2
        assert told.startswith(
            "error: process 1 was started with other epochs than process 0 (hashes "
        )
    assert not (tmp_path / "runs.jsonl").exists()


def test_processes_of_unequal_devices_are_refused(start, one, tmp_path):
    words = [*one, "--output", str(tmp_path)]
    for status, told in ended(start(words, words, devices=(1, 2))):
        assert status == 2
        assert told == (
            "error: processes 0, 1, ... have 1, 2 devices, and must all have as many; "
            "(on CPUs) set JAX_NUM_CPU_DEVICES."
        )


def test_other_devices_than_were_asked_for_are_refused(start):
    ((status, told),) = ended(start(["compare", "--devices", "64"], devices=2))
    assert status == 2
    assert told == (
        "error: --devices 64, but there are 2: 1 processes with 2 each. Start other "
        "processes, or (on CPUs) set JAX_NUM_CPU_DEVICES."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            Processes(processes=2),
            "--processes and --process-id need --coordinator",
        ),
        (Processes("auto", process_id=0), "with --coordinator auto leave them out."),
        (Processes("somewhere", 2, 0), "--coordinator must be HOST:PORT or auto, got "),
        (Processes(":80", 2, 0), "--coordinator must be HOST:PORT or auto, got :80."),
        (Processes("h:99999", 2, 0), "--coordinator must be HOST:PORT or auto, got"),
        (
            Processes("host:80", 2),
            "needs --processes, how many there are",
        ),
        (
            Processes("host:80", 2, 2),
            "--process-id must lie in [0, --processes), got",
        ),
        (
            Processes("host:80", 2, -1),
            "--process-id must lie in [0, --processes), got",
        ),
    ],
)
def test_processes_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(UsageError) as refused:
        options.check()
    assert message in str(refused.value)

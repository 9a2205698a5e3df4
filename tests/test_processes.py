"""Several processes train as one does, and none is left waiting for another."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import small_images

from experiments.config import UsageError
from experiments.processes import Processes

COMMAND = [sys.executable, str(Path(__file__).with_name("small_command.py"))]
ONE = ["--seeds", "1", "--batch-size", "10"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return small_images.write(tmp_path_factory.mktemp("small") / "data.npz")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(images, cache):
    """Starts a command in processes of some devices each; ends what is left of them."""
    running = []

    def start(
        words: Sequence[str], processes: int = 1, devices: int = 1, meet: int = 60
    ) -> list[subprocess.Popen]:
        port = free_port()
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": str(cache),
        }
        together = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(processes)]
        started = [
            subprocess.Popen(
                [
                    *[*COMMAND, str(meet), *words, "--dataset", str(images)],
                    *([*together, "--process-id", str(i)] if processes > 1 else []),
                ],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(processes)
        ]
        running.extend(started)
        return started

    yield start
    for process in running:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


def ended(started: Sequence[subprocess.Popen]) -> list[tuple[int, str]]:
    """Status and errors of each; what JAX logs by itself is left out."""
    ends = []
    for process in started:
        _, errors = process.communicate(timeout=240)
        told = [x for x in errors.splitlines() if x.startswith(("error:", "stopped"))]
        ends.append((process.returncode, "\n".join(told)))
    return ends


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


def test_processes_compute_what_one_computes(start, tmp_path):
    found = {}
    for processes, devices in [(1, 1), (1, 2), (2, 1), (4, 1)]:
        output = tmp_path / f"{processes}x{devices}"
        words = ["compare", "--epochs", "2", *ONE, "--output", str(output)]
        words += ["--devices", str(processes * devices)]
        started = start(words, processes, devices)
        assert ended(started) == [(0, "")] * processes
        assert (output / "report.html").exists()
        found[processes, devices] = losses(output)
    assert len(found[1, 1]) == 4 * 2 * 2
    assert found[2, 1] == found[1, 2]  # the same devices: the same bits
    for got in found.values():
        assert got == pytest.approx(found[1, 1], rel=2e-6)


def test_lanes_are_spread_over_the_devices_of_all_processes(start, tmp_path):
    words = ["crossval", "--preset", "smoke", "--epochs", "2", "--batch-size", "10"]
    words += ["--folds", "2", "--betas", "0.5", "--effective-rates", "0.1"]
    for processes, devices in [(1, 2), (2, 1)]:
        output = tmp_path / str(processes)
        started = start([*words, "--output", str(output)], processes, devices)
        assert ended(started) == [(0, "")] * processes
    assert losses(tmp_path / "2") == losses(tmp_path / "1")


def test_a_killed_process_ends_the_others_and_the_run_goes_on(start, tmp_path):
    output, whole = tmp_path / "killed", tmp_path / "whole"
    words = ["compare", "--epochs", "25", *ONE, "--save-every", "0"]
    started = start([*words, "--output", str(output)], processes=2)
    deadline = time.monotonic() + 200
    while not list(output.glob("checkpoints/*/*/manifest.json")):
        assert time.monotonic() < deadline
        assert started[1].poll() is None
        time.sleep(0.1)
    started[1].send_signal(signal.SIGKILL)
    before = time.monotonic()
    (status, told), _ = ended(started)
    assert time.monotonic() - before < 60
    assert status == 1
    assert told.startswith("error: another process has ended, and so does this one; ")
    assert ended(start([*words, "--output", str(output)], 2)) == [(0, "")] * 2
    assert sum(run["resumed"] for run in records(output)) == 1
    assert ended(start([*words, "--output", str(whole)], 2)) == [(0, "")] * 2
    assert losses(output) == losses(whole)


def test_a_signal_to_one_stops_all_where_they_can_go_on(start, tmp_path):
    words = ["compare", "--epochs", "3000", *ONE, "--save-every", "0"]
    started = start([*words, "--output", str(tmp_path / "a")], processes=2)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("a/checkpoints/*/*/manifest.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started[1].send_signal(signal.SIGTERM)
    for status, told in ended(started):
        assert status == 128 + signal.SIGTERM
        assert told.startswith("stopped by SIGTERM after ")


def test_a_checkpoint_is_gone_on_from_on_other_numbers_of_devices(start, tmp_path):
    output = tmp_path / "a"
    words = ["compare", "--epochs", "400", *ONE, "--save-every", "0"]
    words += ["--output", str(output)]
    for devices in (1, 2, 4, 8):
        (process,) = start(words, devices=devices)
        for line in process.stdout:
            if "Going on from" in line or devices == 1:
                break
        else:
            raise AssertionError(ended([process]))
        deadline = time.monotonic() + 200
        while not list(output.glob("checkpoints/*/*/manifest.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert ended([process])[0][0] in (143, -15)


def test_processes_that_do_not_meet_say_so(start, tmp_path):
    one, two = start(["compare", "--output", str(tmp_path)], processes=2, meet=4)
    two.kill()
    (status, told), _ = ended([one, two])
    assert status == 2
    assert told.startswith("error: not all processes met at 127.0.0.1:")
    one, two = start(["compare", "--output", str(tmp_path)], processes=2, meet=4)
    one.kill()
    _, (status, told) = ended([one, two])
    assert status == 2
    assert "within 4 seconds: start process 0 there" in told


def test_processes_that_were_started_differently_say_in_what(images, tmp_path, start):
    one = start(["compare", "--epochs", "3"], processes=2)
    address = one[0].args[one[0].args.index("--coordinator") + 1]
    one[1].kill()
    rest = ["--dataset", str(images), "--coordinator", address]
    rest += ["--processes", "2", "--process-id", "1"]
    other = subprocess.Popen(
        [*COMMAND, "60", "compare", "--epochs", "4", *rest],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for status, told in ended([one[0], other]):
        assert status == 2
        assert told.startswith(
            "error: process 1 was started with other epochs than process 0 (hashes "
        )
    assert not (tmp_path / "runs.jsonl").exists()


def test_other_devices_than_were_asked_for_are_refused(start):
    (status, told), *_ = ended(start(["compare", "--devices", "64"], devices=2))
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

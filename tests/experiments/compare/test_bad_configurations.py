"""Impossible configurations of all kinds are refused in one line, and change no file.

Each test runs the real command. `test_impossible_options` has more options of the
studies.
"""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from support import small_images
from support.refused import refusal
from support.synthetic import synthetic_run

from experiments.data.examples import in_batches
from experiments.records import plan, runs

pytestmark = pytest.mark.usefixtures("small_network")

COMPARE = ["compare", "--dataset", "data.npz", "--output", "results"]
PLAN = {"study": "sweep", "epochs": 3}

# By kind of refusal: commands, without the options that all share, and their messages.
REFUSED = {
    "unknown key": {
        "compare --epoch 3": (
            "compare has no option --epoch; did you mean --epochs? `python -m "
            "experiments compare --help` explains them all."
        ),
    },
    "wrong type": {
        "compare --epochs ten": (
            "Error parsing --epochs: no type matching INT could be instantiated from "
            "['ten']. Add --help for all options."
        ),
    },
    "no epochs": {
        "compare --epochs 0": (
            "--epochs must be at least 1, got 0: the passes over the data."
        ),
    },
    "batch larger than the data": {
        "compare --batch-size 129": (
            "--batch-size 129 is larger than the 128 training images of data.npz; "
            "choose a smaller one."
        ),
        "crossval --batch-size 107": (
            "--batch-size 107 is larger than the 106 images that fold 1 of 3 trains "
            "on; choose a smaller one."
        ),
        "sweep --batch-sizes 16 129": (
            "--batch-sizes has 129, but data.npz has 128 training images; choose "
            "smaller ones."
        ),
        "tune --batch-sizes 16 129": (
            "--batch-sizes has 129, but data.npz has 128 training images; choose "
            "smaller ones."
        ),
        "batch-size --batch-sizes 129 160": (
            "--batch-sizes: even the smallest, 129, is more than the 128 training "
            "images of data.npz; name smaller ones."
        ),
        "lr-decay --batch-size 129": (
            "--batch-size 129 is larger than the 128 training images of data.npz; "
            "choose a smaller one."
        ),
    },
    "rates empty, twice, or nothing in float32": {
        "crossval --effective-rates": (
            "--effective-rates is empty; name values, such as --effective-rates 0.1 "
            "0.2."
        ),
        "crossval --effective-rates 0.1 0.1000000001": (
            "--effective-rates names 0.1 twice, as 0.1000000001; name each value once."
        ),
        "compare --learning-rate 1e60": (
            "--learning-rate must lie in [1e-30, 1e+30], got 1e+60; 0.01 is the "
            "tutorial's."
        ),
        "compare --beta 0.99999999999": (
            "--beta must lie in [0, 0.9999999], got 0.99999999999; 0.9 is the "
            "tutorial's."
        ),
        "crossval --effective-rates 1e-45 0.1": (
            "--effective-rates must lie in [1e-30, 1e+30], got 1e-45; 0.1 is the "
            "tutorial's, of learning rate 0.01 and beta 0.9."
        ),
        "lr-decay --beta 0.99999998": (
            "--beta must lie in [0, 0.9999999], got 0.99999998; 0.9 is the tutorial's."
        ),
    },
    "one fold": {
        "crossval --folds 1": (
            "--folds must be at least 2, got 1: each fold validates runs that train on "
            "the others."
        ),
    },
    "more folds than images": {
        "crossval --folds 161": (
            "--folds 161 is more than the 160 training images; choose fewer folds."
        ),
    },
    "seeds below 0 or beyond 32 bits": {
        "compare --seeds -1": (
            "--seeds must be at least 1, got -1: the runs of each comparison."
        ),
        "compare --seeds 4294967296": (
            "--seeds must be at most 1000, got 4294967296: the seeds from there on "
            "are those of the tuning."
        ),
        "crossval --seeds 1001": (
            "--seeds must be at most 1000, got 1001: the seeds from there on are those "
            "of the tuning."
        ),
    },
    "output that can't be": {
        "compare --output data.npz": "--output data.npz is a file; name a directory.",
        "compare --output data.npz/results": (
            "--output data.npz/results can't be written: Not a directory; choose "
            "another --output."
        ),
        f"crossval --output {'n' * 256}": (
            f"--output {'n' * 256} can't be written: File name too long; choose "
            "another --output."
        ),
    },
}


@pytest.fixture
def directory(idle_directory: Path) -> Path:
    """A directory with data: 128 images to train, 32 to validate, 40 to test."""
    small_images.write(idle_directory / "data.npz", 200)
    return idle_directory


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(*x, id=kind)
        for kind, cases in REFUSED.items()
        for x in cases.items()
    ],
)
def test_impossible_configuration_is_refused(capsys, directory, command, message):
    study, *options = command.split()
    common = ["--dataset", "data.npz"]
    common += [] if study == "compare" else ["--preset", "smoke"]
    common += [] if "--output" in options else ["--output", "results"]
    assert refusal(capsys, study, *common, *options) == message


def test_directory_of_another_plan_is_refused_with_both_hashes(capsys, directory):
    with plan.hold(directory / "results", PLAN):
        runs.record(directory / "results", synthetic_run())
    message = refusal(capsys, *COMPARE)
    theirs = f"holds runs of another plan: {plan.digest(PLAN)} with epochs 3, "
    assert message.startswith(f"--output results {theirs}")
    assert re.search(r"; this one is [0-9a-f]{16} with dataset 'data.npz', ", message)
    assert message.endswith(" Choose another --output.")


def test_directory_with_a_record_of_another_config_is_refused(capsys, directory):
    run = synthetic_run()
    with plan.hold(directory / "results", plan.shared(run.config)):
        runs.record(directory / "results", run)
    path = directory / "results" / "runs.jsonl"
    path.write_text(path.read_text().replace('"beta": 0.9', '"beta": 0.8'))
    message = refusal(capsys, *COMPARE)
    assert message.startswith("results/runs.jsonl, line 1, is not a whole record of th")
    assert "it hashes to " in message and "choose another --output" in message


@pytest.mark.parametrize("size", [2, 16, 56, 57])
def test_batch_size_that_does_not_divide_the_images_leaves_none_out(size):
    indices, weights = map(np.asarray, in_batches(jnp.arange(57), size, 3))
    assert sorted(indices[weights == 1]) == list(range(57))
    assert set(weights.ravel()) <= {0.0, 1.0}

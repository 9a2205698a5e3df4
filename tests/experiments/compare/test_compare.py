"""The command `compare`: what it writes, keeps and refuses."""

import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import NamedTuple

import jax
import numpy as np
import pytest
from support import image_folders, small_images

from experiments.__main__ import main
from experiments.compare.options import Compare
from experiments.optimizers.arms import ARMS
from experiments.studies import context

pytestmark = pytest.mark.usefixtures("small_network")

# The path of a small data set replaces "data.npz" in these.
SMALL = ["--dataset", "data.npz", "--epochs", "2", "--batch-size", "16"]
RATES = "must lie in [1e-30, 1e+30]"


class Finished(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


def command(*words) -> Finished:
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = main(["compare", *map(str, words)])
    return Finished(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command with the small data set."""
    path = small_images.write(tmp_path_factory.mktemp("small") / "data.npz")
    return lambda *words: command(*(path if w == "data.npz" else w for w in words))


@pytest.fixture(scope="module")
def compared(run, tmp_path_factory):
    """A comparison of two seeds, which no test may change, and what it printed."""
    output = tmp_path_factory.mktemp("compared") / "new" / "folder"
    return output, run(*SMALL, "--seeds", 2, "--output", output)


@pytest.fixture
def copied(compared, tmp_path):
    """A copy of its directory, for tests that change it."""
    return shutil.copytree(compared[0], tmp_path / "copied")


def test_compare_writes_runs_summary_page_and_curves(compared):
    output, (status, out, err) = compared
    assert (status, err) == (0, "")
    assert "8 runs of 2 epochs on 57 images: about" in out
    assert f"Report: {output / 'report.html'}" in out
    summary = json.loads((output / "summary.json").read_text())
    assert summary["dataset"] == "data.npz"
    learned = "Two seeds bound nothing; --seeds 3 is the least."
    assert summary["conclusion"] == learned and f"\n{learned}\n" in out
    assert "At full size, at least 40 runs, about " in out
    assert list(summary["arms"]) == ["sgd", "ema", "sgd_large_step", "keras"]
    records = [json.loads(s) for s in (output / "runs.jsonl").read_text().splitlines()]
    assert len(records) == 8
    for arm, figures in summary["arms"].items():
        own = [r["test_accuracy"] for r in records if r["config"]["arm"] == arm]
        assert figures["test_accuracy"]["values"] == own
        assert figures["test_accuracy"]["mean"] == pytest.approx(np.mean(own))
    record = records[0]
    assert len(record["epochs"]) == 2
    assert record["seconds_with_compilation"] > record["seconds"] > 0
    assert record["images_per_second"] > 0
    assert record["versions"]["jax"] == jax.__version__
    assert record["device"].startswith("cpu")
    assert "<svg" in (output / "report.html").read_text()
    assert (output / "figures" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("blank_figures")
def test_storages_are_compared_by_name(run, tmp_path):
    words = "--arms", "storage", "--seeds", 2, "--output", tmp_path
    status, out, _ = run(*SMALL, *words)
    assert status == 0 and "storage: 8 bits instead of float32" in out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["arms"]) == ["keras", "keras_bfloat16", "keras_int8"]
    seconds = [each["second"] for each in summary["comparisons"]]
    assert seconds == ["keras", "keras"]
    page = (tmp_path / "report.html").read_text()
    assert "Keras momentum, kept in 8 bits" in page and "Two step sizes" not in page


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
def test_what_was_left_out_and_resized_is_said_wherever_results_are(tmp_path):
    for index in range(48):
        name = "cats" if index % 2 else "dogs"
        path = tmp_path / "pets" / name / f"{index}.png"
        image_folders.write(path, image_folders.PIXELS[index % 12][: 4 + index % 3])
    for name in ("x.png", "y.png", "z.png"):
        (tmp_path / "pets" / "cats" / name).write_text("words")
    words = ["--dataset", tmp_path / "pets", "--image-size", 6, "--epochs", 1]
    words += ["--seeds", 1, "--batch-size", 16, "--output", tmp_path / "out"]
    status, _, err = command(*words)
    assert status == 2 and "3 of 51 files can't be used: 3 not an image" in err
    status, out, _ = command(*words, "--skip-broken")
    assert status == 0
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["plan"]["left_out"] == {"not an image": 3}
    assert plan["plan"]["image_size"] == 6
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["plan"] == {"hash": plan["hash"], **plan["plan"]}
    page = (tmp_path / "out" / "report.html").read_text()
    for sentence in (
        "3 of 51 files are left out: 3 not an image.",
        "The middle of every image is resized to 6x6.",
    ):
        assert sentence in out and sentence in page and sentence in summary["summary"]
    (tmp_path / "pets" / "dogs" / "w.png").write_text("words")
    _, out, err = command(*words, "--skip-broken-up-to", 0.08)
    assert "4 of 52 files are left out: 4 not an image." in out
    assert "another plan" in err and "left_out {'not an image': 4}" in err


@pytest.mark.usefixtures("blank_figures")
def test_the_same_command_repeats_nothing_and_more_seeds_add_theirs(run, copied):
    records = (copied / "runs.jsonl").read_bytes()
    status, out, _ = run(*SMALL, "--seeds", 2, "--output", copied)
    assert status == 0 and "8 finished runs of this plan are kept." in out
    assert (copied / "runs.jsonl").read_bytes() == records
    _, out, _ = run(*SMALL, "--seeds", 3, "--output", copied)
    assert "8 finished runs of this plan are kept." in out
    assert (copied / "runs.jsonl").read_bytes().startswith(records)
    assert len((copied / "runs.jsonl").read_bytes().splitlines()) == 12


@pytest.mark.usefixtures("blank_figures")
def test_a_finished_run_survives_an_error_in_the_next(run, tmp_path, monkeypatch):
    output, train_runs, finished = tmp_path / "runs", context.train_runs, []

    def stopping(*arguments, **options):
        if len(finished) == 3:
            raise KeyboardInterrupt
        finished.append(train_runs(*arguments, **options))
        return finished[-1]

    monkeypatch.setattr(context, "train_runs", stopping)
    status, _, err = run(*SMALL, "--seeds", 1, "--output", output)
    assert (status, err) == (130, "stopped; finished runs are kept.\n")
    assert len((output / "runs.jsonl").read_bytes().splitlines()) == 3
    monkeypatch.setattr(context, "train_runs", train_runs)
    status, out, _ = run(*SMALL, "--seeds", 1, "--output", output)
    assert status == 0 and "3 finished runs of this plan are kept." in out
    assert len((output / "runs.jsonl").read_bytes().splitlines()) == 4


def test_a_directory_with_runs_of_another_plan_is_refused(run, copied):
    status, _, err = run(*SMALL, "--seeds", 1, "--output", copied, "--beta", 0.8)
    assert status == 2
    assert "holds runs of another plan" in err
    assert "beta 0.9" in err and "beta 0.8" in err and err.count("\n") == 1


def test_the_directory_is_named_after_the_plan(run, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(context, "compile_to_fit", stop)  # it has its directory
    run(*SMALL, "--seeds", 1)
    run(*SMALL, "--seeds", 1, "--beta", 0.8)
    names = [path.name for path in (tmp_path / "runs").iterdir()]
    assert len(set(names)) == 2
    assert all(name.startswith("compare-data-") for name in names)


@pytest.mark.usefixtures("blank_figures")
def test_arms_of_one_seed_start_alike(run, tmp_path):
    output = tmp_path / "runs"
    run(*SMALL, "--seeds", 1, "--beta", 0, "--output", output)
    lines = (output / "runs.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    # Without momentum all arms are the same SGD: paired, they follow one path.
    losses = [run["epochs"][-1]["train_loss"] for run in runs]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--zigzag"], "compare has no option --zigzag. `python -m "),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--learning-rate", "0"], f"--learning-rate {RATES}, got 0.0"),
        (["--learning-rate", "nan"], f"--learning-rate {RATES}, got n"),
        (["--beta", "1"], "--beta must lie in [0, 0.9999999], got 1.0"),
        (["--beta", "nan"], "--beta must lie in [0, 0.9999999], got nan"),
        (["--dataset", "nothing.npz"], "--dataset nothing.npz: there is no such file."),
        (["--dataset", "mnits"], "Did you mean mnist"),
        (
            ["--dataset", "mnist", "--data-dir", "nowhere"],
            "`uv run --extra prepare python -m experiments prepare mnist --data-dir ",
        ),
        (["--skip-broken-up-to", "0"], "--skip-broken-up-to must lie in (0, 1], got 0"),
        (["--skip-broken-up-to", "nan"], "--skip-broken-up-to must lie in (0, 1], got"),
        (["--image-size", "0"], "--image-size must be at least 1, got 0: the height"),
        ([*SMALL, "--output", __file__], "is a file; name a directory."),
    ],
)
def test_impossible_options_are_refused_in_one_line(run, words, message):
    status, _, err = run(*words)
    assert status == 2
    assert err.startswith("error: ") and message in err
    assert err.count("\n") == 1


def test_every_option_is_explained_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.split())
    options = dict(vars(Compare()))
    options |= vars(options.pop("together"))
    for name, default in options.items():
        assert f"--{name.replace('_', '-')} " in text
        assert f"(default: {default})" in text
    assert text.count("(default: ") == len(options)


@pytest.mark.parametrize("command", [[], ["frobnicate"]])
def test_without_a_command_the_commands_are_listed(command, capsys):
    assert main(command) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: Expected one of {compare, sweep, crossval")
    assert err.count("\n") == 1


def test_arms_have_the_keys_of_the_summary():
    assert list(ARMS) == ["sgd", "ema", "sgd_large_step", "keras"]

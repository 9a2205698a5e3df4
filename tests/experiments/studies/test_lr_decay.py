"""The command `lr-decay`: its trials, resumption and refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.small_studies import count_calls, printed, records

from experiments.reporting import html
from experiments.studies.lr_decay.options import LrDecay
from experiments.studies.lr_decay.study import lr_decay
from experiments.studies.options import TUNING_SEED

pytestmark = pytest.mark.usefixtures("small_network")

STUDY = lr_decay
# 38 training images are 5 steps an epoch: of 20, the rate falls after 10 and 15. The
# best rate of a dense layer is the highest here, so that one more is tried.
SMALL = LrDecay(
    preset="smoke",
    schedules=("constant", "step"),
    effective_rates=(0.0005, 0.001),
    beta=0.8,
    batch_size=8,
    epochs=4,
    seeds=2,
    extensions=1,
)


def of(output, **settings) -> dict[tuple[float, int], list[float]]:
    """Training losses by learning rate and seed, of runs with such settings."""
    return {
        (record["config"]["learning_rate"], record["config"]["seed"]): [
            epoch["train_loss"] for epoch in record["epochs"]
        ]
        for record in records(output)
        if settings.items() <= record["config"].items()
    }


def test_every_schedule_and_method_has_equally_many_trials(finished):
    tuning = [r["config"] for r in records(finished) if not r["config"]["test"]]
    assert {config["seed"] for config in tuning} == {TUNING_SEED}
    for schedule in ("constant", "step"):
        for arm in ("sgd", "inside", "outside"):
            rates = {
                config["learning_rate"] / (1 - config["beta"])
                for config in tuning
                if (config["schedule"], config["arm"]) == (schedule, arm)
            }
            assert sorted(rates) == pytest.approx([0.0005, 0.001, 0.002])
    assert len(tuning) == 2 * 3 * 3


def test_final_runs_are_paired_and_have_other_seeds(finished):
    final = [r["config"] for r in records(finished) if r["config"]["test"]]
    by_cell = {}
    for config in final:
        cell = config["schedule"], config["arm"], config["learning_rate"]
        by_cell.setdefault(cell, []).append(config["seed"])
    assert {tuple(seeds) for seeds in by_cell.values()} == {(0, 1)}
    arms = {(schedule, arm) for schedule, arm, _ in by_cell}
    names = ("sgd", "inside", "outside", "corrected")
    assert arms == {(s, arm) for s in ("constant", "step") for arm in names}


def test_conventions_agree_at_a_constant_rate_and_differ_after_a_drop(finished):
    constant, step = (
        {arm: of(finished, arm=arm, schedule=schedule) for arm in ("inside", "outside")}
        for schedule in ("constant", "step")
    )
    common = constant["inside"].keys() & constant["outside"].keys()
    assert len(common) >= 3
    for key in common:
        inside, outside = constant["inside"][key], constant["outside"][key]
        np.testing.assert_allclose(inside, outside, rtol=1e-4)
    common = step["inside"].keys() & step["outside"].keys()
    for key in common:
        inside, outside = step["inside"][key], step["outside"][key]
        # The rate drops before epoch 3, which scores each batch before its step.
        np.testing.assert_allclose(inside[:2], outside[:2], rtol=1e-4)
        assert abs(inside[3] - outside[3]) > 1e-3 * outside[3]


def test_correction_turns_inside_into_outside_under_any_schedule(finished):
    for schedule in ("constant", "step"):
        corrected = of(finished, arm="corrected", schedule=schedule)
        outside = of(finished, arm="outside", schedule=schedule, test=True)
        assert corrected.keys() == outside.keys()
        for key, losses in corrected.items():
            np.testing.assert_allclose(losses, outside[key], rtol=1e-4)


def test_page_has_the_plan_and_the_figures(finished):
    plan = json.loads((finished / "plan.json").read_text())
    assert plan["plan"]["extensions"] == 1 and plan["plan"]["beta"] == 0.8
    assert plan["hash"] in (finished / "report.html").read_text()
    names = sorted(path.stem for path in (finished / "figures").iterdir())
    assert names == ["differences", "reaction", "schedules", "tuning"]


@pytest.mark.usefixtures("blank_figures")
def test_interrupted_study_resumes_and_repeats_nothing(
    options, finished, tmp_path, monkeypatch
):
    fits = count_calls(monkeypatch, "train_runs", 7)  # after the tuning
    monkeypatch.setattr(html, "write", lambda output, page: output)
    options, output = replace(options, schedules=("step",)), tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        printed(lr_decay, options, output)
    kept, resumed = len(records(output)), printed(lr_decay, options, output)
    assert f"{kept} finished runs of this plan are kept." in resumed
    assert len(fits) == 9 + 1  # and one that was interrupted
    ours, theirs = (
        [(r["config"], r["epochs"]) for r in records(directory)]
        for directory in (output, finished)
    )
    assert len(ours) == 17
    assert all(run in theirs for run in ours)

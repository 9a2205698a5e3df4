"""The command `sweep`: its trials, records, resumption and refusals."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from support.small_studies import count_calls, printed, records

from experiments.records.config import UsageError
from experiments.studies import lifecycle
from experiments.studies.options import TUNING_SEED
from experiments.studies.sweep.options import Sweep
from experiments.studies.sweep.study import sweep

pytestmark = pytest.mark.usefixtures("small_network")

STUDY = sweep
METHODS = ("sgd", "momentum")
# Best at neither end for a dense layer, but near enough to one that the space grows.
SMALL = Sweep(
    preset="smoke",
    methods=METHODS,
    batch_sizes=(8, 12),
    effective_rate=(0.001, 0.05),
    one_minus_beta=(0.03, 0.6),
    trials=4,
    extensions=1,
    epochs=2,
    seeds=2,
)


def by_config(output) -> list[dict]:
    """Sorted records, as those of an interrupted run may come after later ones."""
    return sorted(records(output), key=lambda record: record["config_hash"])


def configs(output) -> list[dict]:
    return [record["config"] for record in by_config(output)]


def test_every_method_gets_equally_many_trials_and_the_space_grows(finished):
    tuning = [c for c in configs(finished) if not c["test"]]
    assert {c["seed"] for c in tuning} == {TUNING_SEED}
    counts = Counter((c["arm"], c["batch_size"]) for c in tuning)
    # 4 in the space as declared, 2 in its extension.
    assert counts == {(method, size): 6 for method in METHODS for size in (8, 12)}
    rates = [c["learning_rate"] / (1 - c["beta"]) for c in tuning]
    assert min(rates) < 0.001 or max(rates) > 0.05


def test_final_runs_are_paired_and_alone_read_the_test_images(finished):
    final = [c for c in configs(finished) if c["test"]]
    assert sorted((c["arm"], c["seed"]) for c in final) == sorted(
        (method, seed) for method in METHODS for seed in (0, 1)
    )
    for method in METHODS:
        tried, (chosen,) = (
            {
                (c["learning_rate"], c["beta"], c["batch_size"])
                for c in configs(finished)
                if (c["arm"], c["test"]) == (method, test)
            }
            for test in (False, True)
        )
        assert chosen in tried


def test_plan_is_on_the_page(finished):
    plan = json.loads((finished / "plan.json").read_text())
    assert plan["plan"]["trials"] == 4 and plan["plan"]["sampler"] == "sobol"
    assert plan["plan"]["scramble_seed"] > 0
    page = (finished / "report.html").read_text()
    assert plan["hash"] in page and "--batch-sizes 8 12" in page


@pytest.mark.usefixtures("blank_figures")
def test_interrupted_sweep_resumes_with_the_results_of_an_uninterrupted_one(
    options, finished, tmp_path, monkeypatch
):
    output = tmp_path / "sweep"
    # In the first round, and in the second.
    fits = count_calls(monkeypatch, "train_runs", 5, 11)
    monkeypatch.setattr(lifecycle, "publish", lambda *_: output / "report.html")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            printed(sweep, options, output)
    assert "finished runs of this plan are kept." in printed(sweep, options, output)
    assert configs(output) == configs(finished)
    # 28 runs, two at a time, each once; and two interruptions.
    assert len(fits) == 14 + 2
    for ours, theirs in zip(by_config(output), by_config(finished), strict=True):
        assert ours["epochs"] == theirs["epochs"]


def test_another_plan_is_refused(options, finished):
    with pytest.raises(UsageError, match=r"holds runs of another plan: .* trials 5"):
        printed(sweep, replace(options, trials=5), finished)

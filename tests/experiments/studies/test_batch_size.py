"""The command `batch-size`: equal trials, extended rates, resumption and refusals."""

import json

import numpy as np
import pytest
from support.small_studies import interrupted

from experiments.records.config import significant
from experiments.studies.batch_size.options import BatchSize
from experiments.studies.batch_size.plan import BUDGETS
from experiments.studies.batch_size.study import batch_size
from experiments.studies.options import TUNING_SEED
from experiments.studies.validation import best, diverged, of_classes

pytestmark = pytest.mark.usefixtures("small_network")

SMALL = BatchSize(
    epochs=2,
    seeds=3,
    batch_sizes=(16, 64, 8),
    effective_rates=(0.3, 0.1),
    beta=0.8,
    tuning_seeds=2,
)


@pytest.fixture(scope="module")
def finished(small_network, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "default", BUDGETS["default"]._replace(extensions=2))
        return interrupted(batch_size, SMALL, tmp_path_factory.mktemp("small"), fit=4)


def tried(finished) -> dict:
    """The tuning runs by batch size, beta and effective rate."""
    trials = {}
    for one in finished.runs:
        c = one.config
        if not c.test:
            rate = significant(c.learning_rate / (1 - c.beta), 4)
            by_rate = trials.setdefault((c.batch_size, c.beta), {})
            by_rate.setdefault(rate, []).append(one)
    return trials


def test_every_optimizer_of_a_batch_size_has_equal_trials(finished):
    trials = tried(finished)
    held = {8: round(0.8 ** (8 / 64), 6), 16: round(0.8 ** (16 / 64), 6)}
    betas = {(size, beta) for size in (8, 16) for beta in (0.0, 0.8, held[size])}
    assert set(trials) == betas
    for size in (8, 16):
        rates = [set(trials[size, beta]) for beta in (0.0, 0.8, held[size])]
        assert rates[0] == rates[1] == rates[2] > {0.1, 0.3}
    for by_rate in trials.values():
        for runs_at_rate in by_rate.values():
            seeds = [one.config.seed for one in runs_at_rate]
            assert seeds == [TUNING_SEED, TUNING_SEED + 1]


def test_rates_are_extended_until_the_best_is_inside_or_as_often_as_allowed(finished):
    trials = tried(finished)
    for size in (8, 16):
        optimizers = [tried for key, tried in trials.items() if key[0] == size]
        rates = sorted(optimizers[0])
        below, above = rates.index(0.1), len(rates) - 1 - rates.index(0.3)
        assert max(below, above) <= 2
        chosen = {best(tried, of_classes(3)) for tried in optimizers}
        assert below == 2 or rates[0] not in chosen
        assert above == 2 or rates[-1] not in chosen


def test_best_rate_of_each_optimizer_is_compared_on_seeds_that_no_tuning_used(finished):
    tested = [one.config for one in finished.runs if one.config.test]
    assert len(tested) == 2 * 3 * 3
    for (size, beta), by_rate in tried(finished).items():
        of_arm = [c for c in tested if (c.batch_size, c.beta) == (size, beta)]
        assert [c.seed for c in of_arm] == [0, 1, 2]
        rates = {significant(c.learning_rate / (1 - c.beta), 4) for c in of_arm}
        assert rates == {best(by_rate, of_classes(3))}
    for one in finished.runs:
        assert np.isnan(one.test_metric) != one.config.test


def test_batch_sizes_larger_than_the_training_set_are_left_out_and_reported(finished):
    assert "Left out, as there are fewer training images: 64." in finished.printed
    text = (finished.output / "report.html").read_text()
    assert "Left out, as there are fewer training images: 64." in text


def test_interrupted_study_resumes_and_repeats_nothing(finished):
    kept = len(finished.before.splitlines())
    assert kept == 6
    assert "6 finished runs of this plan are kept." in finished.printed
    assert finished.after.startswith(finished.before)
    assert finished.again == finished.after
    configs = [one.config for one in finished.runs]
    assert len(set(configs)) == len(configs)


def test_numbers_on_the_page_are_those_of_the_records(finished):
    summary = json.loads((finished.output / "summary.json").read_text())
    tables = {
        figure["name"]: figure["table"]
        for section in summary["sections"]
        for figure in section["figures"]
    }
    assert list(tables) == ["accuracy", "gain", "best-rate", "speed"]

    def accuracies(size, beta):
        tested = (one for one in finished.runs if one.config.test)
        return np.array(
            [
                0.0 if diverged(one, of_classes(3)) else one.test_metric
                for one in tested
                if (one.config.batch_size, one.config.beta) == (size, beta)
            ]
        )

    gains = {(row[0], row[1]): row[2] for row in tables["gain"]["rows"]}
    for size in (8, 16):
        gain = (accuracies(size, 0.8) - accuracies(size, 0.0)).mean()
        assert gains[size, "Equal beta"] == pytest.approx(gain)
    assert summary["plan"]["batch_sizes"] == [16, 64, 8]
    for name in tables:
        assert (finished.output / "figures" / f"{name}.png").exists()

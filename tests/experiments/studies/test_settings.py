"""Learning rates of settings, and rates beyond the ends of those tried."""

from dataclasses import replace

import pytest

from experiments.records.config import Config
from experiments.studies.lr_decay.options import BUDGETS
from experiments.studies.lr_decay.plan import LrDecayCell
from experiments.studies.lr_decay.study import _config
from experiments.studies.settings import Setting, configured, extended
from experiments.studies.sweep import plan as sweep_plan
from experiments.studies.sweep.space import Trial

BASE = Config("digits", "0", "", 0.0, 0.0, 64, 3, 7, test=False)
RATES = (0.13, 0.26, 0.52)


def test_every_study_rounds_a_learning_rate_to_six_digits():
    rate, beta = 0.1 / 3, 0.87654321
    expected = 0.00411523  # of 0.004115226333…
    assert configured(BASE, Setting(beta, rate)).learning_rate == expected
    trial = Trial("momentum", rate, 1 - beta, 64)
    assert sweep_plan.configured(BASE, trial).learning_rate == expected
    budget = BUDGETS["default"]._replace(beta=beta)
    cell = LrDecayCell("step", "outside", rate)
    assert _config(BASE, budget, cell).learning_rate == expected
    sgd = cell._replace(arm="sgd")
    assert _config(BASE, budget, sgd).learning_rate == 0.0333333


@pytest.mark.parametrize(
    ("best", "wider"),
    [
        ([0.2, 0.2], (0.1, 0.2, 0.6)),
        ([0.1, 0.2], (0.05, 0.1, 0.2, 0.6)),
        ([0.2, 0.6], (0.1, 0.2, 0.6, 1.8)),
        ([0.6, 0.1, 0.2], (0.05, 0.1, 0.2, 0.6, 1.8)),
    ],
)
def test_rates_are_extended_beyond_an_end_that_is_best_for_one_method(best, wider):
    assert extended((0.1, 0.2, 0.6), best) == wider
    assert extended((0.1, 0.2, 0.6), best, digits=4) == wider


def test_extended_rates_have_as_many_digits_as_requested():
    assert extended((0.1, 0.3), [0.1], digits=4) == (0.03333, 0.1, 0.3)
    assert extended((0.1, 0.3), [0.1])[0] == pytest.approx(0.1 / 3, rel=1e-14)


def test_new_rate_has_the_ratio_of_its_neighbors():
    assert extended(RATES, [0.26]) == RATES
    assert extended(RATES, [0.26, 0.13]) == (0.065, *RATES)
    assert extended(RATES, [0.13, 0.52]) == (0.065, *RATES, 1.04)
    assert extended((0.1, 0.2, 0.8), [0.8]) == (0.1, 0.2, 0.8, 3.2)


def test_config_of_beta_zero_is_that_of_sgd():
    sgd = configured(BASE, Setting(0.0, 0.37))
    assert (sgd.arm, sgd.beta, sgd.learning_rate) == ("sgd", 0.0, 0.37)
    momentum = configured(BASE, Setting(0.98, 0.5))
    assert (momentum.arm, momentum.beta) == ("momentum", 0.98)
    assert momentum.learning_rate == 0.01
    assert replace(momentum, arm="sgd", beta=0.0, learning_rate=0.37) == sgd

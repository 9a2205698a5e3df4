"""Settings on the tuning axes, and the configs made of them."""

from dataclasses import replace

from support.synthetic import synthetic_run

from experiments.studies.settings import Setting, configured, learning_rate


def test_learning_rate_is_the_effective_one_times_one_minus_beta():
    assert learning_rate(Setting(0.98, 0.5)) == 0.01
    assert learning_rate(Setting(0.0, 0.37)) == 0.37


def test_config_of_beta_zero_is_that_of_sgd():
    base = synthetic_run().config
    sgd = configured(base, Setting(0.0, 0.3))
    assert (sgd.arm, sgd.beta, sgd.learning_rate) == ("sgd", 0.0, 0.3)
    momentum = configured(base, Setting(0.95, 0.3))
    assert (momentum.arm, momentum.beta) == ("momentum", 0.95)
    assert momentum.learning_rate == 0.015
    assert replace(momentum, arm="sgd", beta=0.0, learning_rate=0.3) == sgd

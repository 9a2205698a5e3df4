"""The plan of a sweep: equal budgets, extensions of its space, impossible options."""

import pytest
from support.usage_errors import usage_error

from experiments.records.config import Config
from experiments.studies.methods import METHODS
from experiments.studies.sweep import plan
from experiments.studies.sweep.options import BUDGETS, Sweep, SweepBudget, check
from experiments.studies.sweep.plan import first_round
from experiments.studies.sweep.space import Axis, Side, Trial

BUDGET = BUDGETS["default"]._replace(
    epochs=3,
    seeds=4,
    methods=("sgd", "momentum", "qhm"),
    batch_sizes=(16, 48),
    effective_rate=(0.02, 2.0),
    one_minus_beta=(0.004, 0.5),
    extensions=2,
)
INSIDE = Trial("sgd", 0.2, 1.0, 16)


def at(rate: float, other: float, method: str = "momentum") -> Trial:
    return Trial(method, rate, other, 16)


@pytest.mark.parametrize("sampler", ["sobol", "grid"])
def test_every_method_has_equally_many_trials_before_and_after_an_extension(sampler):
    budget = BUDGET._replace(sampler=sampler)
    rounds = [first_round(budget)]
    for expected, best in ((48, at(1.9, 0.05)), (72, at(0.2, 0.0045))):
        planned = plan.trials(budget, rounds)
        assert len(set(planned)) == len(planned)
        for method in budget.methods:
            for size in budget.batch_sizes:
                key = method, size
                tried = [t for t in planned if (t.method, t.batch_size) == key]
                assert len(tried) == expected / 2
        following = plan.next_round(budget, rounds, {"sgd": INSIDE, "momentum": best})
        assert following is not None
        rounds.append(following)
    counts = [len(each.points.line) for each in rounds]
    assert counts == [24, 12, 18]  # the last strip is longer: it spans the grown axis


def test_space_grows_on_the_side_that_most_methods_want():
    rounds = [first_round(BUDGET)]
    best = {
        "sgd": Trial("sgd", 0.025, 1.0, 16),
        "momentum": at(0.2, 0.0041),
        "qhm": at(0.025, 0.05, "qhm"),
    }
    following = plan.next_round(BUDGET, rounds, best)
    assert following is not None
    assert following.side == Side("effective_rate", high=False)
    assert following.wanted_by == ("sgd", "qhm")
    assert following.space.effective_rate == (0.002, 2.0)
    assert following.box.effective_rate == (0.002, 0.02)


def test_sweep_ends_when_the_best_trials_lie_inside():
    assert plan.next_round(BUDGET, [first_round(BUDGET)], {"sgd": INSIDE}) is None


def test_sweep_ends_after_its_extensions():
    rounds, low = [first_round(BUDGET)], 0.02
    for _ in range(BUDGET.extensions):
        best = {"sgd": Trial("sgd", 1.01 * low, 1.0, 16)}
        following = plan.next_round(BUDGET, rounds, best)
        assert following is not None
        rounds.append(following)
        low = following.space.effective_rate.low
    best = {"sgd": Trial("sgd", 1.01 * low, 1.0, 16)}
    assert plan.next_round(BUDGET, rounds, best) is None


def test_space_never_grows_beyond_beta_zero():
    budget = BUDGET._replace(one_minus_beta=(0.004, 1.0))
    best = {"momentum": at(0.2, 0.95)}
    assert plan.next_round(budget, [first_round(budget)], best) is None


def test_config_has_the_learning_rate_of_its_method():
    base = Config("digits", "0", "", 0.0, 0.0, 64, 3, 7, test=False)
    inside = plan.configured(base, Trial("momentum", 0.3, 0.07, 48))
    assert (inside.arm, inside.learning_rate, inside.beta) == ("momentum", 0.021, 0.93)
    assert (inside.batch_size, inside.seed, inside.test) == (48, 7, False)
    averaged = plan.configured(base, Trial("qhm", 0.3, 0.07, 48))
    assert averaged.learning_rate == 0.3
    plain = plan.configured(base, Trial("sgd", 0.3, 1.0, 16))
    assert (plain.learning_rate, plain.beta) == (0.3, 0.0)


@pytest.mark.parametrize("preset", BUDGETS)
def test_presets_are_possible(preset):
    budget = BUDGETS[preset]
    check(budget)
    check(budget._replace(sampler="sobol"))
    assert first_round(budget).space == (
        Axis(*budget.effective_rate),
        Axis(*budget.one_minus_beta),
    )


@pytest.mark.parametrize(
    ("preset", "least", "most"),
    [("smoke", 16, 22), ("default", 102, 138), ("paper", 222, 462)],
)
def test_presets_have_as_many_runs_as_the_help_says(preset, least, most):
    assert Sweep.__doc__ is not None
    for count in (least, most):
        assert f" {count} " in Sweep.__doc__.replace("\n", " ")
    budget = BUDGETS[preset]
    rounds = [first_round(budget)]
    assert runs(budget, rounds) == least
    # The second strip is the longer, where it spans the axis that has grown.
    for rate, other in ((0.5, 0.001), (0.001, 0.5)):
        space = rounds[-1].space
        place = space.effective_rate.at(rate), space.one_minus_beta.at(other)
        following = plan.next_round(budget, rounds, {"momentum": at(*place)})
        if following is not None:
            rounds.append(following)
    assert len(rounds) == 1 + budget.extensions
    assert runs(budget, rounds) == most


def runs(budget: SweepBudget, rounds: list[plan.Round]) -> int:
    """The number of runs of a sweep."""
    final = budget.seeds * len(budget.methods)
    return len(plan.trials(budget, rounds)) * budget.tuning_seeds + final


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("methods", (), "is empty; name values, such as --methods sgd momentum."),
        ("methods", ("sgd", "qhm", "sgd"), "names sgd twice; name each value once."),
        (
            "methods",
            ("sgd", "adam"),
            f"has no 'adam'; choose from {', '.join(METHODS)}.",
        ),
        ("methods", ("momentum",), "lacks sgd, with which the others are compared."),
        ("batch_sizes", (), "is empty; name values, such as --batch-sizes 64 512."),
        ("batch_sizes", (16, 16), "names 16 twice; name each value once."),
        ("batch_sizes", (16, 0), "must be at least 1, got 0: the images of a step."),
        (
            "effective_rate",
            (2.0, 0.02),
            "must be LOW HIGH with 1e-06 <= LOW < HIGH <= 10000, got 2.0 0.02.",
        ),
        (
            "one_minus_beta",
            (0.5, 1.5),
            "must be LOW HIGH with 0.0001 <= LOW < HIGH <= 1, got 0.5 1.5.",
        ),
        (
            "one_minus_beta",
            (float("nan"), 0.5),
            "must be LOW HIGH with 0.0001 <= LOW < HIGH <= 1, got nan 0.5.",
        ),
        (
            "trials",
            0,
            "must be at least 1, got 0: those of each method and batch size.",
        ),
        ("tuning_seeds", 0, "must be at least 1, got 0: the runs of each trial."),
        (
            "extensions",
            -1,
            "must be at least 0, got -1: how many times the values to try may be "
            "extended.",
        ),
    ],
)
def test_impossible_budgets_are_refused_in_one_line(name, value, message):
    option = f"--{name.replace('_', '-')} "
    assert usage_error(option, check, BUDGET._replace(**{name: value})) == message


def test_grids_that_the_trials_do_not_fill_are_refused_in_one_line():
    budget = BUDGET._replace(sampler="grid", trials=10)
    assert usage_error("--trials 10 do not fill a grid, ", check, budget) == (
        "whose sides must be even and at least 4: give --trials 16, or --sampler sobol."
    )

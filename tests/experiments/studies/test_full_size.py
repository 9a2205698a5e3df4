"""What a study costs at full size, and that its command keeps what is the user's."""

from dataclasses import replace

import pytest
from support.synthetic import synthetic_comparison

from experiments.compare import study as comparison
from experiments.compare.study import Compare
from experiments.studies.batch_size import study as batch_size
from experiments.studies.claims import study as claims
from experiments.studies.crossval import study as crossval
from experiments.studies.full_size import Work, full_size
from experiments.studies.lr_decay import study as lr_decay
from experiments.studies.sweep import study as sweep
from experiments.studies.tune import study as tune
from experiments.studies.tune.study import Tune


@pytest.mark.parametrize(
    ("study", "runs", "epochs"),
    [
        # 3 methods, 2 batch sizes, 32 trials; 10 seeds each.
        (sweep, 3 * 2 * 32 + 3 * 10, 222 * 10),
        # SGD and 7 betas at 4 rates on 5 folds; 10 seeds of 2.
        (crossval, 8 * 4 * 5 + 20, 180 * 10),
        # 8 batch sizes, 3 optimizers, 5 rates on 2 seeds; 10 seeds.
        (batch_size, 8 * 3 * (5 * 2 + 10), 480 * 10),
        # 5 schedules, 3 methods, 5 rates on 3 seeds; 10 seeds of 4.
        (lr_decay, 5 * (3 * 5 * 3 + 4 * 10), 425 * 30),
        # 96 screened for 5 epochs; 2 methods with 3 finalists, 4 sizes, 5 schedules and
        # 2 rates on 2 seeds, and with 10 final seeds, for 30 epochs.
        (tune, 96 + 2 * (62 * 2 + 10), 96 * 5 + 268 * 30),
        # 18 trials of each of 2 methods on 2 seeds and 10 seeds, for 10 epochs; 4 walks
        # with 10 seeds for 2.
        (claims, 36 * 2 + 20 + 40, 92 * 10 + 40 * 2),
    ],
)
def test_work_is_that_of_the_preset(study, runs, epochs):
    assert study.work(study.BUDGETS["paper"]) == Work(runs, epochs)


def test_command_keeps_the_users_own_and_leaves_the_amounts_to_the_preset():
    options = Tune(
        preset="smoke",
        dataset="my photos.npz",
        model="net.py:make",
        epochs=1,
        seeds=2,
        trials=3,
        batch_sizes=(8, 16),
    )
    # 3 runs of 3 epochs took 36.75 s: an epoch takes 4.08 s, and 9,000 of them 10.2 h.
    ran = synthetic_comparison({"sgd": [0.5, 0.6, 0.7]})
    cost, command = full_size("tune", options, Work(370, 9_000), ran)
    assert command == (
        "python -m experiments tune --preset paper --dataset 'my photos.npz' --model "
        "net.py:make --batch-sizes 8 16"
    )
    assert cost == ("at least 370 runs, about 10 hours at the speed of the runs so far")


def test_cost_on_the_data_of_the_preset_is_that_of_its_own_network():
    cost, command = full_size("compare", Compare(), Work(40, 400), [])
    assert command == "python -m experiments compare --preset paper"
    assert cost == "at least 40 runs, about 35 minutes on two CPU cores"  # 400 · 5.2 s
    unknown = full_size("compare", Compare(model="net.py:make"), Work(1, 400), [])
    assert unknown.cost == "at least 1 run"
    own = full_size("compare", Compare(problem="net.py:make"), Work(1, 400), [])
    assert own.cost == "at least 1 run"  # not that of CIFAR-10
    assert own.command.endswith("--preset paper --problem net.py:make")
    assert comparison._work(Compare(seeds=3)) == Work(40, 400)
    assert comparison._work(replace(Compare(), arms="storage")) == Work(30, 300)

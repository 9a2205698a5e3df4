"""Impossible options of every study are refused, with what message."""

import math
from dataclasses import replace

import pytest
from support import small_images
from support.small_studies import printed
from support.usage_errors import usage_error

from experiments.studies.batch_size.options import BatchSize
from experiments.studies.batch_size.study import batch_size
from experiments.studies.crossval.options import Crossval
from experiments.studies.crossval.study import crossval
from experiments.studies.lr_decay.options import LrDecay
from experiments.studies.lr_decay.study import lr_decay
from experiments.studies.sweep.options import Sweep
from experiments.studies.sweep.study import sweep
from experiments.studies.tune.options import Tune
from experiments.studies.tune.study import tune

pytestmark = pytest.mark.usefixtures("small_network")

FEW_FOLDS = Crossval(folds=3, nested=2, batch_size=16)
STUDIES = [
    (
        batch_size,
        BatchSize(),
        [
            ("batch_sizes", (), " is empty; name values, such as --batch-s"),
            ("batch_sizes", (8, 9, 8), " names 8 twice; name each value once."),
            ("batch_sizes", (8, 0), " must be at least 1, got 0: the images"),
            (
                "batch_sizes",
                (300, 58),
                ": even the smallest, 58, is more than the 57 training images",
            ),
            ("effective_rates", (0.1,), " names 0.1 alone; name at le"),
            ("effective_rates", (0.1, -1.0), " must lie in [1e"),
            ("beta", 0.0, " must lie in [0.001, 0.999], got 0.0; 0.9 is the"),
            ("beta", 1.0, " must lie in [0.001, 0.999], got 1.0"),
            ("beta", math.nan, " must lie in [0.001, 0.999], got nan"),
            ("tuning_seeds", 0, " must be at least 1, got 0"),
            ("epochs", 0, " must be at least 1, got 0"),
        ],
    ),
    (
        crossval,
        FEW_FOLDS,
        [
            ("folds", 1, " must be at least 2, got 1"),
            ("folds", 73, " 73 is more than the 72 training images"),
            ("folds", 25, " 25 needs 25 training images of every class, but class"),
            ("nested", 1, " must be at least 2, got 1"),
            ("betas", (), " is empty"),
            ("betas", (0.9, 0.9), " names 0.9 twice"),
            ("betas", (1.0,), " must lie in [0, 0.9999999], got 1.0"),
            ("effective_rates", (0.0,), " must lie in [1e-30"),
            ("batch_size", 0, " must be at least 1, got 0"),
            ("batch_size", 25, " 25 is larger than the 24 images that fold 1"),
            ("seeds", 0, " must be at least 1, got 0"),
        ],
    ),
    (
        crossval,
        replace(FEW_FOLDS, folds=20),
        [("nested", 24, " 24 needs 24 training images of every class")],
    ),
    (
        lr_decay,
        LrDecay(preset="smoke"),
        [
            (
                "schedules",
                ("step", "triangle"),
                " has no 'triangle'; choose from constant, step, cosine, "
                "warmup_cosine, one_cycle.",
            ),
            ("schedules", (), " is empty; name values, such as --s"),
            ("schedules", ("step", "step"), " names step twice"),
            (
                "effective_rates",
                (0.3,),
                " names 0.3 alone; name at least two: if the first or the last is the "
                "best, more follow beyond it.",
            ),
            ("effective_rates", (0.3, -1.0), " must lie in "),
            ("beta", 1.0, " must lie in [0, 0.9999999], got 1.0"),
            ("batch_size", 0, " must be at least 1, got 0"),
            ("tuning_seeds", 0, " must be at least 1, got 0"),
            ("extensions", -1, " must be at least 0, got -1"),
        ],
    ),
    (sweep, Sweep(preset="smoke"), [("methods", ("sgd", "adam"), " has no 'adam'")]),
    (
        tune,
        Tune(preset="smoke"),
        [
            ("schedules", ("cosine", "wave"), " has no 'wave'; choose from "),
            ("schedules", (), " is empty; name values, such as --sche"),
            ("effective_rate", (0.1, 0.1), " must be LOW HIGH with"),
            ("batch_sizes", (), " is empty; name values, such as"),
            ("batch_sizes", (8, 8), " names 8 twice; name each value"),
            ("trials", 0, " must be at least 1, got 0"),
            ("batch_sizes", (0,), " must be at least 1, got 0"),
            ("tuning_seeds", 0, " must be at least 1, got 0"),
            ("seeds", 0, " must be at least 1, got 0"),
        ],
    ),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return str(small_images.write(tmp_path_factory.mktemp("small") / "data.npz"))


@pytest.mark.parametrize(
    ("study", "options", "name", "value", "message"),
    [(study, base, *case) for study, base, cases in STUDIES for case in cases],
)
def test_impossible_options_are_refused_before_a_directory_is_made(
    dataset, tmp_path, study, options, name, value, message
):
    options = replace(options, dataset=dataset, **{name: value})
    option, output = f"--{name.replace('_', '-')}", tmp_path / "new"
    assert message in usage_error(option, printed, study, options, output)
    assert not output.exists()

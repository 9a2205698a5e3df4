"""Options that name what is trained: one source, and options of that source alone."""

from pathlib import Path

import pytest
from support.usage_errors import usage_error

from experiments.compare.options import Compare


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"table": "wine", "problem": "a.py:f"},
            "--problem and --table exclude each other; give one.",
        ),
        (
            {"table": "wine", "augment": "crop-flip"},
            "--augment applies to images, and --table brings other examples; omit one "
            "of the two.",
        ),
        (
            {"text": Path("a"), "model": "m.py:f"},
            "--model applies to images, and --text",
        ),
        (
            {"problem": "a.py:f", "dataset": "digits"},
            "--dataset applies to images, and",
        ),
        ({"target": "price"}, "--target applies to a table; give --table FILE.csv too"),
        ({"impute": True}, "--impute applies to a table; give --table FILE.csv too"),
        ({"problem": "a.py"}, "--problem a.py: name a file and a function in it"),
        ({"label_smoothing": 1.0}, "--label-smoothing must lie in [0, 1), got 1.0"),
        ({"weight_decay": -1e-4}, "--weight-decay must be at least 0 and finite, got"),
        (
            {"weight_decay": float("nan")},
            "--weight-decay must be at least 0 and finite",
        ),
        ({"decay_kernels_only": True}, "--decay-kernels-only says which parameters"),
        (
            {"arms": "a.py:f", "schedule": "cosine"},
            "--schedule cosine applies to the built-in optimizers: omit it, and build",
        ),
    ],
)
def test_options_that_do_not_belong_together_are_refused(options, message):
    assert usage_error("", Compare(**options).check).startswith(message)


def test_options_that_belong_together_are_accepted():
    Compare(table="t.csv", target="price", impute=True, weight_decay=0.1).check()
    Compare(augment="crop-flip", label_smoothing=0.1, schedule="cosine").check()

"""Lists of values on the command line: which are refused, with what message."""

import math
import re

import pytest

from experiments.records.config import UsageError
from experiments.studies.value_lists import check_betas, check_different, check_rates


def test_lists_of_different_possible_values_are_accepted():
    check_betas((0, 0.5, 0.9, 0.99, 0.9999))
    check_rates((1e-3, 20.0))
    check_different("--batch-sizes", (16, 1 << 20), "64 512")


@pytest.mark.parametrize(
    ("check", "values", "message"),
    [
        (check_betas, (), "--betas is empty; name values, such as --betas 0.9 0.99."),
        (check_betas, (0.9, 0.5, 0.9), "--betas names 0.9 twice; name each value once"),
        (
            check_betas,
            (0.9, 0.900000001),
            "--betas names 0.9 twice, as 0.900000001; name",
        ),
        (check_betas, (0.9, 1.0), "--betas must lie in [0, 0.9999999], got 1.0; 0.9"),
        (check_betas, (0.99999998,), "--betas must lie in [0, 0.9999999], got 0.99999"),
        (check_betas, (-0.1,), "--betas must lie in [0, 0.9999999], got -0.1"),
        (check_betas, (math.nan,), "--betas must lie in [0, 0.9999999], got nan"),
        (check_rates, (), "--effective-rates is empty; name values, such as"),
        (check_rates, (0.1, 0.1), "--effective-rates names 0.1 twice"),
        (check_rates, (0.0,), "--effective-rates must lie in [1e-30, 1e+30], got 0.0"),
        (check_rates, (1e-60,), "must lie in [1e-30, 1e+30], got 1e-60"),
        (check_rates, (math.inf,), "must lie in [1e-30, 1e+30], got inf"),
    ],
)
def test_impossible_lists_are_refused_in_one_line(check, values, message):
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        check(values)
    assert "\n" not in str(error.value)

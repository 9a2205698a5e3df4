"""Runs Optax's own tests with transformations of this library in place of Optax's.

    uv run --with absl-py python tests/library/parity/campaign_optax.py CHECKOUT

CHECKOUT is a directory that holds the package `optax` with its tests: a checkout of its
repository, or site-packages, where the wheel has them too. Prints the counts as a table
for docs/conformance.md. Exits with 1 if a test fails that `EXPECTED` does not name.
"""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

# Every file that tests `trace`, `ema` or `sgd`, or wraps one of them.
FILES = {
    "trace, ema, MultiSteps": "transforms/_accumulation_test.py",
    "chain, partition": "transforms/_combining_test.py",
    "apply_if_finite, conditionally": "transforms/_conditionality_test.py",
    "keep_params_nonnegative": "transforms/_constraining_test.py",
    "freeze, selective_transform": "transforms/_freezing_test.py",
    "flatten": "transforms/_layouts_test.py",
    "masked": "transforms/_masking_test.py",
    "monitor": "transforms/_monitoring_test.py",
    "sgd": "_src/alias_test.py",
    "transforms": "_src/transform_test.py",
    "named_chain": "_src/combine_test.py",
    "float64": "_src/float64_test.py",
    "inject_hyperparams": "schedules/_inject_test.py",
    "tree": "tree_utils/_state_utils_test.py",
    "contrib": "contrib/_common_test.py",
    "contrib, schedule_free": "contrib/_schedule_free_test.py",
}
# These files are mostly about other optimizers.
ONLY = {"_src/alias_test.py": "sgd", "_src/float64_test.py": "sgd"}

EXPECTED: dict[str, str] = {}


def substitute() -> None:
    """Replaces `trace`, `ema` and `sgd` wherever Optax and its tests look them up."""
    import jax.numpy as jnp
    import optax
    from optax import transforms
    from optax._src import alias, transform
    from optax.transforms import _accumulation

    import optax_momentum as om

    def storage_of(accumulator_dtype: Any) -> Any:
        narrow = {jnp.dtype(jnp.bfloat16): om.storage.bfloat16()}
        if accumulator_dtype is None:
            return None
        return narrow.get(jnp.dtype(accumulator_dtype), om.storage.float32())

    def trace(decay, nesterov=False, accumulator_dtype=None):
        kept = storage_of(accumulator_dtype)
        return om.heavy_ball(decay, nesterov=nesterov, storage=kept)

    def ema(decay, debias=True, accumulator_dtype=None):
        return om.ema(decay, debias=debias, storage=storage_of(accumulator_dtype))

    def sgd(learning_rate, momentum=None, nesterov=False, accumulator_dtype=None):
        kept = storage_of(accumulator_dtype)
        return om.sgd(learning_rate, momentum, nesterov=nesterov, storage=kept)

    for module in (optax, transforms, transform, _accumulation, alias):
        for ours in (trace, ema, sgd):
            if hasattr(module, ours.__name__):
                setattr(module, ours.__name__, ours)


class Tally:
    """A plugin of pytest that counts outcomes, and keeps the names of failures."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.failed:
            name = report.nodeid.split("::", 1)[1]
            self.failed[name] = str(report.longrepr).strip().splitlines()[-1]


def main(checkout: Path) -> int:
    sys.path.insert(0, str(checkout))
    substitute()
    import optax

    print(f"Optax {optax.__version__} of {Path(optax.__file__).parents[1]}\n")
    rows, unexpected = [], {}
    options = ["-q", "--tb=short", "-c/dev/null", "-pno:cacheprovider", "-pno:xdist"]
    for subject, name in FILES.items():
        tally = Tally()
        path = f"{checkout / 'optax' / name}"
        only = ["-k", ONLY[name]] if name in ONLY else []
        pytest.main([path, *options, *only], plugins=[tally])
        reasons = {test: reason_of(f"{name}::{test}") for test in tally.failed}
        unexpected |= {
            t: tally.failed[t] for t, reason in reasons.items() if not reason
        }
        rows.append(
            f"| {subject} | `{name}` | {tally.counts['passed']} "
            f"| {sum(map(bool, reasons.values()))} |"
        )
    print("\n| Subject | Optax's file | pass | expected failures |\n|---|---|---|---|")
    print("\n".join(rows))
    for test, error in unexpected.items():
        print(f"UNEXPECTED: {test}: {error}")
    return bool(unexpected)


def reason_of(test: str) -> str | None:
    """Why a test is expected to fail, or None."""
    return next((EXPECTED[known] for known in EXPECTED if re.search(known, test)), None)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))

"""Runs Optax's own tests with transformations of this library in place of Optax's.

    uv run --with absl-py python tests/library/parity/campaign_optax.py CHECKOUT

CHECKOUT is a directory that holds the package `optax` with its tests: a checkout of its
repository, or site-packages, where the wheel has them too. Words after it choose the
files whose names contain one. Prints the counts as a table for docs/conformance.md.
Exits with 1 if a test fails that `EXPECTED` does not name.
"""

import sys
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
# These files run every test for every optimizer; only these have parameters that name
# `sgd`.
ABOUT_SGD = (
    "_src/alias_test.py",
    "_src/float64_test.py",
    "contrib/_common_test.py",
)

# A part of a test's path → why it can't pass with this library.
EXPECTED = {
    "test_ema_debias": "reads the field `ema` of Optax's state",
    "test_masked_state_structure": "reads the field `trace` of Optax's state",
    "test_labels_mismatch": "β = 1, which `heavy_ball` refuses",
    "test_bad_structure_raises": "JAX's words, with Optax's own `sgd` too",
    "test_selective_bad_structure": "JAX's words, with Optax's own `sgd` too",
}


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
    """A plugin of pytest that chooses tests, counts them, and keeps failures."""

    def __init__(self, word: str) -> None:
        self.word = word  # what the parameters of a test must contain
        self.passed = 0
        self.failed: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        def parameters(item: Any) -> str:
            return getattr(item.obj, "__x_params_repr__", "")  # absl's

        items[:] = [item for item in items if self.word in parameters(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = type(report) is pytest.TestReport  # not one of its subtests
        self.passed += test and report.when == "call" and report.passed
        if report.failed:
            name = report.nodeid.split("::", 1)[1]
            self.failed[name] = str(report.longrepr).strip().splitlines()[-1]


def main(checkout: Path, words: list[str]) -> int:
    sys.path.insert(0, str(checkout))
    substitute()
    import optax

    print(f"Optax {optax.__version__} of {Path(optax.__file__).parents[1]}")
    options = ["-q", "--tb=short", "-c/dev/null", "-pno:cacheprovider", "-pno:xdist"]
    unexpected = False
    rows = [
        "| Subject | Optax's file | pass | expected failures |",
        "|---|---|---|---|",
    ]
    for subject, name in FILES.items():
        if words and not any(word in name for word in words):
            continue
        tally = Tally("sgd" if name in ABOUT_SGD else "")
        pytest.main([str(checkout / "optax" / name), *options], plugins=[tally])
        expected = 0
        for test, error in tally.failed.items():
            reason = next(
                (EXPECTED[known] for known in EXPECTED if known in test), None
            )
            print(
                f"{'expected: ' + reason if reason else 'UNEXPECTED'}: {test}: {error}"
            )
            expected += reason is not None
            unexpected |= reason is None
        rows.append(f"| {subject} | `{name}` | {tally.passed} | {expected} |")
        print(rows[-1], flush=True)
    print("", *rows, sep="\n")
    return unexpected


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))

"""Who may import whom: the library stands on public JAX and Optax alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "optax_momentum").rglob("*.py"))
JAX_FREE = ["config", "event_files", "index", "page_html", "plots", "report"]
JAX_FREE += ["runs", "statistics"]


def imported(path: Path) -> set[str]:
    """The dotted names of all modules that a file imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_library_imports_public_jax_and_optax_only(path):
    allowed = {"jax", "optax", "numpy", "optax_momentum"}
    allowed |= {"collections", "functools", "math", "typing", "warnings", "zlib"}
    for name in imported(path):
        assert name.split(".")[0] in allowed
        assert "_src" not in name


@pytest.mark.parametrize("name", JAX_FREE)
def test_records_and_reports_need_no_jax(name):
    heavy = ("jax", "optax", "flax", "experiments.train", "experiments.model")
    pending, seen = [name], set()
    while pending:
        path = ROOT / "experiments" / f"{pending.pop()}.py"
        seen.add(path.stem)
        for module in imported(path):
            assert not module.startswith(heavy)
            parts = module.split(".")
            if parts[0] == "experiments" and parts[1] not in seen:
                pending.append(parts[1])


def test_oracles_share_no_code_with_what_they_judge():
    names = imported(ROOT / "tests" / "reference.py")
    assert {name.split(".")[0] for name in names} == {"numpy"}

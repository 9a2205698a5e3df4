"""Imports point one way: between the rooms of `experiments`, and out of the library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import optax_momentum

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "optax_momentum").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
# No room imports from one that follows it.
ORDER = [
    "records",
    "user_code",
    "porting",
    "distributed",
    "data",
    "reporting",
    "networks",
]
ORDER += ["optimizers", "problems", "training", "peers", "studies", "compare"]
ORDER += ["speedrun", "bench", "conformance", "__main__"]
# Whoever reads records or draws pages starts without JAX.
WITHOUT_JAX = [
    *("records.config", "records.runs", "records.plan"),
    *("reporting.page", "reporting.html", "reporting.drawing", "reporting.statistics"),
    *("reporting.index", "reporting.tensorboard"),
]
# Not by prefix: jaxtyping annotates NumPy arrays without importing JAX.
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}


def imported(path: Path) -> set[str]:
    """The dotted names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> int:
    """The place of a dotted name of `experiments` in the order."""
    return ORDER.index(name.split(".")[1])


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_library_imports_public_jax_and_optax_only(path):
    allowed = {"jax", "optax", "numpy", "optax_momentum"}
    allowed |= {
        "collections",
        "functools",
        "itertools",
        "math",
        "typing",
        "warnings",
        "zlib",
    }
    for name in imported(path):
        assert name.split(".")[0] in allowed
        assert "_src" not in name


def test_importing_the_library_imports_its_public_modules():
    """`import optax_momentum` is enough to use `optax_momentum.diagnostics`."""
    paths = (ROOT / "optax_momentum").iterdir()
    public = {path.stem for path in paths if path.suffix in ("", ".py")}
    public = {name for name in public if not name.startswith("_")}
    names = imported(ROOT / "optax_momentum" / "__init__.py")
    assert {f"optax_momentum.{name}" for name in public} <= names
    assert public <= set(optax_momentum.__all__) <= set(dir(optax_momentum))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_rooms_import_only_from_earlier_rooms(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[1:] == ("__init__",):
        return
    for name in imported(path):
        if name.startswith("experiments."):
            assert room(name) <= room(".".join(parts)), name


def test_few_files_lie_outside_the_rooms():
    assert len(list((ROOT / "experiments").glob("*.py"))) <= 4
    assert len(list((ROOT / "tests").glob("*.py"))) <= 2


@pytest.mark.parametrize("name", WITHOUT_JAX)
def test_records_and_pages_need_no_jax(name):
    pending, visited = [f"experiments.{name}"], set()
    while pending:
        module = pending.pop()
        visited.add(module)
        for other in imported(ROOT / f"{module.replace('.', '/')}.py"):
            assert other.split(".")[0] not in JAX, other
            for candidate in (other, other.rpartition(".")[0]):
                path = ROOT / f"{candidate.replace('.', '/')}.py"
                if path.is_file() and candidate not in visited:
                    pending.append(candidate)


@pytest.mark.slow
def test_records_and_pages_start_without_jax():
    modules = ", ".join(f"experiments.{name}" for name in WITHOUT_JAX)
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_oracles_share_no_code_with_what_they_judge():
    names = imported(ROOT / "tests" / "support" / "reference.py")
    assert {name.split(".")[0] for name in names} == {"numpy"}

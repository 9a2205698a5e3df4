"""The problem of the golden trajectories, and their file format.

This module imports NumPy only, because the recorders run in environments without the
library under test.
"""

import json
import platform
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STEPS = 200
SHAPES = {"vector": (3,), "matrix": (2, 3), "scalar": ()}
KINDS = ("parameters", "buffers")  # Recorded after every step.
FOLDER = Path(__file__).parent


class Setting(NamedTuple):
    """One recorded run."""

    options: dict[str, Any]  # the arguments of the library, except the learning rate
    feedback: bool = False  # the gradient depends on the parameters
    missing: bool = False  # "vector" has no gradient on some of the steps
    constant: bool = False  # the learning rate stays at its largest value
    varying_beta: bool = False  # `betas` takes the place of the option `momentum`


def make_problem() -> dict[str, Any]:
    """Returns the float64 arrays that all runs share, as a nested dict.

    `start`, `curvature`, `cubic`: leaf -> array; `noise`: leaf -> [step, *shape];
    `learning_rates`: [step], a warm-up from zero, then a cosine with a drop;
    `betas`: [step], between 0.45 and 0.95;
    `missing`: bool [step], False at step 0, where the libraries create their buffers.
    """
    random = np.random.default_rng(20)

    def draw(*leading: int) -> dict[str, np.ndarray]:
        # NumPy draws a number, not an array, for shape ().
        return {
            leaf: np.asarray(random.standard_normal((*leading, *shape)))
            for leaf, shape in SHAPES.items()
        }

    step = np.arange(STEPS)
    warm_up, drop = np.minimum(step / 30, 1), np.where(step < 110, 1, 0.1)
    cosine = (1 + np.cos(np.pi * step / STEPS)) / 2
    missing = random.random(STEPS) < 0.3
    missing[0] = False
    return {
        "start": draw(),
        "noise": draw(STEPS),
        # Curvatures from 0.01 to 10 make the problem ill-conditioned.
        "curvature": {leaf: 10.0 ** np.clip(x, -2, 1) for leaf, x in draw().items()},
        "cubic": {leaf: np.abs(x) for leaf, x in draw().items()},
        "learning_rates": 0.1 * warm_up * drop * cosine,
        "betas": 0.7 + 0.25 * np.sin(step / 15),
        "missing": missing,
    }


def learning_rates(problem: dict[str, Any], setting: Setting) -> np.ndarray:
    """Returns the learning rate of every step of a run: float64 [step]."""
    rates = problem["learning_rates"]
    return np.full_like(rates, rates.max()) if setting.constant else rates


def gradient(
    problem: dict[str, Any], setting: Setting, step: int, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Returns a step's gradients: noise, plus curvature·θ + cubic·θ³ with feedback.

    The arrays may be NumPy's or JAX's. A missing gradient is None.
    """
    result = {}
    for leaf, noise in problem["noise"].items():
        theta = parameters[leaf]
        slope = problem["curvature"][leaf] * theta + problem["cubic"][leaf] * theta**3
        result[leaf] = noise[step] + slope if setting.feedback else noise[step]
    if setting.missing and problem["missing"][step]:
        result["vector"] = None
    return result


def save(
    library: str,
    problem: dict[str, Any],
    settings: dict[str, Setting],
    runs: dict[str, Any],
    versions: dict[str, str],
) -> None:
    """Writes LIBRARY.npz: nested dicts become keys such as `runs/NAME/buffers/LEAF`.

    `runs` holds, by the names of the settings, `parameters` and `buffers` after every
    step, each leaf -> [step, *shape].
    """
    record = {
        "settings": {name: setting._asdict() for name, setting in settings.items()},
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            **versions,
        },
        "command": f"python tests/golden/record_{library}.py",
    }
    tree = {"record": np.asarray(json.dumps(record)), "problem": problem, "runs": runs}
    np.savez(FOLDER / f"{library}.npz", **_flatten(tree))


class Golden(NamedTuple):
    """The content of a golden file."""

    record: dict[str, Any]  # versions, command
    settings: dict[str, Setting]
    problem: dict[str, Any]
    runs: dict[str, Any]


def load(library: str) -> Golden:
    """Reads a file written by `save`."""
    tree: dict[str, Any] = {}
    with np.load(FOLDER / f"{library}.npz", allow_pickle=False) as file:
        for key in file:
            *path, leaf = key.split("/")
            node = tree
            for part in path:
                node = node.setdefault(part, {})
            node[leaf] = file[key]
    record = json.loads(str(tree["record"]))
    settings = {name: Setting(**s) for name, s in record.pop("settings").items()}
    return Golden(record, settings, tree["problem"], tree["runs"])


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns {"a": {"b": x}} into {"a/b": x}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value
    return flat

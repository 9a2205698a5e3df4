"""Records the papers' equations into papers.npz: python tests/golden/record_papers.py

Each method is written as its paper prints it, with the paper's variables and without an
optimizer library. `buffers` holds the paper's variables other than the parameters.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from problem import Setting, gradient, learning_rates, make_problem, save

SETTINGS = {
    "qhm": Setting({"nu": 0.7, "beta": 0.999}, feedback=True),
    "qhm_0.4": Setting({"nu": 0.4, "beta": 0.9}),
    "aggmo": Setting({"betas": [0, 0.9, 0.99]}, feedback=True),
    "aggmo_equal_betas": Setting({"betas": [0.6, 0.9, 0.9]}),
    "srsgd": Setting({"restart_every": 40}, feedback=True),
    "srsgd_17": Setting({"restart_every": 17}),
}
Trajectory = Iterator[tuple[np.ndarray, np.ndarray]]  # Parameters and buffers.


def qhm(start, gradient_at, rates, *, nu: float, beta: float) -> Trajectory:
    """Ma and Yarats 2018, arXiv:1810.06801: a mean of the gradient and its average."""
    theta, g = start, np.zeros_like(start)
    for step, alpha in enumerate(rates):
        slope = gradient_at(step, theta)
        g = beta * g + (1 - beta) * slope
        theta = theta - alpha * ((1 - nu) * slope + nu * g)
        yield theta, g


def aggmo(start, gradient_at, rates, *, betas: list[float]) -> Trajectory:
    """Lucas et al. 2018, arXiv:1804.00325: K velocities, in the paper's sign."""
    theta, v = start, [np.zeros_like(start) for _ in betas]
    for step, gamma in enumerate(rates):
        slope = gradient_at(step, theta)
        v = [beta * velocity - slope for beta, velocity in zip(betas, v, strict=True)]
        theta = theta + gamma / len(betas) * sum(v)
        yield theta, np.stack(v)


def srsgd(start, gradient_at, rates, *, restart_every: int) -> Trajectory:
    """Wang et al. 2020, arXiv:2002.10583: Nesterov, restarted every F steps.

    vᵏ⁺¹ = wᵏ − s·∇f(wᵏ), wᵏ⁺¹ = vᵏ⁺¹ + (k mod F)/((k mod F) + 3)·(vᵏ⁺¹ − vᵏ)
    """
    w = v = start
    for k, s in enumerate(rates):
        v_before, v = v, w - s * gradient_at(k, w)
        since = k % restart_every
        w = v + since / (since + 3) * (v - v_before)
        yield w, v


METHODS = {"qhm": qhm, "aggmo": aggmo, "srsgd": srsgd}


def record(problem: dict[str, Any], name: str) -> dict[str, Any]:
    """Runs one setting, leaf by leaf: no leaf's gradient depends on another leaf."""
    setting = SETTINGS[name]
    method = partial(METHODS[name.split("_")[0]], **setting.options)
    parameters, buffers = {}, {}
    for leaf, start in problem["start"].items():

        def gradient_at(step: int, theta: np.ndarray, leaf: str = leaf) -> np.ndarray:
            others = problem["start"]
            return gradient(problem, setting, step, {**others, leaf: theta})[leaf]

        rates = learning_rates(problem, setting)
        steps = list(method(start, gradient_at, rates))
        parameters[leaf], buffers[leaf] = map(np.stack, zip(*steps, strict=True))
    return {"parameters": parameters, "buffers": buffers}


if __name__ == "__main__":
    problem = make_problem()
    save("papers", problem, SETTINGS, {n: record(problem, n) for n in SETTINGS}, {})

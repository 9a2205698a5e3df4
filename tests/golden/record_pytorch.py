"""Records `torch.optim.SGD` into pytorch.npz: python tests/golden/record_pytorch.py"""

from typing import Any

import numpy as np
import torch
from problem import KINDS, STEPS, Setting, gradient, learning_rates, make_problem, save

SETTINGS = {
    "momentum_0.9": Setting({"momentum": 0.9}),
    "momentum_0.6": Setting({"momentum": 0.6}),
    "dampening_0.3": Setting({"momentum": 0.9, "dampening": 0.3}),
    "dampening_equal_to_momentum": Setting({"momentum": 0.9, "dampening": 0.9}),
    "nesterov": Setting({"momentum": 0.9, "nesterov": True}),
    "nesterov_0.6": Setting({"momentum": 0.6, "nesterov": True}),
    "weight_decay": Setting({"momentum": 0.9, "weight_decay": 0.05}),
    "weight_decay_nesterov": Setting(
        {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True}
    ),
    "maximize": Setting({"momentum": 0.9, "maximize": True}),
    "maximize_dampening_weight_decay": Setting(
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05, "maximize": True}
    ),
    "feedback": Setting({"momentum": 0.9}, feedback=True),
    "feedback_nesterov": Setting({"momentum": 0.9, "nesterov": True}, feedback=True),
    "varying_beta_nesterov": Setting(
        {"momentum": 0.9, "nesterov": True}, varying_beta=True
    ),
    "missing_gradients": Setting({"momentum": 0.9, "dampening": 0.3}, missing=True),
}


def record(problem: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Runs one setting with PyTorch's single-tensor implementation, its reference."""
    parameters = {
        leaf: torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))
        for leaf, value in problem["start"].items()
    }
    rates = learning_rates(problem, setting)
    optimizer = torch.optim.SGD(
        parameters.values(), lr=rates[0], foreach=False, **setting.options
    )
    trajectory = {kind: {leaf: [] for leaf in parameters} for kind in KINDS}
    for step in range(STEPS):
        now = {leaf: p.detach().numpy() for leaf, p in parameters.items()}
        for leaf, g in gradient(problem, setting, step, now).items():
            parameters[leaf].grad = None if g is None else torch.tensor(g)
        optimizer.param_groups[0]["lr"] = float(rates[step])
        if setting.varying_beta:
            optimizer.param_groups[0]["momentum"] = float(problem["betas"][step])
        optimizer.step()
        for leaf, parameter in parameters.items():
            buffer = optimizer.state[parameter]["momentum_buffer"]
            trajectory["parameters"][leaf].append(parameter.detach().numpy().copy())
            trajectory["buffers"][leaf].append(buffer.numpy().copy())
    return {
        kind: {leaf: np.stack(values) for leaf, values in leaves.items()}
        for kind, leaves in trajectory.items()
    }


if __name__ == "__main__":
    problem = make_problem()
    runs = {name: record(problem, setting) for name, setting in SETTINGS.items()}
    save("pytorch", problem, SETTINGS, runs, {"torch": torch.__version__})

"""Records `tf.compat.v1.train.MomentumOptimizer`: python tests/golden/record_tf1.py"""

from typing import Any

import numpy as np
import tensorflow as tf
from problem import KINDS, STEPS, Setting, gradient, learning_rates, make_problem, save

SETTINGS = {
    "momentum_0.9": Setting({"momentum": 0.9}),
    "nesterov_0.6": Setting({"momentum": 0.6, "use_nesterov": True}),
    "feedback_0.6": Setting({"momentum": 0.6}, feedback=True),
    "feedback_nesterov": Setting(
        {"momentum": 0.9, "use_nesterov": True}, feedback=True
    ),
    "varying_beta_nesterov": Setting(
        {"momentum": 0.9, "use_nesterov": True}, varying_beta=True
    ),
    "missing_gradients": Setting({"momentum": 0.9}, missing=True),
}


def record(problem: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Runs one setting, in float64 throughout.

    TensorFlow 1 calls callable hyperparameters at every step. They return NumPy's
    float64, which keeps its precision; a Python float would become float32 first.
    """
    variables = {
        leaf: tf.Variable(value, dtype=tf.float64)
        for leaf, value in problem["start"].items()
    }
    rates = learning_rates(problem, setting)
    betas = np.full(STEPS, setting.options["momentum"])
    if setting.varying_beta:
        betas = problem["betas"]
    now = {"step": 0}
    optimizer = tf.compat.v1.train.MomentumOptimizer(
        lambda: rates[now["step"]],
        lambda: betas[now["step"]],
        use_nesterov=setting.options.get("use_nesterov", False),
    )
    trajectory = {kind: {leaf: [] for leaf in variables} for kind in KINDS}
    for step in range(STEPS):
        now["step"] = step
        theta = {leaf: variable.numpy() for leaf, variable in variables.items()}
        gradients = gradient(problem, setting, step, theta)
        optimizer.apply_gradients(
            (None if gradients[leaf] is None else tf.constant(gradients[leaf]), v)
            for leaf, v in variables.items()
        )
        for leaf, variable in variables.items():
            buffer = optimizer.get_slot(variable, "momentum")
            assert buffer.dtype == variable.dtype == tf.float64
            trajectory["parameters"][leaf].append(variable.numpy().copy())
            trajectory["buffers"][leaf].append(buffer.numpy().copy())
    return {
        kind: {leaf: np.stack(values) for leaf, values in leaves.items()}
        for kind, leaves in trajectory.items()
    }


if __name__ == "__main__":
    problem = make_problem()
    runs = {name: record(problem, setting) for name, setting in SETTINGS.items()}
    save("tf1", problem, SETTINGS, runs, {"tensorflow": tf.__version__})

"""Records `keras.optimizers.SGD` into keras.npz: python tests/golden/record_keras.py"""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"  # Keras reads it when imported.

import keras
import numpy as np
import tensorflow as tf
from problem import KINDS, STEPS, Setting, gradient, learning_rates, make_problem, save

SETTINGS = {
    "momentum_0.9": Setting({"momentum": 0.9}),
    "momentum_0.6": Setting({"momentum": 0.6}),
    "nesterov": Setting({"momentum": 0.9, "nesterov": True}),
    "nesterov_0.6": Setting({"momentum": 0.6, "nesterov": True}),
    "weight_decay": Setting({"momentum": 0.9, "weight_decay": 0.05}),
    "weight_decay_nesterov": Setting(
        {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True}
    ),
    "feedback": Setting({"momentum": 0.9}, feedback=True),
    "feedback_nesterov": Setting({"momentum": 0.9, "nesterov": True}, feedback=True),
    "constant": Setting({"momentum": 0.9}, feedback=True, constant=True),
}


def record(problem: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Runs one setting, in float64 throughout."""
    variables = {
        leaf: keras.Variable(value, dtype="float64")
        for leaf, value in problem["start"].items()
    }
    rates = learning_rates(problem, setting)
    # TensorFlow converts a Python float to float32 before Keras casts it to float64, so
    # 0.9 would become 0.899999976. A NumPy float64 keeps its precision.
    options = {
        name: value if isinstance(value, bool) else np.float64(value)
        for name, value in setting.options.items()
    }
    optimizer = keras.optimizers.SGD(rates[0], **options)
    optimizer.build(list(variables.values()))
    buffers = dict(zip(variables, optimizer.momentums, strict=True))
    for variable in (optimizer.learning_rate, *buffers.values()):
        assert variable.dtype == "float64", variable
    trajectory = {kind: {leaf: [] for leaf in variables} for kind in KINDS}
    for step in range(STEPS):
        now = {leaf: v.numpy() for leaf, v in variables.items()}
        gradients = gradient(problem, setting, step, now)
        optimizer.learning_rate = rates[step]
        optimizer.apply([tf.constant(g) for g in gradients.values()])
        for leaf, variable in variables.items():
            trajectory["parameters"][leaf].append(variable.numpy().copy())
            trajectory["buffers"][leaf].append(buffers[leaf].numpy().copy())
    return {
        kind: {leaf: np.stack(values) for leaf, values in leaves.items()}
        for kind, leaves in trajectory.items()
    }


if __name__ == "__main__":
    keras.config.set_floatx("float64")  # The dtype of the learning rate.
    problem = make_problem()
    runs = {name: record(problem, setting) for name, setting in SETTINGS.items()}
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    save("keras", problem, SETTINGS, runs, versions)

"""Records PyTorch's and Keras's learning rates: python tests/golden/record_schedules.py

Each run has the rate, and for schedulers that cycle it the momentum, of every update.
PyTorch's `scheduler.step()` follows each `optimizer.step()`.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"  # Keras reads it when imported.

import keras
import numpy as np
import tensorflow as tf
import torch
from problem import Setting, save
from torch.optim import lr_scheduler

RATE = 0.3  # of PyTorch's optimizer

PYTORCH: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "step": (20, lambda o: lr_scheduler.StepLR(o, 4, gamma=0.3)),
    "multi_step": (20, lambda o: lr_scheduler.MultiStepLR(o, [3, 9, 10], gamma=0.2)),
    "exponential": (20, lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "linear": (20, lambda o: lr_scheduler.LinearLR(o, 0.25, 0.75, total_iters=7)),
    "polynomial": (20, lambda o: lr_scheduler.PolynomialLR(o, 9, power=1.7)),
    "cosine": (30, lambda o: lr_scheduler.CosineAnnealingLR(o, 9, eta_min=0.02)),
    "warm_restarts": (
        30,
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, eta_min=0.02),
    ),
    "warm_restarts_longer": (
        60,
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, T_mult=2),
    ),
    "one_cycle": (23, lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=23)),
    "one_cycle_linear": (
        23,
        lambda o: lr_scheduler.OneCycleLR(
            o,
            0.5,
            total_steps=23,
            pct_start=0.4,
            anneal_strategy="linear",
            base_momentum=0.7,
            max_momentum=0.9,
            div_factor=10,
            final_div_factor=100,
        ),
    ),
    "one_cycle_three_phase": (
        23,
        lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=23, three_phase=True),
    ),
    "cyclic": (30, lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, 4, 3)),
    "cyclic_triangular2": (
        30,
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, 4, mode="triangular2"),
    ),
    "cyclic_exp_range": (
        30,
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.5, 4, mode="exp_range", gamma=0.9),
    ),
    "sequential": (
        20,
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LinearLR(o, 0.1, total_iters=5),
                lr_scheduler.CosineAnnealingLR(o, 9),
            ],
            milestones=[5],
        ),
    ),
    "lambda": (20, lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t))),
}

# TensorFlow converts Python floats to float32, but not NumPy's.
A, B, C, D, E = map(np.float64, (0.3, 0.7, 0.1, 0.02, 0.5))
schedules = keras.optimizers.schedules
KERAS = {
    "keras_exponential": lambda: schedules.ExponentialDecay(A, 4, B),
    "keras_exponential_staircase": lambda: schedules.ExponentialDecay(
        A, 4, B, staircase=True
    ),
    "keras_cosine": lambda: schedules.CosineDecay(A, 9, alpha=C),
    "keras_cosine_warmup": lambda: schedules.CosineDecay(
        C, 9, alpha=C, warmup_target=np.float64(0.4), warmup_steps=4
    ),
    "keras_piecewise": lambda: schedules.PiecewiseConstantDecay([3, 9], [A, C, D]),
    "keras_inverse_time": lambda: schedules.InverseTimeDecay(A, 4, E),
    "keras_inverse_time_staircase": lambda: schedules.InverseTimeDecay(
        A, 4, E, staircase=True
    ),
    "keras_polynomial": lambda: schedules.PolynomialDecay(A, 9, D, power=1.5),
    "keras_polynomial_cycle": lambda: schedules.PolynomialDecay(
        A, 5, D, power=1.5, cycle=True
    ),
}
KERAS_STEPS = 20


def record_pytorch(steps: int, make: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """The rate and momentum of each update."""
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], lr=RATE, momentum=0.9)
    scheduler = make(optimizer)
    rates, betas = [], []
    for step in range(steps):
        group = optimizer.param_groups[0]
        rates.append(float(group["lr"]))
        betas.append(float(group["momentum"]))
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    return {"rates": np.array(rates), "betas": np.array(betas)}


def record_keras(make: Callable[[], Any]) -> dict[str, np.ndarray]:
    """The rate of each update, which Keras computes in float64 here."""
    schedule = make()
    rates = [float(schedule(np.int64(step))) for step in range(KERAS_STEPS)]
    return {"rates": np.array(rates)}


if __name__ == "__main__":
    keras.config.set_floatx("float64")
    runs = {name: record_pytorch(*each) for name, each in PYTORCH.items()}
    runs |= {name: record_keras(make) for name, make in KERAS.items()}
    save(
        "schedules",
        {"learning_rate": np.asarray(RATE)},
        {name: Setting({}) for name in runs},
        runs,
        {
            "torch": torch.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    )

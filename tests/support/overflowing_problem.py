"""The small problem with one example whose batch overflows in BatchNorm."""

import numpy as np
from support.small_problem import TRAIN, small_problem

from experiments.problems import Problem
from optax_momentum import keras

EXAMPLE = 19  # of the training examples; seed 0 sees it in its third step
BAD_TRAIN = {**TRAIN, "x": np.array(TRAIN["x"])}
BAD_TRAIN["x"][EXAMPLE] = 1e25  # its square, and so the variance, is infinite


def problem() -> Problem:
    return small_problem(augment=None)._replace(train=BAD_TRAIN)


def optimizers(learning_rate):
    return {"keras": keras(learning_rate, 0.8)}

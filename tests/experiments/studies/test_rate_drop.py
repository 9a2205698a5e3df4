"""A drop of the rate: the equation, the library and plain loops agree."""

import numpy as np
import pytest

from experiments.studies.lr_decay.rate_drop import Drop, by_equation, measured

DROP = Drop(0.37, factor=0.23, beta=0.83, curvature=0.71, at=11, steps=47)


def by_loop(drop: Drop, inside: bool) -> list[float]:
    theta, buffer, course = 1.0, 0.0, [1.0]
    for step in range(drop.steps):
        rate = drop.learning_rate * (drop.factor if step >= drop.at else 1)
        gradient = drop.curvature * theta
        if inside:
            buffer = drop.beta * buffer - rate * gradient
            theta += buffer
        else:
            buffer = drop.beta * buffer + gradient
            theta -= rate * buffer
        course.append(theta)
    return course


@pytest.mark.parametrize("drop", [DROP, Drop()])
@pytest.mark.parametrize("inside", [True, False])
def test_drop_is_the_same_by_equation_by_loop_and_in_the_library(drop, inside):
    want = by_loop(drop, inside)
    np.testing.assert_allclose(by_equation(drop, inside), want, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(measured(drop, inside), want, rtol=1e-4, atol=2e-6)


def test_drop_parts_the_conventions_at_the_drop_and_not_before():
    inside, outside = by_equation(DROP, True), by_equation(DROP, False)
    np.testing.assert_array_equal(inside[: DROP.at + 1], outside[: DROP.at + 1])
    velocity = inside[DROP.at] - inside[DROP.at - 1]
    apart = inside[DROP.at + 1] - outside[DROP.at + 1]
    # Inside the old steps keep their size; outside a factor of it is left.
    assert apart == pytest.approx(DROP.beta * (1 - DROP.factor) * velocity)

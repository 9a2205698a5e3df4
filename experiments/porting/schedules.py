"""Schedulers of PyTorch and schedules of Keras as expressions of Optax or `convert`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.porting.expressions import (
    REQUIRED,
    Call,
    bound,
    number,
    shown,
    switch,
)
from experiments.records.config import UsageError


class Schedule(NamedTuple):
    """A schedule in code."""

    rate: str  # an expression of the learning rate's schedule
    cycled: bool = False  # whether the expression has a schedule of β, too
    each_step: bool = False  # whether PyTorch's documentation steps it after each batch


def of_pytorch(call: Call, rate: float) -> Schedule:
    """A scheduler for an optimizer of this learning rate.

    Raises:
      UsageError: it is unknown, or an argument is missing or no literal.
    """
    makers: Mapping[str, Callable[[Call, float], Schedule]] = {
        "StepLR": _step,
        "MultiStepLR": _multi_step,
        "ExponentialLR": _exponential,
        "LinearLR": _linear,
        "PolynomialLR": _polynomial,
        "CosineAnnealingLR": _cosine,
        "CosineAnnealingWarmRestarts": _warm_restarts,
        "OneCycleLR": _one_cycle,
        "CyclicLR": _cyclic,
        "SequentialLR": _sequential,
    }
    if call.function == "LambdaLR":
        raise UsageError(
            "--scheduler LambdaLR has a function, which is not run: write "
            f"`lambda step: {rate} * f(step)` with your own f, and pass it as the "
            "learning rate."
        )
    if call.function not in makers:
        raise UsageError(
            f"--scheduler {call.name} is unknown; known are {', '.join(makers)}."
        )
    return makers[call.function](call, rate)


def of_keras(call: Call) -> str:
    """A schedule of Keras.

    Raises:
      UsageError: it is unknown, or an argument is missing or no literal.
    """
    makers: Mapping[str, Callable[[Call], str]] = {
        "ExponentialDecay": _keras_exponential,
        "CosineDecay": _keras_cosine,
        "PiecewiseConstantDecay": _keras_piecewise,
        "InverseTimeDecay": _keras_inverse_time,
        "PolynomialDecay": _keras_polynomial,
    }
    if call.function not in makers:
        known = ", ".join(makers)
        raise UsageError(f"learning_rate: {call.name} is unknown; known are {known}.")
    return makers[call.function](call)


def _arguments(call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """PyTorch's, whose first argument is the optimizer."""
    expected = {**parameters, "last_epoch": -1}
    literal = call.positional and isinstance(call.positional[0], int | float | list)
    named = not call.positional and "optimizer" not in call.named
    if not (literal or named):  # else the text leaves the optimizer out
        expected = {"optimizer": "", **expected}
    found = bound(call, expected)
    if found["last_epoch"] != -1:
        raise UsageError(
            f"{call.name}: last_epoch continues a run; shift the schedule's step "
            "instead, as in `lambda step: schedule(step + done)`."
        )
    return found


def _step(call: Call, rate: float) -> Schedule:
    found = _arguments(call, {"step_size": REQUIRED, "gamma": 0.1})
    size, gamma = (number(call, found, name) for name in ("step_size", "gamma"))
    return Schedule(f"optax.exponential_decay({rate}, {size}, {gamma}, staircase=True)")


def _multi_step(call: Call, rate: float) -> Schedule:
    found = _arguments(call, {"milestones": REQUIRED, "gamma": 0.1})
    gamma = number(call, found, "gamma")
    factors: dict[int, float] = {}
    for milestone in _numbers(call, found, "milestones"):
        factors[int(milestone)] = factors.get(int(milestone), 1.0) * gamma
    return Schedule(f"optax.piecewise_constant_schedule({rate}, {factors})")


def _exponential(call: Call, rate: float) -> Schedule:
    found = _arguments(call, {"gamma": REQUIRED})
    return Schedule(
        f"optax.exponential_decay({rate}, 1, {number(call, found, 'gamma')})"
    )


def _linear(call: Call, rate: float) -> Schedule:
    defaults = {"start_factor": 1 / 3, "end_factor": 1.0, "total_iters": 5}
    found = _arguments(call, defaults)
    start, end, total = (number(call, found, name) for name in defaults)
    return Schedule(f"optax.linear_schedule({start * rate}, {end * rate}, {total})")


def _polynomial(call: Call, rate: float) -> Schedule:
    defaults = {"total_iters": 5, "power": 1.0}
    found = _arguments(call, defaults)
    total, power = (number(call, found, name) for name in defaults)
    return Schedule(f"optax.polynomial_schedule({rate}, 0.0, {power}, {total})")


def _cosine(call: Call, rate: float) -> Schedule:
    found = _arguments(call, {"T_max": REQUIRED, "eta_min": 0.0})
    period, low = (number(call, found, name) for name in ("T_max", "eta_min"))
    return Schedule(f"convert.pytorch_cosine_annealing({rate}, {period}, {low})")


def _warm_restarts(call: Call, rate: float) -> Schedule:
    found = _arguments(call, {"T_0": REQUIRED, "T_mult": 1, "eta_min": 0.0})
    first, factor, low = (
        number(call, found, name) for name in ("T_0", "T_mult", "eta_min")
    )
    return Schedule(f"convert.pytorch_warm_restarts({rate}, {first}, {factor}, {low})")


def _one_cycle(call: Call, rate: float) -> Schedule:
    del rate  # that of the optimizer is replaced
    found = _arguments(
        call,
        {
            "max_lr": REQUIRED,
            "total_steps": 0,
            "epochs": 0,
            "steps_per_epoch": 0,
            "pct_start": 0.3,
            "anneal_strategy": "cos",
            "cycle_momentum": True,
            "base_momentum": 0.85,
            "max_momentum": 0.95,
            "div_factor": 25.0,
            "final_div_factor": 1e4,
            "three_phase": False,
        },
    )
    total = found["total_steps"] or number(call, found, "epochs") * number(
        call, found, "steps_per_epoch"
    )
    if not isinstance(total, int) or total < 1:
        raise UsageError(
            f"{call.name} needs total_steps, or epochs and steps_per_epoch."
        )
    named = {
        "pct_start": ("pct_start", 0.3),
        "base_beta": ("base_momentum", 0.85),
        "max_beta": ("max_momentum", 0.95),
        "div_factor": ("div_factor", 25.0),
        "final_div_factor": ("final_div_factor", 1e4),
    }
    changed = ""
    for ours, (theirs, default) in named.items():
        value = number(call, found, theirs)
        changed += "" if value == default else f", {ours}={value}"
    if found["anneal_strategy"] not in ("cos", "linear"):
        raise UsageError(f"{call.name}: anneal_strategy is 'cos' or 'linear'.")
    changed += ", linear=True" if found["anneal_strategy"] == "linear" else ""
    changed += ", three_phase=True" if switch(call, found, "three_phase") else ""
    high = number(call, found, "max_lr")
    cycled = f"convert.pytorch_one_cycle({high}, {total}{changed})"
    return _cycle(call, found, cycled)


def _cyclic(call: Call, rate: float) -> Schedule:
    del rate  # that of the optimizer is replaced
    found = _arguments(
        call,
        {
            "base_lr": REQUIRED,
            "max_lr": REQUIRED,
            "step_size_up": 2000,
            "step_size_down": 0,
            "mode": "triangular",
            "gamma": 1.0,
            "scale_fn": False,
            "scale_mode": "cycle",
            "cycle_momentum": True,
            "base_momentum": 0.8,
            "max_momentum": 0.9,
        },
    )
    if found["scale_fn"]:
        raise UsageError(
            f"{call.name}: scale_fn is a function, which is not run; pass your own as "
            "scale_of_cycle or scale_of_step to convert.pytorch_cyclic."
        )
    names = ("base_lr", "max_lr", "step_size_up")
    low, high, up = (number(call, found, name) for name in names)
    down = number(call, found, "step_size_down") if found["step_size_down"] else None
    gamma = number(call, found, "gamma")
    scales = {
        "triangular": "",
        "triangular2": ", scale_of_cycle=lambda cycle: 0.5 ** (cycle - 1)",
        "exp_range": f", scale_of_step=lambda step: {gamma}**step",
    }
    if found["mode"] not in scales:
        raise UsageError(f"{call.name}: mode is one of {', '.join(scales)}.")
    changed = "" if down is None else f", {down}"
    changed += scales[found["mode"]]
    for ours, theirs, default in [
        ("base_beta", "base_momentum", 0.8),
        ("max_beta", "max_momentum", 0.9),
    ]:
        value = number(call, found, theirs)
        changed += "" if value == default else f", {ours}={value}"
    return _cycle(call, found, f"convert.pytorch_cyclic({low}, {high}, {up}{changed})")


def _cycle(call: Call, found: Mapping[str, Any], cycled: str) -> Schedule:
    if switch(call, found, "cycle_momentum"):
        return Schedule(cycled, cycled=True, each_step=True)
    return Schedule(f"{cycled}.learning_rate", each_step=True)


def _sequential(call: Call, rate: float) -> Schedule:
    found = _arguments(call, {"schedulers": REQUIRED, "milestones": REQUIRED})
    if not isinstance(found["schedulers"], Sequence) or not all(
        isinstance(each, Call) for each in found["schedulers"]
    ):
        raise UsageError(f"{call.name} needs its schedulers as a list of calls.")
    parts = [of_pytorch(each, rate) for each in found["schedulers"]]
    if any(part.cycled for part in parts):
        raise UsageError(f"{call.name}: a scheduler that cycles momentum stands alone.")
    milestones = [int(each) for each in _numbers(call, found, "milestones")]
    joined = ", ".join(part.rate for part in parts)
    return Schedule(f"optax.join_schedules([{joined}], {milestones})")


def _numbers(call: Call, found: Mapping[str, Any], name: str) -> list[float]:
    values = found[name]
    if not isinstance(values, list | tuple):
        raise UsageError(f"{call.name}: {name} is {shown(values)}: write a list.")
    return [number(call, {name: value}, name) for value in values]


def _keras_exponential(call: Call) -> str:
    return f"optax.exponential_decay({_of_decay(call)})"


def _keras_inverse_time(call: Call) -> str:
    return f"convert.keras_inverse_time_decay({_of_decay(call)})"


def _of_decay(call: Call) -> str:
    """The arguments that exponential and inverse-time decay share."""
    parameters = {
        "initial_learning_rate": REQUIRED,
        "decay_steps": REQUIRED,
        "decay_rate": REQUIRED,
        "staircase": False,
        "name": "",
    }
    found = bound(call, parameters)
    rate, steps, decay = (number(call, found, name) for name in [*parameters][:3])
    stairs = ", staircase=True" if switch(call, found, "staircase") else ""
    return f"{rate}, {steps}, {decay}{stairs}"


def _keras_cosine(call: Call) -> str:
    parameters = {
        "initial_learning_rate": REQUIRED,
        "decay_steps": REQUIRED,
        "alpha": 0.0,
        "name": "",
        "warmup_target": None,
        "warmup_steps": 0,
    }
    found = bound(call, parameters)
    rate, steps, alpha = (number(call, found, name) for name in [*parameters][:3])
    code = f"convert.keras_cosine_decay({rate}, {steps}, {alpha}"
    if found["warmup_target"] is not None:
        target = number(call, found, "warmup_target")
        code += f", {target}, {number(call, found, 'warmup_steps')}"
    return f"{code})"


def _keras_piecewise(call: Call) -> str:
    found = bound(call, {"boundaries": REQUIRED, "values": REQUIRED, "name": ""})
    bounds = [int(each) for each in _numbers(call, found, "boundaries")]
    values = _numbers(call, found, "values")
    if len(values) != len(bounds) + 1:
        raise UsageError(f"{call.name} needs one value more than boundaries.")
    pairs = [f"{bound}: {value}" for bound, value in zip(bounds, values, strict=False)]
    entries = ", ".join([*pairs, f"math.inf: {values[-1]}"])
    return f"convert.keras_piecewise_constant({{{entries}}})"


def _keras_polynomial(call: Call) -> str:
    parameters = {
        "initial_learning_rate": REQUIRED,
        "decay_steps": REQUIRED,
        "end_learning_rate": 1e-4,
        "power": 1.0,
        "cycle": False,
        "name": "",
    }
    found = bound(call, parameters)
    rate, steps, end, power = (number(call, found, name) for name in [*parameters][:4])
    cycle = ", cycle=True" if switch(call, found, "cycle") else ""
    return f"convert.keras_polynomial_decay({rate}, {steps}, {end}, {power}{cycle})"

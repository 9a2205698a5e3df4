"""Optimizers of PyTorch, Keras and TensorFlow 1 as programs that use this library."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.porting import schedules
from experiments.porting.expressions import REQUIRED, Call, bound, number, shown, switch
from experiments.records.config import UsageError


class Program(NamedTuple):
    """Code to paste, in parts."""

    lines: tuple[str, ...]  # after the imports; the last one assigns `optimizer`
    notes: tuple[str, ...] = ()  # what the code does not carry over


_PYTORCH = {
    "lr": 1e-3,
    "momentum": 0.0,
    "dampening": 0.0,
    "weight_decay": 0.0,
    "nesterov": False,
    "maximize": False,
    "foreach": None,
    "differentiable": False,
    "fused": None,
}
_KERAS = {
    "learning_rate": 0.01,
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "name": "SGD",
}
_TENSORFLOW_1 = {
    "learning_rate": REQUIRED,
    "momentum": REQUIRED,
    "use_locking": False,
    "name": "Momentum",
    "use_nesterov": False,
}


def program(call: Call, scheduler: Call | None, per_epoch: int | None) -> Program:
    """The program that takes the steps of an optimizer.

    Args:
      call: makes the optimizer.
      scheduler: makes a scheduler of PyTorch; None for a constant learning rate.
      per_epoch: optimizer steps in an epoch, if the scheduler is stepped once in each.

    Raises:
      UsageError: the optimizer or an argument is unknown, or no literal.
    """
    if call.function == "SGD" and _is_pytorch(call):
        return _pytorch(call, scheduler, per_epoch)
    if scheduler is not None or per_epoch is not None:
        raise UsageError(
            "--scheduler and --steps-per-epoch belong to PyTorch's optimizers; in "
            "Keras, the schedule is the learning_rate."
        )
    if call.function == "SGD":
        return _keras(call)
    if call.function == "MomentumOptimizer":
        return _tensorflow_1(call)
    raise UsageError(
        f"{call.name} is unknown: known are torch.optim.SGD, keras.optimizers.SGD and "
        "tf.compat.v1.train.MomentumOptimizer."
    )


def _is_pytorch(call: Call) -> bool:
    """Whether an SGD is PyTorch's: by its module, or else by its arguments."""
    if "keras" in call.name or call.name.startswith("tf."):
        return False
    if "optim." in call.name and "optimizers" not in call.name:
        return True
    return "learning_rate" not in call.named


def _pytorch(call: Call, scheduler: Call | None, per_epoch: int | None) -> Program:
    found = bound(call, {"params": REQUIRED, **_PYTORCH})
    parameters, notes = found["params"], []
    for name in ("foreach", "fused"):
        if found[name] is not None:
            notes.append(
                f"{name}: how PyTorch computes the step, not what; XLA fuses it."
            )
    if found["differentiable"] is not False:
        notes.append("differentiable: every step here is differentiable.")
    if isinstance(parameters, list) and all(isinstance(p, dict) for p in parameters):
        return _groups(call, parameters, found, scheduler, per_epoch, notes)
    lines, optimizer = _of_group(call, found, scheduler, per_epoch)
    return Program((*lines, f"optimizer = {optimizer}"), tuple(notes))


def _groups(
    call: Call,
    groups: list[dict[str, Any]],
    defaults: Mapping[str, Any],
    scheduler: Call | None,
    per_epoch: int | None,
    notes: list[str],
) -> Program:
    """Parameter groups: an optimizer for each label of `optax.partition`."""
    lines: list[str] = []
    entries = []
    for index, group in enumerate(groups):
        own = {name: value for name, value in group.items() if name != "params"}
        unknown = [name for name in own if name not in _PYTORCH]
        if unknown:
            notes.append(f"group {index}: {', '.join(unknown)}: no setting of SGD.")
        settings = {**defaults, **{k: v for k, v in own.items() if k in _PYTORCH}}
        suffix = f"_{index}"
        of_group, optimizer = _of_group(call, settings, scheduler, per_epoch, suffix)
        lines += of_group
        which = shown(group.get("params", f"group {index}"))
        entries.append(f'    "group {index}": {optimizer},  # {which}')
    notes.append(
        "Which parameter is in which group: write `groups`, a function that maps the "
        'parameters to a tree of the labels "group 0", "group 1", …'
    )
    assigned = ["optimizer = optax.partition({", *entries, "}, groups)"]
    return Program((*lines, "\n".join(assigned)), tuple(notes))


def _of_group(
    call: Call,
    found: Mapping[str, Any],
    scheduler: Call | None,
    per_epoch: int | None,
    suffix: str = "",
) -> tuple[list[str], str]:
    """The lines before, and the optimizer, for settings of PyTorch."""
    rate, beta = (number(call, found, name) for name in ("lr", "momentum"))
    if rate < 0 or not 0 <= beta < 1:
        raise UsageError(
            f"{call.name}: lr must be at least 0 and momentum in [0, 1), got lr={rate} "
            f"and momentum={beta}."
        )
    lines, rate_code, beta_code = [], str(rate), str(beta)
    if scheduler is not None:
        schedule = schedules.of_pytorch(scheduler, rate)
        code = schedule.rate
        if schedule.cycled and beta == 0:
            raise UsageError(
                f"{scheduler.name} cycles momentum, which an SGD without momentum does "
                "not have: give it cycle_momentum=False."
            )
        if per_epoch is not None and not schedule.each_step:
            code = f"convert.stepped_per_epoch({code}, {per_epoch})"
        if schedule.cycled:
            lines.append(f"learning_rate{suffix}, beta{suffix} = {code}")
            beta_code = f"beta{suffix}"
        else:
            lines.append(f"learning_rate{suffix} = {code}")
        rate_code = f"learning_rate{suffix}"
    arguments = [rate_code]
    nesterov = switch(call, found, "nesterov")
    dampening = number(call, found, "dampening")
    if nesterov and (not beta or dampening):
        raise UsageError(
            f"{call.name}: nesterov needs momentum above 0 and no dampening, as in "
            "PyTorch."
        )
    if beta:
        arguments.append(beta_code)
        if nesterov:
            arguments.append("nesterov=True")
        if dampening:
            arguments.append(f"dampening={dampening}")
    if decay := number(call, found, "weight_decay"):
        arguments.append(f"weight_decay={decay}")
    if switch(call, found, "maximize"):
        arguments.append("maximize=True")
    return lines, f"sgd({', '.join(arguments)})"


def _keras(call: Call) -> Program:
    found = bound(call, _KERAS)
    lines, notes = [], []
    rate: Any = found["learning_rate"]
    if isinstance(rate, Call):
        lines.append(f"learning_rate = {schedules.of_keras(rate)}")
        rate_code = "learning_rate"
    else:
        rate_code = str(number(call, found, "learning_rate"))
    beta = number(call, found, "momentum")
    if not 0 <= beta < 1:
        raise UsageError(f"{call.name}: momentum must lie in [0, 1), got {beta}.")
    nesterov = ", nesterov=True" if switch(call, found, "nesterov") and beta else ""
    parts = []
    if found["clipvalue"] is not None:
        parts.append(f"optax.clip({number(call, found, 'clipvalue')})")
    if found["global_clipnorm"] is not None:
        norm = number(call, found, "global_clipnorm")
        parts.append(f"optax.clip_by_global_norm({norm})")
    parts.append(
        f"keras({rate_code}, {beta}{nesterov})" if beta else f"sgd({rate_code})"
    )
    if found["weight_decay"] is not None:
        decay = number(call, found, "weight_decay")
        if isinstance(rate, Call):
            scaled = f"lambda step: -{decay} * learning_rate(step)"
        else:
            scaled = f"-{rate_code} * {decay}"
        parts.append(f"optax.add_decayed_weights({scaled})")
    if found["clipnorm"] is not None:
        notes.append("clipnorm: Keras clips each variable by its own norm.")
    if found["use_ema"] is not False:
        decay = number(call, found, "ema_momentum")
        notes.append(
            "use_ema: put `optimizer` into optax_momentum.parameter_ema, with decay "
            f"{decay}, and evaluate averaged_params."
        )
    if found["loss_scale_factor"] is not None:
        notes.append("loss_scale_factor: see Dynamic loss scaling in docs/recipes.md.")
    code = parts[0] if len(parts) == 1 else f"optax.chain({', '.join(parts)})"
    if found["gradient_accumulation_steps"] is not None:
        steps = number(call, found, "gradient_accumulation_steps")
        code = f"optax.MultiSteps({code}, {steps})"
        if isinstance(rate, Call):
            notes.append(
                "gradient_accumulation_steps: Keras's schedule counts every batch, "
                "that of MultiSteps every update."
            )
    return Program((*lines, f"optimizer = {code}"), tuple(notes))


def _tensorflow_1(call: Call) -> Program:
    found = bound(call, _TENSORFLOW_1)
    rate, beta = (number(call, found, name) for name in ("learning_rate", "momentum"))
    nesterov = ", nesterov=True" if switch(call, found, "use_nesterov") else ""
    notes = ()
    if found["use_locking"] is not False:
        notes = ("use_locking: updates here are pure functions.",)
    return Program((f"optimizer = sgd({rate}, {beta}{nesterov})",), notes)

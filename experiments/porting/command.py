"""The command `port`: reads an optimizer of another system, prints code to paste."""

import re

from rich.console import Console

from experiments.porting.expressions import read_call
from experiments.porting.optimizers import Program, program
from experiments.porting.options import Port

_OURS = ("convert", "keras", "sgd")


def port(options: Port, console: Console) -> None:
    """Prints the code.

    Raises:
      UsageError: an expression is unknown or has other than literal arguments.
    """
    options.check()
    call = read_call("the optimizer", options.optimizer)
    scheduler = None
    if options.scheduler is not None:
        scheduler = read_call("--scheduler", options.scheduler)
    written = code(program(call, scheduler, options.steps_per_epoch))
    console.print(written, markup=False, highlight=False, soft_wrap=True, end="")


def code(written: Program) -> str:
    """The program with its imports, and comments on what it doesn't carry over."""
    body = "\n".join(written.lines)
    used = [name for name in _OURS if re.search(rf"\b{name}[.(]", body)]
    imports = ["import math"] if "math." in body else []
    imports += ["import optax"] if "optax." in body else []
    imports.append(f"from optax_momentum import {', '.join(used)}")
    notes = [f"# Not carried over: {note}" for note in written.notes]
    return "\n".join([*imports, "", body, *notes, ""])

"""The commands: `python -m experiments compare`, and those that `--help` lists."""

import contextlib
import difflib
import inspect
import io
import operator
import os
import sys
from collections.abc import Callable
from functools import reduce
from itertools import dropwhile, takewhile
from typing import Annotated, Any

import jax
import tyro
from platformdirs import user_cache_path
from rich.console import Console

from experiments.bench.command import Bench, bench
from experiments.compare.study import Compare, compare
from experiments.conformance.bad_inputs.command import BadInputs, bad_inputs
from experiments.conformance.command import Conformance, conformance
from experiments.data.prepare import Prepare, prepare
from experiments.distributed.processes import Lost, is_first, joined, leave
from experiments.distributed.signals import Stopped
from experiments.records.config import UsageError
from experiments.reporting.index import Index, index
from experiments.studies.batch_size.study import BatchSize, batch_size
from experiments.studies.claims.study import Claims, claims
from experiments.studies.crossval.study import Crossval, crossval
from experiments.studies.lr_decay.study import LrDecay, lr_decay
from experiments.studies.sweep.study import Sweep, sweep
from experiments.studies.tune.study import Tune, tune

# What a command takes, and what it does with that and the console.
COMMANDS: dict[str, tuple[type, Callable[[Any, Console], object]]] = {
    "compare": (Compare, compare),
    "sweep": (Sweep, sweep),
    "crossval": (Crossval, crossval),
    "batch-size": (BatchSize, batch_size),
    "lr-decay": (LrDecay, lr_decay),
    "claims": (Claims, claims),
    "tune": (Tune, tune),
    "index": (Index, index),
    "prepare": (Prepare, lambda options, _: prepare(options.name, options.data_dir)),
    "bench": (Bench, lambda options, _: bench(options)),
    "conformance": (Conformance, conformance),
    "bad-inputs": (BadInputs, bad_inputs),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every name can be encoded
            stream.reconfigure(errors="backslashreplace")
    try:
        options, unknown = _parse(arguments)
        name, run = next(
            (name, run)
            for name, (kind, run) in COMMANDS.items()
            if type(options) is kind
        )
        if unknown:
            raise UsageError(_unknown(unknown[0], name, options))
        if hasattr(options, "together"):
            with joined(name, options, options.together):
                run(options, Console(quiet=not is_first()))
        else:
            run(options, Console())
    except UsageError as error:
        print(f"error: {_in_one_line(str(error))}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
    except Lost as error:
        print(f"error: {_in_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished runs are kept.", file=sys.stderr)
        return 130
    return 0


def _in_one_line(text: str) -> str:
    """What breaks a line or can't be seen is spelled out: names may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _parse(arguments: list[str] | None) -> tuple[Any, list[str]]:
    """The command's options and the words that it doesn't know."""
    words = sys.argv[1:] if arguments is None else arguments
    chosen = words[0] if words else None
    subcommands = (
        Annotated[
            kind, tyro.conf.subcommand(name, description=_help(kind, name == chosen))
        ]
        for name, (kind, _) in COMMANDS.items()
    )
    command: Any = reduce(operator.or_, subcommands)
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                command,
                args=arguments,
                prog="python -m experiments",
                description="Momentum SGD, measured.",
                return_unknown_args=True,
                config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # after --help
        # A box: a heading, the message, a rule, more help; in ASCII where it must be.
        lines = [line.strip("│╭╮╰╯─- ") for line in stderr.getvalue().splitlines()]
        message = takewhile(bool, dropwhile(lambda line: not line, lines[1:]))
        raise UsageError(f"{' '.join(message)} Add --help for all options.") from None


def _help(kind: type, whole: bool) -> str:
    """The explanation of a command: its first sentence in the list of all."""
    text = inspect.getdoc(kind) or ""
    return text if whole else " ".join(text.split("\n\n")[0].split())


def _unknown(option: str, name: str, options: object) -> str:
    """What to do about an option that the command doesn't have."""
    known = [f"--{field.replace('_', '-')}" for field in vars(options)]
    close = difflib.get_close_matches(option, known, n=1)
    guess = f"; did you mean {close[0]}?" if close else "."
    return (
        f"{name} has no option {option}{guess} "
        f"`python -m experiments {name} --help` explains them all."
    )


def configure() -> None:
    """Sets JAX up for a command, before it has found its devices.

    Two CPU devices train faster than one that has all cores; other platforms take no
    notice, and JAX_NUM_CPU_DEVICES says otherwise. Compiled programs are kept in the
    user's cache directory, or in what JAX_COMPILATION_CACHE_DIR says, for the next
    command.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", 2)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = user_cache_path("optax_momentum") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(compiled))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    configure()
    leave(main())

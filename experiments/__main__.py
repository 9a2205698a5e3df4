"""The command line: `python -m experiments COMMAND`; `--help` lists the commands."""

import contextlib
import difflib
import inspect
import io
import operator
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import dropwhile, takewhile
from typing import Annotated, Any

import jax
import tyro
from platformdirs import user_cache_path
from rich.console import Console
from rich.text import Text

from experiments.bench.command import Bench, bench
from experiments.compare.study import Compare, compare
from experiments.conformance.bad_inputs.command import BadInputs, bad_inputs
from experiments.conformance.command import Conformance, conformance
from experiments.data.prepare import Prepare, prepare
from experiments.distributed.processes import (
    ProcessLost,
    exit_process,
    is_first,
    join_processes,
)
from experiments.distributed.signals import Stopped
from experiments.records.config import UsageError
from experiments.reporting.index import Index, index
from experiments.studies.batch_size.study import BatchSize, batch_size
from experiments.studies.claims.study import Claims, claims
from experiments.studies.crossval.study import Crossval, crossval
from experiments.studies.lr_decay.study import LrDecay, lr_decay
from experiments.studies.sweep.study import Sweep, sweep
from experiments.studies.tune.study import Tune, tune

# Each command's options and the function that runs it.
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

_PROGRAM = "python -m experiments"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack a character
            stream.reconfigure(errors="backslashreplace")
    try:
        name, options = _parse(sys.argv[1:] if arguments is None else arguments)
        _, run = COMMANDS[name]
        if hasattr(options, "together"):
            with join_processes(name, options, options.together):
                run(options, Console(quiet=not is_first()))
        else:
            run(options, Console())
    except UsageError as error:
        print(f"error: {_in_one_line(str(error))}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
    except ProcessLost as error:
        print(f"error: {_in_one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; finished runs are kept.", file=sys.stderr)
        return 130
    return 0


def _in_one_line(text: str) -> str:
    """Escapes line breaks and invisible characters, which file names may contain."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _parse(words: Sequence[str]) -> tuple[str, Any]:
    """The name of the command and its options.

    Raises:
      UsageError: there is no such command or option, or an option has a bad value.
      SystemExit: after printing the help that `--help` asks for.
    """
    first = words[0] if words else ""
    name = first.replace("_", "-")
    if name in COMMANDS:
        kind, _ = COMMANDS[name]
        description = inspect.getdoc(kind) or ""
        options, unknown = _tyro(kind, words[1:], f"{_PROGRAM} {name}", description)
        if unknown:
            known = [f"--{field.replace('_', '-')}" for field in vars(options)]
            raise UsageError(
                f"{name} has no option {unknown[0]}{_guess(unknown[0], known)} "
                f"`{_PROGRAM} {name} --help` explains them all."
            )
        return name, options
    if first.startswith("-"):
        _tyro(_any_command(), words, _PROGRAM, "Momentum SGD, measured.")
    got = f", got {first}{_guess(first, COMMANDS)}" if first else "."
    raise UsageError(
        f"Expected one of {{{', '.join(COMMANDS)}}}{got} Add --help for all options."
    )


def _guess(word: str, known: Iterable[str]) -> str:
    """Ends a clause, with the known word that a misspelled one probably means."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else "."


def _any_command() -> Any:
    """All commands as one type, each explained by its docstring's first paragraph."""
    commands = []
    for name, (kind, _) in COMMANDS.items():
        paragraph = (inspect.getdoc(kind) or "").split("\n\n")[0]
        summary = " ".join(paragraph.split())
        commands.append(
            Annotated[kind, tyro.conf.subcommand(name, description=summary)]
        )
    return reduce(operator.or_, commands)


def _tyro(
    kind: Any, words: Sequence[str], program: str, description: str
) -> tuple[Any, list[str]]:
    """What tyro reads from the words, and the words it doesn't know.

    tyro's public interface reports an error only as a box on stderr, colored if stdout
    is a terminal: the message is what stands between the box's title and its next rule.
    """
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                kind,
                args=words,
                prog=program,
                description=description,
                return_unknown_args=True,
                config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # --help has been printed
        box = Text.from_ansi(stderr.getvalue()).plain.splitlines()
        lines = [line.strip("│ ") for line in box[1:]]
        message = takewhile(_is_text, dropwhile(lambda line: not _is_text(line), lines))
        raise UsageError(f"{' '.join(message)} Add --help for all options.") from None


def _is_text(line: str) -> bool:
    """Whether a line of a box is neither empty nor a rule, in UTF-8 or in ASCII."""
    return bool(line.strip("─- "))


def configure() -> None:
    """Configures JAX for a command; call it before JAX looks for devices.

    Uses two CPU devices, which train faster than one device with all cores;
    JAX_NUM_CPU_DEVICES overrides the number, and other platforms ignore it. Caches
    compiled programs for the next command in the user's cache directory, or in
    JAX_COMPILATION_CACHE_DIR.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", 2)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = user_cache_path("optax_momentum") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(compiled))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    configure()
    exit_process(main())

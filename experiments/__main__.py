"""The command line: `python -m experiments COMMAND`; `--help` lists the commands."""

import contextlib
import difflib
import inspect
import io
import operator
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from itertools import dropwhile, takewhile
from typing import Annotated, Any, NamedTuple, NoReturn

import tyro
from platformdirs import user_cache_path
from rich.console import Console
from rich.text import Text

from experiments.bench.options import Bench
from experiments.compare.options import Compare
from experiments.conformance.options import BadInputs, Conformance
from experiments.data.prepare import Prepare
from experiments.distributed.environment import import_jax
from experiments.distributed.signals import ProcessLost, Stopped
from experiments.porting.options import Port
from experiments.records.config import UsageError
from experiments.reporting.index import Index
from experiments.reporting.streams import replace_streams, status_of
from experiments.speedrun.options import Speedrun
from experiments.studies.batch_size.options import BatchSize
from experiments.studies.claims.options import Claims
from experiments.studies.crossval.options import Crossval
from experiments.studies.lr_decay.options import LrDecay
from experiments.studies.sweep.options import Sweep
from experiments.studies.tune.options import Tune


class Command(NamedTuple):
    """A command's options, and the module whose function of its name runs it.

    The module is imported only then: JAX, SciPy and Matplotlib take seconds, which
    neither a help nor an error in the options should.
    """

    options: type
    module: str
    uses_jax: bool = True


COMMANDS = {
    "compare": Command(Compare, "experiments.compare.study"),
    "sweep": Command(Sweep, "experiments.studies.sweep.study"),
    "crossval": Command(Crossval, "experiments.studies.crossval.study"),
    "batch-size": Command(BatchSize, "experiments.studies.batch_size.study"),
    "lr-decay": Command(LrDecay, "experiments.studies.lr_decay.study"),
    "claims": Command(Claims, "experiments.studies.claims.study"),
    "tune": Command(Tune, "experiments.studies.tune.study"),
    "speedrun": Command(Speedrun, "experiments.speedrun.study"),
    "port": Command(Port, "experiments.porting.command", uses_jax=False),
    "index": Command(Index, "experiments.reporting.index", uses_jax=False),
    "prepare": Command(Prepare, "experiments.data.prepare", uses_jax=False),
    "bench": Command(Bench, "experiments.bench.command"),
    "conformance": Command(Conformance, "experiments.conformance.command"),
    "bad-inputs": Command(BadInputs, "experiments.conformance.bad_inputs.command"),
}

_PROGRAM = "python -m experiments"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack a character
            stream.reconfigure(errors="backslashreplace")
    try:
        name, options = _parse(sys.argv[1:] if arguments is None else arguments)
        if hasattr(options, "check"):
            options.check()
        _run(name, options)
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


def _run(name: str, options: Any) -> None:
    """Imports what the command needs, and runs it."""
    command = COMMANDS[name]
    if command.uses_jax:
        import_jax()
    function = getattr(import_module(command.module), name.replace("-", "_"))
    if not hasattr(options, "together"):
        function(options, Console())
        return
    from experiments.distributed.processes import is_first, join_processes

    with join_processes(name, options, options.together):
        function(options, Console(quiet=not is_first()))


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
        kind = COMMANDS[name].options
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


@dataclass(frozen=True)
class _Options:
    """Options of a command that is only listed, so that no parser for it is built."""


def _any_command() -> Any:
    """All commands as one type, each explained by its docstring's first paragraph."""
    commands = []
    for name, command in COMMANDS.items():
        paragraph = (inspect.getdoc(command.options) or "").split("\n\n")[0]
        summary = " ".join(paragraph.split())
        commands.append(
            Annotated[_Options, tyro.conf.subcommand(name, description=summary)]
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
    """Sets what a command needs of its environment, before JAX or Matplotlib reads it.

    Uses two CPU devices, which train faster than one device with all cores;
    JAX_NUM_CPU_DEVICES overrides the number, and other platforms ignore it. Caches
    compiled programs for the next command in the user's cache directory, or in
    JAX_COMPILATION_CACHE_DIR. Figures are drawn into files only, whatever MPLBACKEND
    says: the one that Jupyter sets exists only in its own environment.
    """
    os.environ["MPLBACKEND"] = "agg"
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = user_cache_path("optax_momentum") / "compiled"
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(compiled)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


def _exit(status: int) -> NoReturn:
    """Ends this process; if it joined others, an error doesn't wait for their end."""
    if "jax" in sys.modules:
        from experiments.distributed.processes import exit_process

        exit_process(status)
    sys.exit(status)


if __name__ == "__main__":
    configure()
    output = replace_streams()
    try:
        status = main()
    except SystemExit as stop:  # after a help
        status = int(stop.code or 0)
    _exit(status or status_of(output))

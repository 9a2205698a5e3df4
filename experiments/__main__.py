"""The commands: `python -m experiments compare`, `prepare`, `bench`, `conformance`."""

import contextlib
import difflib
import io
import os
import sys
from itertools import dropwhile, takewhile
from typing import Annotated

import jax
import tyro
from platformdirs import user_cache_path
from rich.console import Console

from experiments.bench import Bench, bench
from experiments.compare import Compare, compare
from experiments.config import UsageError
from experiments.conformance import Conformance, conformance
from experiments.prepare import Prepare, prepare

Command = (
    Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Conformance, tyro.conf.subcommand("conformance")]
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    console = Console()
    try:
        command, unknown = _parse(arguments)
        if unknown:
            raise UsageError(_unknown(unknown[0], command))
        match command:
            case Compare():
                compare(command, console)
            case Prepare():
                prepare(command.name, command.data_dir)
            case Bench():
                bench(command)
            case Conformance():
                conformance(command, console)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished runs are kept.", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str] | None) -> tuple[Command, list[str]]:
    """The command and the words that it doesn't know."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                Command,
                args=arguments,
                prog="python -m experiments",
                description="Momentum SGD, measured.",
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # after --help
        # A box: a heading, the message, a rule, more help; in ASCII where it must be.
        lines = [line.strip("│╭╮╰╯─- ") for line in stderr.getvalue().splitlines()]
        message = takewhile(bool, dropwhile(lambda line: not line, lines[1:]))
        raise UsageError(f"{' '.join(message)} Add --help for all options.") from None


def _unknown(option: str, command: object) -> str:
    """What to do about an option that the command doesn't have."""
    name = type(command).__name__.lower()
    known = [f"--{field.replace('_', '-')}" for field in vars(command)]
    close = difflib.get_close_matches(option, known, n=1)
    guess = f"; did you mean {close[0]}?" if close else "."
    return (
        f"{name} has no option {option}{guess} "
        f"`python -m experiments {name} --help` explains them all."
    )


def configure() -> None:
    """Sets JAX up for a command, before it has found its devices.

    Two CPU devices train faster than one that has all cores; other platforms take no
    notice. Compiled programs are kept in the user's cache directory, or in what
    JAX_COMPILATION_CACHE_DIR says, for the next command.
    """
    jax.config.update("jax_num_cpu_devices", 2)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = user_cache_path("optax_momentum") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(compiled))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


if __name__ == "__main__":
    configure()
    sys.exit(main())

"""Errors in a command line, and how a command configures JAX."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS, main

PROGRAM = """
import json
from experiments.__main__ import configure

configure()
import jax

doubled = jax.jit(lambda x: jax.lax.map(lambda row: row @ row.T, x)).lower
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
doubled(jax.ShapeDtypeStruct((3, 5, 7), "float32")).compile()
print(json.dumps([jax.device_count(), jax.config.jax_compilation_cache_dir]))
"""


# What the words alone decide. Every command's help is shown besides.
REFUSED = [
    ["comapre", "--epochs", "3"],
    ["compare", "--epoch", "3"],
    ["compare", "--arms", "adam"],
    ["compare", "--arms", ":optimizers"],
    ["compare", "--model", "network.py"],
    ["compare", "--batch-size", "0"],
    ["compare", "--processes", "2"],
    ["sweep", "--methods", "sgd", "adam"],
    ["sweep", "--sampler", "grid", "--trials", "10"],
    ["crossval", "--betas", "1"],
    ["crossval", "--folds", "1"],
    ["batch-size", "--effective-rates", "0.1"],
    ["lr-decay", "--schedules", "triangle"],
    ["tune", "--schedules", "triangle"],
    ["claims", "--seeds", "0"],
    ["prepare", "digits"],
    ["bench", "speed"],
]
LIGHT = """
import json, os, sys
from experiments.__main__ import COMMANDS, configure, main

configure()
statuses = []
for words in [[], *json.loads(sys.argv[1])]:
    statuses.append(main(words))
for words in ["--help"], *([command, "--help"] for command in COMMANDS):
    try:
        main(words)
    except SystemExit as stop:
        statuses.append(stop.code)
print(json.dumps([statuses, sorted(sys.modules), os.environ["MPLBACKEND"]]))
"""
HEAVY = {"jax", "flax", "scipy", "matplotlib", "orbax", "tensorflow_datasets"}
HEAVY |= {"optax", "sklearn", "PIL"}


class Terminal(io.StringIO):
    """A color terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def printed_lines(monkeypatch):
    """Runs a command that is refused; returns what both streams print, as lines."""

    def run(*words: str) -> list[str]:
        terminal = Terminal()
        with redirect_stdout(terminal), redirect_stderr(terminal):
            assert main([*words]) == 2
        return terminal.getvalue().splitlines()

    monkeypatch.setenv("TERM", "xterm-256color")
    return run


def test_a_misspelled_command_is_recognized(printed_lines):
    (line,) = printed_lines("comapre", "--epochs", "3")
    assert line.startswith("error: Expected one of {compare, sweep, ")
    end = "}, got comapre; did you mean compare? Add --help for all options."
    assert line.endswith(end)


def test_an_error_found_by_tyro_has_no_box_and_no_color(printed_lines):
    assert printed_lines("compare", "--epochs", "ten") == [
        "error: Error parsing --epochs: no type matching INT could be instantiated "
        "from ['ten']. Add --help for all options."
    ]


def test_an_error_starts_a_new_line(printed_lines):
    reading, error = printed_lines("compare", "--dataset", "nothing.npz")
    assert reading.startswith("Reading nothing.npz")
    assert error == "error: --dataset nothing.npz: there is no such file."


def test_helps_and_refused_words_import_nothing_slow():
    env = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    command, root = [sys.executable, "-c", LIGHT], Path(__file__).parents[2]
    out = subprocess.check_output(
        [*command, json.dumps(REFUSED)],
        env=env,
        cwd=root,
        text=True,
        stderr=subprocess.DEVNULL,
    )
    statuses, modules, backend = json.loads(out.splitlines()[-1])
    assert statuses == [2] * (1 + len(REFUSED)) + [0] * (1 + len(COMMANDS))
    assert not HEAVY & set(modules)
    assert backend == "agg"  # not Jupyter's, which this environment lacks


@pytest.mark.parametrize("lost", ["/dev/full", "pipe"])
def test_a_lost_output_is_reported_and_ends_nothing(tmp_path, lost):
    if lost == "pipe":
        reader, output = os.pipe()
        os.close(reader)
    else:
        output = os.open(lost, os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "index", "--directory", str(tmp_path)],
        stdout=output,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    os.close(output)
    reason = "Broken pipe" if lost == "pipe" else "No space left on device"
    assert done.stderr == f"standard output is lost ({reason}); continuing.\n"
    assert done.returncode == (0 if lost == "pipe" else 1)
    assert (tmp_path / "index.html").is_file()


def test_the_help_lists_every_command_with_its_summary(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in out
        assert (command.options.__doc__ or name).split()[0] in out


# JAX can be configured only once in a process.
@pytest.mark.slow
@pytest.mark.parametrize("chosen", [None, "mine"])
def test_compiled_programs_are_cached_for_the_user(tmp_path, chosen):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    if chosen is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / chosen)
    command, root = [sys.executable, "-c", PROGRAM], Path(__file__).parents[2]
    out = subprocess.check_output(command, env=env, cwd=root)
    devices, directory = json.loads(out.splitlines()[-1])
    assert devices == 2
    expected = tmp_path / (chosen or "optax_momentum/compiled")
    assert Path(directory) == expected
    assert list(expected.glob("*-cache"))

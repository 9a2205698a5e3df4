"""Fuzzing command lines: no words and no files make a command end in a traceback.

Every run draws the same examples. Nothing trains: a command is interrupted before it
would compile anything.
"""

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.image_folders import write_pets
from support.small_images import random_images

from experiments.__main__ import COMMANDS, main
from experiments.bench import command as bench
from experiments.conformance import command
from experiments.conformance.bad_inputs import libraries
from experiments.data import prepare
from experiments.studies.claims import record
from experiments.training import startup_check

NUMBERS = ["0", "-1", "0.5", "1e-320", "1e-45", "1e300", "1e400", "nan", "-inf", "1_6"]
NUMBERS += ["0.99999998", "٣", "0x10", "1e3", "9" * 50, "9" * 400, "9" * 5_000]
NAMES = ["caf\udce9.npz", "a\nb", "\x1b[2J", "words.npz", "./mixed", "mnits", "adam"]
NAMES += ["cifar10", "cifar10/..", "cifar10/3"]
PATHS = ["words.npz", "words.npz/new", ".", "~nobody/x", "n" * 300, "n" * 300 + ".npz"]
FILES = ["raises.py:arms", "odd.py:arms", "arms.py:none", "loop.py:arms", "pets:x", ":"]
FILES += ["n" * 300 + ".py:arms", "arms.py:"]
BITS = ["", " ", "-", "--", "-h", "--help", "=", "--=", "a=b", "[/]", "[bold]", "$x$"]
# A shell can pass any bytes but 0; a slash could lead out of the directory.
BYTES = st.binary(max_size=9).map(lambda some: os.fsdecode(some.replace(b"\0", b"")))
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9)
STRANGE = (BYTES | TEXT).map(lambda word: word.replace("/", "|"))
WORDS = st.sampled_from(NUMBERS + NAMES + PATHS + FILES + BITS) | STRANGE
USER_CODE = """
import optax
from flax import linen
def arms(rate): return {"[/] $": optax.sgd(rate)}
def network(shape, classes, rngs):
    return linen.Sequential([lambda x: x.reshape(len(x), -1), linen.Dense(classes)])
"""
# Valid values of the options; all others take a number.
VALID = {
    "arms": ["storage", "arms.py:arms"],
    "batch_sizes": ["16 32", "128"],
    "beta": ["0.5", "0.9999999"],
    "betas": ["0.5 0.9", "0.9999999"],
    "data_dir": ["nothing"],
    "dataset": ["./pets", "digits", "data.npz"],
    "directory": ["."],
    "effective_rate": ["0.1 0.2", "1e-6 1e4"],
    "effective_rates": ["0.1 0.2", "1e-30 1e30"],
    "learning_rate": ["0.1", "1e-30"],
    "methods": ["sgd qhm", "sgd"],
    "model": ["arms.py:network"],
    "name": ["mnist", "digits"],
    "nonfinite": ["skip"],
    "one_minus_beta": ["0.1 0.2", "1e-4 1"],
    "peers": ["none"],
    "preset": ["smoke", "default"],
    "sampler": ["grid", "sobol"],
    "schedules": ["cosine step"],
    "image_size": ["20", "24"],
    "skip_broken": [""],
    "skip_broken_up_to": ["0.3", "1"],
    "tensorboard": [""],
    "what": ["train", "update"],
}


def option(name: str) -> st.SearchStrategy[list[str]]:
    """An option with a valid value, or with any words."""
    valid = st.sampled_from(VALID.get(name, ["1", "2"])).map(str.split)
    any_words = st.lists(WORDS, max_size=3) | WORDS.map(lambda word: [word])
    if name == "peers":  # must not name a program that exists
        any_words = st.sampled_from(["", "words.npz", "."]).map(lambda word: [word])
    flags = [] if name in ("name", "what") else [f"--{name.replace('_', '-')}"]
    return (valid | valid | any_words).map(lambda words: [*flags, *words])


def line(command: str) -> st.SearchStrategy[list[str]]:
    """A command with some of its options, and sometimes with another word."""
    names = COMMANDS[command][0].__dataclass_fields__
    options = st.lists(st.one_of([option(name) for name in names]), max_size=4)
    first = ["--dataset", "data.npz"] if "dataset" in names else []
    rest = st.just([]) | st.just([]) | st.lists(WORDS, max_size=1)
    parts = st.tuples(options, rest.filter(lambda words: "--peers" not in words))
    return parts.map(lambda p: [command, *first, *(w for o in p[0] for w in o), *p[1]])


def run(words: list[str]) -> tuple[int | str | None, str]:
    """Exit status and stderr of the command, whose stdout can't encode every name."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors)
        for errors in ("strict", "backslashreplace")
    )
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as stop:
            assert {"-h", "--help"} & {*words}
            status = stop.code
    for stream in (out, err):
        stream.seek(0)
    _, errors = out.read(), err.read()  # both can be decoded
    return status, errors


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A current directory with good and bad data; slow functions are interrupted."""

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    def contents(path: Path) -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in path.iterdir() if p.is_file()}

    root = tmp_path_factory.mktemp("fuzzing")
    images, labels = random_images(7, 200, 20, 20), np.arange(200) % 3
    np.savez(root / "data.npz", images=images, labels=labels)
    (root / "words.npz").write_text("words")
    write_pets(root / "pets", 6)
    write_pets(root / "mixed")
    (root / "mixed" / "cats" / "0.png").write_text("words")
    (root / "raises.py").write_text("raise SystemExit(3)")
    (root / "odd.py").write_text("def arms(rate): return {'a\\nb': rate}")
    (root / "arms.py").write_text(USER_CODE)
    (root / "loop.py").symlink_to("loop.py")
    before = contents(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TFDS_DATA_DIR", "n" * 300)
        patch.setattr(startup_check, "check", interrupt)  # before anything is compiled
        patch.setattr(command, "examine", interrupt)
        patch.setattr(libraries, "optax_momentum_", interrupt)
        patch.setattr(prepare, "find_spec", lambda name: None)
        patch.setattr(record, "read", interrupt)
        for name in [name for name in vars(bench) if name.startswith("bench_")]:
            patch.setattr(bench, name, interrupt)
        yield root
    assert contents(root).items() >= before.items()


few = settings(derandomize=True, deadline=None, max_examples=30, database=None)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@few
@given(data=st.data())
def test_no_command_line_ends_in_a_traceback(directory, command, data):
    words = data.draw(line(command))
    status, err = run(words)
    assert status in (0, 2, 130)
    if status == 2:
        assert err.startswith("error: ") and len(err) > 30
        assert err.endswith("\n") and err[:-1].isprintable()


@few
@given(st.lists(WORDS, max_size=3))
@example([])
@example(["compare" * 1_000])
def test_no_words_without_a_command_end_in_a_traceback(directory, words):
    assert run(words)[0] in (0, 2, 130)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_no_impossible_path_ends_in_a_traceback(directory, command):
    names = COMMANDS[command][0].__dataclass_fields__
    first = {"prepare": ["mnist"], "bench": ["train"]}.get(command, [])
    paths = {"arms", "data_dir", "dataset", "directory", "model", "output"}
    for name in paths & {*names}:
        for word in FILES if name in ("arms", "model") else PATHS:
            words = [command, *first, f"--{name.replace('_', '-')}", word]
            assert run(words)[0] in (0, 2, 130)

"""Mutation testing: breaks the library in twelve ways; each must fail a test.

    python tests/mutants.py

Every mutant is an edited copy of `optax_momentum`, which comes first on the path of the
tests below. An edit whose text is not in the library is an error, because the mutant
would be the unchanged library.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = ["tests/library/testing/test_testing.py", "-k", "our_methods"]
TEST_FAILED = 1  # pytest's exit status; from 2 on, the tests could not be run


class Edit(NamedTuple):
    """Replaces `old`, which occurs exactly once in the file, with `new`."""

    file: str
    old: str
    new: str


MUTANTS = {
    "the buffer is zeroed at every step": [
        Edit(
            "_methods/momentum.py",
            "store(storage, m, stored",
            "store(storage, 0 * m, stored",
        )
    ],
    "beta is ignored": [
        Edit("_methods/momentum.py", "m = scale(now.beta, m)", "m = scale(0.9, m)")
    ],
    "Nesterov reads the old buffer": [
        Edit(
            "_methods/momentum.py",
            "u = scale(now.from_buffer, m)",
            "old = buffer.astype(dtype)\n    plain = now.from_gradient == 0\n"
            "    u = scale(now.from_buffer, m if plain else old)",
        )
    ],
    "Nesterov is applied twice": [
        Edit(
            "_methods/conventions.py",
            "from_buffer=select(nesterov, beta, 1.0),\n"
            "            from_gradient=select(nesterov, 1.0, 0.0),",
            "from_buffer=select(nesterov, beta * beta, 1.0),\n"
            "            from_gradient=select(nesterov, 1.0 + beta, 0.0),",
        )
    ],
    "the first step is dampened too": [
        Edit(
            "_methods/conventions.py",
            "select(step == 0, 1.0, 1 - promote_scalar(dampening))",
            "1 - promote_scalar(dampening)",
        )
    ],
    "the learning rate is inside the buffer": [
        Edit(
            "_methods/sgd.py",
            "momentum.update(None if beta is None else u, state)",
            "momentum.update(_multiply(rate_at(step), u), state)",
        ),
        Edit("_methods/sgd.py", "_multiply(-rate_at(step), u)", "_multiply(-1.0, u)"),
    ],
    "weight decay comes after the momentum": [
        Edit("_methods/sgd.py", 'if place == "coupled"', "if place == 0"),
        Edit(
            "_methods/sgd.py",
            'if place == "decoupled"',
            'if place in ("coupled", "decoupled")',
        ),
    ],
    "the average lacks its 1 - beta": [
        Edit(
            "_methods/conventions.py",
            "return Coefficients(beta, gain=1 - beta)",
            "return Coefficients(beta, gain=1.0)",
        )
    ],
    "the debiasing counts one step too many": [
        Edit(
            "_methods/momentum.py",
            "/ weight",
            "/ (scale(now.beta, weight) + scale(now.gain, one))",
        )
    ],
    "the buffer takes the gradients' dtype": [
        Edit(
            "_methods/momentum.py",
            "store(storage, m, stored, step, path)",
            "m.astype(u.dtype)",
        )
    ],
    "the update has the other sign": [
        Edit("_methods/momentum.py", "return u.astype", "return -u.astype")
    ],
    "the state comes back unchanged": [
        Edit(
            "_methods/momentum.py",
            "return emitted, MomentumState(step, buffer, weight)",
            "return emitted, state",
        )
    ],
}


def main() -> int:
    """Runs all mutants; returns exit status 0 if every one was killed."""
    if not passes([]):
        print("The tests fail on the unchanged library, so no mutant can be judged.")
        return 1
    killed = 0
    for name, edits in MUTANTS.items():
        start = time.perf_counter()
        survived = passes(edits)
        killed += not survived
        verdict = "SURVIVED" if survived else "killed"
        print(f"{verdict}: {name} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"{killed}/{len(MUTANTS)} mutants killed")
    return 0 if killed == len(MUTANTS) else 1


def passes(edits: list[Edit]) -> bool:
    """Whether the tests pass on a copy of the library with these edits.

    Raises:
      SystemExit: the text of an edit does not occur exactly once, or the tests cannot
        run.
    """
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "optax_momentum"
        shutil.copytree(ROOT / library.name, library)
        for edit in edits:
            path = library / edit.file
            source = path.read_text()
            if source.count(edit.old) != 1:
                raise SystemExit(
                    f"{edit.file} must contain this text once, not "
                    f"{source.count(edit.old)} times:\n{edit.old}\n"
                    "The mutant is stale: update it."
                )
            path.write_text(source.replace(edit.old, edit.new))
        # -P keeps the current directory, with the unedited library, off the path.
        # With several processes, a failure would stop the others with exit status 2.
        words = "-P -m pytest -x -q --numprocesses=0 -p no:cacheprovider"
        finished = subprocess.run(
            [sys.executable, *words.split(), *TESTS],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": directory},
            capture_output=True,
            text=True,
        )
    if finished.returncode > TEST_FAILED:
        raise SystemExit(f"the tests cannot run:\n{finished.stdout}{finished.stderr}")
    return finished.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

"""A peer's process: it answers line by line, and says why it ended."""

import sys
from pathlib import Path

import pytest

from experiments.peers import process
from experiments.peers.process import CannotRun

PYTHON = Path(sys.executable)
ECHO = """
import sys
print("echo of", *sys.argv[1:], flush=True)
for line in sys.stdin:
    if "end" in line:
        sys.exit(line.strip() * len(sys.argv[1:]))
    print("complaint" * 20_000, file=sys.stderr)
    print(line.upper(), end="", flush=True)
"""


@pytest.fixture(autouse=True)
def echo(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "PROGRAMS", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)


def test_it_answers_line_by_line_even_if_stderr_is_long():
    with process.start(PYTHON, "echo.py", "a", "b") as peer:
        assert peer.greeting == "echo of a b"
        assert [peer.ask(line) for line in ("one", "two")] == ["ONE", "TWO"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["says why"], "the end"), ([], "it ended with status 1.")],
)
def test_asking_a_process_that_ended_says_why_every_time(arguments, reason):
    with process.start(PYTHON, "echo.py", *arguments) as peer:
        for _ in range(2):
            with pytest.raises(CannotRun) as caught:
                peer.ask("the end")
            message = f"--peers {PYTHON} can't run echo.py: {reason}"
            assert str(caught.value) == message


def test_it_ends_with_its_context():
    with process.start(PYTHON, "echo.py") as peer:
        ask = peer.ask
    with pytest.raises(ValueError, match="closed file"):
        ask("one")

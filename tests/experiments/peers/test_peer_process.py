"""A peer's process: what it is asked and answers, and how it may end."""

import sys
from pathlib import Path

import pytest

from experiments.peers import peer_process
from experiments.peers.peer_process import CannotRun

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
    monkeypatch.setattr(peer_process, "PROGRAMS", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)


def test_peer_process_answers_line_by_line_however_much_it_complains():
    with peer_process.start(PYTHON, "echo.py", "a", "b") as process:
        assert process.greeting == "echo of a b"
        assert [process.ask(line) for line in ("one", "two")] == ["ONE", "TWO"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["says why"], "the end"), ([], "it ended with status 1.")],
)
def test_peer_process_that_ends_says_why_then_and_later(arguments, reason):
    with peer_process.start(PYTHON, "echo.py", *arguments) as process:
        for _ in range(2):
            with pytest.raises(CannotRun) as caught:
                process.ask("the end")
            message = f"--peers {PYTHON} can't run echo.py: {reason}"
            assert str(caught.value) == message


def test_peer_process_ends_with_its_context():
    with peer_process.start(PYTHON, "echo.py") as process:
        ask = process.ask
    with pytest.raises(ValueError, match="closed file"):
        ask("one")

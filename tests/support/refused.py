"""A command that is refused: in one line, and with every file as it was."""

from pathlib import Path

import pytest

from experiments.__main__ import main


def refusal(capsys: pytest.CaptureFixture, *words: str) -> str:
    """What the command says on stderr, after all that no refusal may do."""
    before = files()
    assert main([*words]) == 2
    assert files() == before
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("error: ")[:-1]


def files() -> dict[Path, bytes]:
    """All below the current directory, with their content."""
    return {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}

"""Runs a command that must be refused: in one line, with every file unchanged."""

from pathlib import Path

import pytest

from experiments.__main__ import main


def refusal(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The error message of the command, without "error: "."""
    before = files()
    assert main([*words]) == 2
    assert files() == before
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("error: ")[:-1]


def files() -> dict[Path, bytes]:
    """The content of every file below the current directory."""
    return {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}

"""`bench --peers`: an interpreter that can't run the programs is reported."""

import sys

import pytest

from experiments.__main__ import main


@pytest.mark.parametrize(
    ("benchmark", "python", "message"),
    [
        ("train", "no-such-python", "no-such-python is not a Python interpreter: No"),
        ("train", sys.executable, "can't run train_keras.py: ModuleNotFoundError: No"),
        ("sweep", sys.executable, "can't run train_pytorch.py: ModuleNotFoundError"),
        ("update", sys.executable, "can't run update_pytorch.py: ModuleNotFoundError"),
    ],
)
def test_peers_that_cannot_run_are_reported_in_one_line(
    benchmark, python, message, capsys
):
    assert main(["bench", benchmark, "--peers", python]) == 2
    err = capsys.readouterr().err
    assert f"--peers {python}" in err and message in err
    assert err.count("\n") == 1


def test_bench_accuracy_needs_a_peer(capsys):
    assert main(["bench", "accuracy"]) == 2
    assert "needs --peers PYTHON: the accuracy to reach" in capsys.readouterr().err

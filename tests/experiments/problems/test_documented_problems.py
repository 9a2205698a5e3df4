"""The problems in README.md and docs/recipes.md train as they are printed."""

import json
import re
from pathlib import Path

import pytest

from experiments.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(
    ("document", "name", "metric"),
    [
        ("README.md", "problem.py", "rmse"),
        ("docs/recipes.md", "equinox_problem.py", "accuracy"),
    ],
)
def test_a_documented_problem_trains(tmp_path, document, name, metric):
    text = (ROOT / document).read_text()
    [code] = re.findall(f"```python\n(# {name}\n.*?)```", text, re.S)
    path, output = tmp_path / name, tmp_path / "output"
    path.write_text(code)
    command = ["compare", "--problem", f"{path}:problem", "--output", str(output)]
    command += "--epochs 5 --seeds 1 --learning-rate 0.03".split()
    assert main(command) == 0
    lines = (output / "runs.jsonl").read_text().splitlines()
    last = [json.loads(line)["epochs"][-1][f"validation_{metric}"] for line in lines]
    assert max(last) > 0.9 if metric == "accuracy" else min(last) < 0.4, last

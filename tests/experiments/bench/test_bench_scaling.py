"""`bench scaling`: the measurements, and the model on paper."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.bench import exchange, scaling, scaling_model
from experiments.distributed.devices import device_mesh

pytestmark = pytest.mark.usefixtures("small_network", "no_rest")

CLUSTER = scaling_model.Cluster("a", 4, 100.0, 8e9, 1e9, 1e-4)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(scaling, "IMAGES", 64)
    monkeypatch.setattr(scaling, "BATCH_SIZE", 16)
    monkeypatch.setattr(exchange, "NBYTES", (4096, 8192))


@pytest.mark.slow
def test_bench_scaling_prints_json_lines_and_tables(small, capsys):
    assert main(["bench", "scaling"]) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    measured = [record for record in records if record["benchmark"] == "scaling"]
    keys = ("scaling", "devices", "batch_size", "state")
    assert [tuple(record[key] for key in keys) for record in measured] == [
        ("strong", 1, 16, "whole"),
        ("strong", 1, 16, "divided"),
        ("strong", 2, 16, "whole"),
        ("strong", 2, 16, "divided"),
        ("weak", 1, 16, "whole"),
        ("weak", 1, 16, "divided"),
        ("weak", 2, 32, "whole"),
        ("weak", 2, 32, "divided"),
    ]
    for record in measured:
        assert record["slowest"] <= record["images_per_second"] <= record["fastest"]
    assert measured[0]["times_one_device"] == measured[4]["times_one_device"] == 1
    exchanges = [record for record in records if record["benchmark"] == "exchange"]
    assert [(record["exchange"], record["bytes"]) for record in exchanges] == [
        ("all-reduce", 4096),
        ("in two halves", 4096),
        ("all-reduce", 8192),
        ("in two halves", 8192),
    ]
    assert "strong scaling, images per second" in err and "on paper" in err


@pytest.mark.parametrize("devices", [1, 2])
def test_training_is_the_same_with_the_momentum_whole_or_divided(devices, small):
    ends = []
    for prepare in (scaling.whole, scaling.divided):
        epoch, state = prepare(device_mesh(count=devices), 16)
        start = jax.tree.map(np.asarray, state[0])
        params = epoch(state)[0]
        for leaf in jax.tree.leaves(params):
            assert len(leaf.sharding.device_set) == devices
        ends.append((start, params))
    (start, want), (_, got) = ends
    moved = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), want, start)
    assert min(jax.tree.leaves(moved)) > 1e-3
    want = jax.tree.map(lambda x: x[0], want)  # of the only lane
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), got, want)


def test_both_exchanges_sum_over_the_devices():
    for sum_up in (exchange.all_reduce, exchange.in_halves):
        got = jax.vmap(sum_up, axis_name="data")(jnp.array([[1.0, 2.0], [4.0, 8.0]]))
        np.testing.assert_array_equal(got, [[5.0, 10.0]] * 2)


def test_resnet50_has_25_557_032_parameters():
    leaves = jax.tree.leaves(scaling_model.resnet50())
    assert sum(math.prod(leaf.shape) for leaf in leaves) == 25_557_032


def test_an_exchange_takes_the_links_inside_a_host_and_then_those_outside():
    assert scaling_model.exchange_seconds(CLUSTER, 800, 1) == 0
    two = 2 * 1e-4 + 800 / 8e9
    assert scaling_model.exchange_seconds(CLUSTER, 800, 2) == pytest.approx(two)
    # With 4 hosts of 4 devices, 6/4 of the bytes go over each of the two links.
    both = 8 * 1e-4 + 1.5 * 1e9 / 8e9 + 1.5 * 1e9 / 1e9
    assert scaling_model.exchange_seconds(CLUSTER, 10**9, 16) == pytest.approx(both)


def test_steps_on_paper_fix_the_images_in_all_or_on_each_device(monkeypatch):
    monkeypatch.setattr(scaling_model, "CLUSTERS", (CLUSTER,))
    records: list[Any] = list(scaling_model.steps())
    steps = {(step["scaling"], step["devices"]): step for step in records}
    assert steps["weak", 1]["step_ms"] == 320.0
    assert steps["strong", 1]["step_ms"] == 81920.0
    for (name, devices), step in steps.items():
        compute = 320.0 if name == "weak" else 81920.0 / devices
        assert step["step_ms"] == pytest.approx(compute + step["exchange_ms"], abs=0.06)
        assert step["efficiency"] == pytest.approx(compute / step["step_ms"], rel=0.02)
        assert step["efficiency"] <= step["if_overlapped"] <= 1


def test_states_on_paper_divide_what_their_axes_allow():
    states: list[Any] = list(scaling_model.states())
    nbytes = 4 * 25_557_032 / 1e6
    for state in states:
        divided = state["mb_undivided"] - state["mb_of_it_whole"]
        share = state["mb_of_it_whole"] + divided / state["devices"]
        assert state["mb_divided"] == pytest.approx(share, abs=0.002)
    for state in states[:5]:
        assert state["storage"] == "float32"
        assert state["mb_undivided"] == pytest.approx(nbytes, abs=0.001)
    for state in states[5:]:
        assert state["storage"] == "int8"
        assert nbytes / 4 < state["mb_undivided"] < nbytes / 3.7


def test_the_page_has_the_numbers_of_the_model():
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()
    steps: list[Any] = list(scaling_model.steps())
    half = len(scaling_model.DEVICES)
    for first in range(0, len(steps), 2 * half):
        for strong, weak in zip(
            steps[first:][:half], steps[first + half :][:half], strict=True
        ):
            assert (strong["scaling"], weak["scaling"]) == ("strong", "weak")
            row = [weak["cluster"], weak["devices"], weak["mb_inside"]]
            row += [weak["mb_outside"], weak["exchange_ms"]]
            for step in (weak, strong):
                share = f"{step['efficiency']} ({step['if_overlapped']})"
                row += [step["step_ms"], share]
            assert cells(row) in page
    for state in scaling_model.states():
        assert cells([*state.values()][1:]) in page


def cells(row: list[Any]) -> str:
    texts = (f"{x:,}" if isinstance(x, int | float) else x for x in row)
    return f"\n| {' | '.join(texts)} |\n"

"""The command as a whole, on small images: its runs, its refusals and its page."""

import json
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from rich.console import Console
from support.usage_errors import usage_error

from experiments.data.examples import Examples
from experiments.distributed.devices import device_mesh
from experiments.distributed.signals import Stopped
from experiments.speedrun import study
from experiments.speedrun.options import Speedrun
from experiments.speedrun.recipe import Recipe, length
from experiments.speedrun.steps import initial_state, order_of, run_on_mesh
from experiments.training import epochs
from experiments.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> str:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "small.npz"
    arrays = {
        "x_train": rng.integers(0, 256, (50, 12, 12, 3)).astype(np.uint8),
        "x_test": rng.integers(0, 256, (16, 12, 12, 3)).astype(np.uint8),
        "y_train": np.arange(50) % 3,
        "y_test": np.arange(16) % 3,
    }
    np.savez(path, **arrays)
    return str(path)


def options(dataset, output, **changes) -> Speedrun:
    settings = {"epochs": 2.4, "batch_size": 8, "save_every": 0.0, **changes}
    return Speedrun(dataset=dataset, output=output, **settings)


def records(output) -> dict:
    record = json.loads((output / "seed-0.json").read_text())
    timed = [name for name in record if "second" in name or "flops" in name]
    for name in [*timed, "step_parts", "resumed"]:
        del record[name]
    return record


@pytest.mark.slow
def test_a_stopped_run_resumes_bit_for_bit(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(epochs, "_CALL_SECONDS", 0.0)
    whole = study.speedrun(options(dataset, tmp_path / "whole"), Console())
    assert whole == tmp_path / "whole" / "report.html"
    saved = Checkpoints.save
    saves = 0

    def stop_later(self, tree, position):
        nonlocal saves
        saves += 1
        saved(self, tree, position)
        if saves in (3, 13):  # within the first epoch, within the shorter last one
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "save", stop_later)
    for _ in range(2):
        with pytest.raises(Stopped):
            study.speedrun(options(dataset, tmp_path / "cut"), Console())
    study.speedrun(options(dataset, tmp_path / "cut"), Console())
    assert "Resuming" in capsys.readouterr().out
    assert records(tmp_path / "cut") == records(tmp_path / "whole")
    assert not [*(tmp_path / "cut").glob("checkpoints/*")]

    # More seeds keep the finished one, and the page has them all.
    study.speedrun(options(dataset, tmp_path / "cut", seeds=2), Console())
    assert "Seed 0 is finished and kept." in capsys.readouterr().out
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text())
    assert summary["summary"].startswith("2 runs of 15 steps: ")
    curve, costs, _ = summary["sections"]
    assert len(curve["figures"][0]["table"]["rows"]) == 2 * 3
    parts = [row[0] for row in costs["figures"][0]["table"]["rows"]]
    assert {"whitening", "group 3", "momentum and Lookahead"} <= {*parts}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 64}, "more than the 50 training images"),
        ({"batch_size": 7}, "can't be divided among 2 devices; choose 6"),
        ({"epochs": 0.0}, "--epochs must lie in"),
        ({"target": 94.0}, "--target must lie in (0, 1), got 94.0"),
        ({"seeds": 0}, "--seeds"),
    ],
)
def test_what_is_impossible_is_refused(changes, said, dataset, tmp_path):
    chosen = options(dataset, tmp_path / "out", **changes)
    assert said in usage_error("", study.speedrun, chosen, Console())


def test_a_damaged_record_and_another_plan_are_refused(dataset, tmp_path):
    (tmp_path / "seed-0.json").write_text('{"seed": 0}')
    chosen = options(dataset, tmp_path)
    error = usage_error(
        str(tmp_path / "seed-0.json"), study.speedrun, chosen, Console()
    )
    assert "is not a whole record of this program" in error
    chosen = options(dataset, tmp_path, epochs=3.0)
    error = usage_error(f"--output {tmp_path}", study.speedrun, chosen, Console())
    assert "holds runs of another plan" in error


@pytest.mark.slow
def test_steps_on_two_devices_equal_those_on_one():
    """Statistics, gradients and shifts are those of the whole batch."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    labels = rng.integers(0, 4, 40).astype(np.int32)
    train = Examples(*map(jnp.asarray, (images, labels)))
    recipe = Recipe((12, 12, 3), 4, 16, length(40, 16, 3), jnp.float32)
    order = order_of(recipe, 40, 5, 0)
    order = order._replace(noise=jax.random.key_data(order.noise))
    start = jax.tree.map(np.asarray, (initial_state(recipe, 0, train), order))

    def two_steps(devices):
        @jax.jit
        def run(state, order):
            noise = jax.random.wrap_key_data(order.noise, impl="threefry2x32")
            order, numbers = order._replace(noise=noise), (jnp.int32(0), jnp.int32(2))
            mesh = device_mesh(count=devices)
            return run_on_mesh(recipe, mesh, state, order, *numbers, train)

        return run(*start)

    one, two = map(two_steps, (1, 2))
    for (path, a), b in zip(
        jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True
    ):
        np.testing.assert_allclose(a, b, 1e-3, 1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_the_steps_can_be_exported_for_accelerators():
    """In bfloat16, with the convolutions and poolings that those have kernels for."""
    recipe = Recipe((12, 12, 3), 4, 8, length(16, 8, 1), jnp.bfloat16)
    images = jnp.zeros((16, 12, 12, 3), jnp.uint8)
    train = Examples(images, jnp.zeros(16, jnp.int32))
    state, order = initial_state(recipe, 0, train), order_of(recipe, 16, 0, 0)
    steps = jax.jit(partial(run_on_mesh, recipe, device_mesh()))
    exported = export.export(steps, platforms=["cuda", "tpu"])(
        state, order, jnp.int32(0), jnp.int32(2), train
    )
    program = exported.mlir_module()
    assert "stablehlo.convolution" in program and "bf16" in program

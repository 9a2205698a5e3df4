"""Commands under the settings that environment variables give JAX."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from support import small_images

from experiments.__main__ import main
from experiments.data.examples import Examples
from experiments.networks import mlp
from experiments.networks.network import random_key
from experiments.problems.image_classification import image_classification
from experiments.records import runs
from experiments.studies import lifecycle
from experiments.training import step

pytestmark = pytest.mark.usefixtures("small_network")

# What the variables of these names set; all but the first two change no record.
SETTINGS = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_debug_nans": True,
    "jax_numpy_dtype_promotion": "strict",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    (directory / "mine.py").write_text(ONE_OPTIMIZER)
    return small_images.write(directory / "data.npz")


@pytest.fixture
def setting():
    """Sets one value for all threads, as a variable would."""
    previous = {}

    def set_value(name, value):
        previous[name] = jax.config.values[name]
        jax.config.update(name, value)
        jax.clear_caches()

    yield set_value
    for name, value in previous.items():
        jax.config.update(name, value)
    jax.clear_caches()


# Of seed 7: the key of epoch 2, and initial weights of the small network.
ORDER = [3281109246, 2806878594]
KERNEL = [0.29401227831840515, -0.2896101176738739]
ONE_OPTIMIZER = """
from optax_momentum import keras

def optimizers(learning_rate):
    return {"keras": keras(learning_rate, 0.9)}
"""


def compare(dataset: Path, output: Path) -> list[str]:
    """The words of a command that trains one run."""
    words = "compare --preset smoke --epochs 1 --seeds 1 --batch-size 16 --dataset"
    arms = f"{dataset.with_name('mine.py')}:optimizers"
    return [*words.split(), str(dataset), "--arms", arms, "--output", str(output)]


def losses(output: Path) -> list[float]:
    lines = (output / "runs.jsonl").read_text().splitlines()
    return [json.loads(line)["test_loss"] for line in lines]


@pytest.fixture(scope="module")
def usual(dataset, tmp_path_factory):
    """The directory of a run under JAX's defaults."""
    output = tmp_path_factory.mktemp("usual")
    assert main(compare(dataset, output)) == 0
    return output


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_compare_runs_under_every_setting(dataset, tmp_path, setting, usual, name):
    setting(name, SETTINGS[name])
    assert main(compare(dataset, tmp_path)) == 0
    expected = pytest.approx(losses(usual), rel=1e-6)
    drawn_alike = name != "jax_threefry_partitionable"
    assert (losses(tmp_path) == expected) == drawn_alike


@pytest.mark.slow
def test_a_study_runs_with_x64(dataset, tmp_path, setting):
    setting("jax_enable_x64", True)
    words = "lr-decay --preset smoke --epochs 1 --seeds 2 --batch-size 16 --dataset"
    assert main([*words.split(), str(dataset), "--output", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_x64", True),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
    ],
)
def test_runs_of_other_numerics_are_not_mixed(
    dataset, setting, usual, capsys, name, value
):
    before = (usual / "runs.jsonl").read_bytes()
    setting(name, value)
    assert main(compare(dataset, usual)) == 2
    error = capsys.readouterr().err
    assert f" without {name}; this one is " in error
    assert f" with {name} {value!r}. Choose another --output.\n" in error
    assert (usual / "runs.jsonl").read_bytes() == before


def test_a_change_of_versions_or_devices_is_reported(
    dataset, usual, capsys, monkeypatch
):
    there = {**runs.environment(), "jax": "0.0.1"}
    monkeypatch.setattr(runs, "environment", lambda: there)
    here = {**lifecycle.runs_on(), "devices": "8"}
    monkeypatch.setattr(lifecycle, "runs_on", lambda: here)
    assert main(compare(dataset, usual)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"They ran with jax {jax.__version__}, devices 2; now with jax 0.0.1" in out
    assert ", devices 8: digits may differ." in out


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_draw_the_bits_that_they_drew(setting, impl):
    """As `jax.random.key` did under the default implementation of jax 0.10.2."""
    setting("jax_default_prng_impl", impl)
    assert jax.random.key_data(random_key(7)).tolist() == [0, 7]
    order = step.order_key(7, 2)
    assert jax.random.key_data(order).tolist() == ORDER
    images = Examples(jnp.zeros((1, 2, 2, 1)), jnp.zeros(1, jnp.int32))
    params, _ = step.initial_variables(image_classification(mlp, 2), images, 7)
    assert params["dense2"]["kernel"][0].tolist() == pytest.approx(KERNEL)

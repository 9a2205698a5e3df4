"""Preparing a data set, with a stand-in for the download and for TensorFlow."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from support.prepared_dataset import random_images, write_prepared

from experiments.data import prepare as module
from experiments.data.prepare import prepare
from experiments.records.config import UsageError

IMAGES = random_images(31, 4, 6, 5, 3), np.arange(4)
SPLITS = {"train": IMAGES, "test": IMAGES}


def stand_in(monkeypatch, action, full_name="cifar10/3.0.2"):
    """Replaces tfds.builder; `action(data_dir)` is its download and preparation."""

    def builder(name, *, data_dir, file_format):
        assert full_name.startswith(name)
        assert file_format.value == "array_record"
        return SimpleNamespace(
            download_and_prepare=lambda: action(data_dir),
            info=SimpleNamespace(full_name=full_name),
        )

    monkeypatch.setattr(tfds, "builder", builder)
    monkeypatch.setattr(module, "find_spec", lambda name: name)


def test_prepare_prints_where_the_set_is_and_what_to_do_next(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "cifar10" / "3.0.2"
    stand_in(monkeypatch, lambda _: write_prepared(folder, SPLITS))
    prepare("cifar10", tmp_path)
    assert capsys.readouterr().out == (
        f"cifar10 is prepared: {folder}\n"
        "Next: uv run python -m experiments compare --dataset cifar10 "
        f"--data-dir {tmp_path}\n"
    )


def test_prepare_names_the_configuration_that_was_chosen(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "emnist" / "byclass" / "3.1.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    action = lambda _: write_prepared(folder, SPLITS)  # noqa: E731
    stand_in(monkeypatch, action, "emnist/byclass/3.1.0")
    prepare("emnist", None)
    assert capsys.readouterr().out == (
        f"emnist/byclass is prepared: {folder}\n"
        "Next: uv run python -m experiments compare --dataset emnist/byclass\n"
    )


def test_prepare_leaves_a_prepared_set_alone(tmp_path: Path, monkeypatch, capsys):
    write_prepared(tmp_path / "cifar10" / "3.0.2", SPLITS)
    stand_in(monkeypatch, lambda _: pytest.fail("downloaded"))
    prepare("cifar10", tmp_path)
    out = capsys.readouterr().out
    assert out.startswith(f"cifar10 was prepared already: {tmp_path}/cifar10/3.0.2\n")


@pytest.mark.parametrize("missing", ["tensorflow", "importlib_resources"])
def test_prepare_names_the_command_that_installs_what_is_missing(
    tmp_path: Path, monkeypatch, missing: str
):
    found = {"tensorflow", "importlib_resources"} - {missing}
    monkeypatch.setattr(module, "find_spec", lambda name: name in found or None)
    message = (
        f"needs {missing}, .* Run `uv run --extra prepare python -m experiments "
        f"prepare cifar10 --data-dir {tmp_path}`"
    )
    with pytest.raises(UsageError, match=message):
        prepare("cifar10", tmp_path)


def test_prepare_finds_out_when_nothing_was_prepared(tmp_path: Path, monkeypatch):
    stand_in(monkeypatch, lambda _: None)
    with pytest.raises(
        UsageError, match=r"has no dataset_info\.json\. Remove the cifar10"
    ):
        prepare("cifar10", tmp_path)


def test_prepare_refuses_an_unknown_name_before_it_needs_tensorflow(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cifar11 is neither .* mean .*cifar10"):
        prepare("cifar11", tmp_path)


@pytest.mark.parametrize("name", ["digits", "own.npz"])
def test_prepare_refuses_what_needs_no_preparation(name: str):
    with pytest.raises(UsageError, match=f"^{name} needs no preparation: compare"):
        prepare(name, None)

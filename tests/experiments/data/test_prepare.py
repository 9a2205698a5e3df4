"""Preparing a data set, with replacements for the download and for TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.prepared_dataset import fake_download, write_prepared
from support.small_images import random_images

from experiments.data import prepare as module
from experiments.data.prepare import Prepare, prepare
from experiments.records.config import UsageError

IMAGES = random_images(31, 4, 6, 5, 3), np.arange(4)
SPLITS = {"train": IMAGES, "test": IMAGES}


def test_prepare_prints_the_folder_and_the_next_command(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "cifar10" / "3.0.2"
    fake_download(monkeypatch, lambda _: write_prepared(folder, SPLITS))
    prepare(Prepare("cifar10", tmp_path), Console())
    assert capsys.readouterr().out == (
        f"cifar10 is prepared: {folder}\n"
        "Next: uv run python -m experiments compare --dataset cifar10 "
        f"--data-dir {tmp_path}\n"
    )


def test_prepare_names_the_default_configuration(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "emnist" / "byclass" / "3.1.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    full_name = "emnist/byclass/3.1.0"
    fake_download(monkeypatch, lambda _: write_prepared(folder, SPLITS), full_name)
    prepare(Prepare("emnist", None), Console())
    assert capsys.readouterr().out == (
        f"emnist/byclass is prepared: {folder}\n"
        "Next: uv run python -m experiments compare --dataset emnist/byclass\n"
    )


def test_prepare_does_not_prepare_a_data_set_twice(tmp_path: Path, monkeypatch, capsys):
    write_prepared(tmp_path / "cifar10" / "3.0.2", SPLITS)
    fake_download(monkeypatch, lambda _: pytest.fail("downloaded"))
    prepare(Prepare("cifar10", tmp_path), Console())
    out = capsys.readouterr().out
    assert out.startswith(f"cifar10 is already prepared: {tmp_path}/cifar10/3.0.2\n")


@pytest.mark.parametrize("missing", ["tensorflow", "importlib_resources"])
def test_prepare_says_how_to_install_what_is_missing(tmp_path, monkeypatch, missing):
    installed = {"tensorflow", "importlib_resources"} - {missing}
    monkeypatch.setattr(module, "find_spec", lambda name: name in installed or None)
    message = (
        f"needs {missing}, .* Run `uv run --extra prepare python -m experiments "
        f"prepare cifar10 --data-dir {tmp_path}`"
    )
    with pytest.raises(UsageError, match=message):
        prepare(Prepare("cifar10", tmp_path), Console())


def test_prepare_reports_a_preparation_without_result(tmp_path: Path, monkeypatch):
    fake_download(monkeypatch, lambda _: None)
    message = r"has no dataset_info\.json\. Remove the cifar10"
    with pytest.raises(UsageError, match=message):
        prepare(Prepare("cifar10", tmp_path), Console())


def test_prepare_refuses_an_unknown_name_without_tensorflow(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cifar11 is neither .* mean .*cifar10"):
        prepare(Prepare("cifar11", tmp_path), Console())


@pytest.mark.parametrize("name", ["digits", "own.npz"])
def test_prepare_refuses_data_that_need_no_preparation(name: str):
    with pytest.raises(UsageError, match=f"^{name} needs no preparation: pass it"):
        prepare(Prepare(name, None), Console())

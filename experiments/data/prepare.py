"""The `prepare` command, the only one that needs TensorFlow: downloads a data set."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import tyro
from rich.console import Console

from experiments.data.tfds import (
    check_known,
    data_dir_option,
    data_directory,
    prepare_command,
    prepared_folder,
)
from experiments.records.config import UsageError


@dataclass(frozen=True)
class Prepare:
    """Download a data set with tensorflow-datasets and prepare it for compare.

    This needs a network connection and TensorFlow, which `uv run --extra prepare`
    installs. CIFAR-10 is a download of 170 MB.
    """

    name: tyro.conf.Positional[str]
    """Name of an image-classification data set of
    tensorflow-datasets, such as cifar10, mnist,
    fashion_mnist, svhn_cropped or cifar100."""

    data_dir: Path | None = None
    """Directory to write to; it is created if necessary. The
    default is TFDS_DATA_DIR, or ~/tensorflow_datasets if
    that isn't set."""

    def check(self) -> None:
        """Raises `UsageError` for what is impossible whatever is prepared."""
        if self.name == "digits" or self.name.endswith(".npz"):
            raise UsageError(
                f"{self.name} needs no preparation: pass it to compare as --dataset."
            )


def prepare(options: Prepare, _: Console) -> None:
    """Downloads a data set and writes it as array_record, unless that is done already.

    Prints where it is and the command that trains on it.

    Raises:
      UsageError: the data set is unknown, TensorFlow isn't installed, or the download
        failed.
    """
    options.check()
    dataset, data_dir = options.name, options.data_dir
    folder = prepared_folder(dataset, data_dir)
    if folder is None:
        check_known(dataset)
        _check_installed(prepare_command(dataset, data_dir))
        dataset = _download(dataset, data_directory(data_dir))
        folder = prepared_folder(dataset, data_dir)
        if folder is None:
            raise UsageError(
                f"tensorflow-datasets found a prepared {dataset} in "
                f"{data_directory(data_dir)}, but it has no dataset_info.json. Remove "
                f"the {dataset} folder there and prepare it again."
            )
        print(f"{dataset} is prepared: {folder}")
    else:
        print(f"{dataset} is already prepared: {folder}")
    option = data_dir_option(data_dir)
    print(f"Next: uv run python -m experiments compare --dataset {dataset}{option}")


def _check_installed(command: str) -> None:
    for package in ("tensorflow", "importlib_resources"):
        if find_spec(package) is None:
            raise UsageError(
                f"preparing a data set needs {package}, which is not installed. Run "
                f"`{command}`, which installs it for this command."
            )


def _download(dataset: str, directory: Path) -> str:
    """Returns the name of the data set with its configuration, if it has one."""
    import tensorflow_datasets as tfds  # slow to import

    try:
        builder = tfds.builder(
            dataset, data_dir=directory, file_format=tfds.core.FileFormat.ARRAY_RECORD
        )
        builder.download_and_prepare()
    except Exception as error:  # no network, a wrong checksum, a full disk, ...
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{dataset} couldn't be downloaded and prepared in {directory}. That needs "
            "a network connection and room on the disk; tensorflow-datasets reports: "
            f"{type(error).__name__}: {reason}"
        ) from error
    return builder.info.full_name.rpartition("/")[0]

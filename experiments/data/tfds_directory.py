"""Where tensorflow-datasets keeps a prepared data set, and how one comes to be there.

Looked up before tensorflow-datasets is asked, whose own answer to a missing data set
is an error about its file format.
"""

import difflib
import json
import os
import re
import shlex
from pathlib import Path

from experiments.records.config import UsageError


def data_directory(data_dir: Path | None) -> Path:
    """`data_dir`, else the directory TFDS_DATA_DIR names, else ~/tensorflow_datasets.

    Raises:
      UsageError: it is a file.
    """
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    # As it is where there is no such user.
    directory = Path(os.path.expanduser(data_dir or default))
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise UsageError(
            f"--data-dir {directory} (or TFDS_DATA_DIR) is a file; it must be the "
            "directory in which tensorflow-datasets keeps its data sets."
        )
    return directory


def prepared_folder(dataset: str, data_dir: Path | None) -> Path | None:
    """Finds the newest prepared version of a data set.

    Args:
      dataset: name, such as "cifar10", or name/configuration: "emnist/letters".
      data_dir: as for `data_directory`.

    Returns:
      The folder of that version, or None where there is none.

    Raises:
      UsageError: `data_dir` is a file, or the version isn't in array_record format.
    """
    directory = data_directory(data_dir)
    if not re.fullmatch(r"\w+(/\w[\w.-]*)?", dataset):
        return None  # not a name, and perhaps a path that leads out of the directory
    inside = directory / dataset
    versions = {
        tuple(map(int, folder.name.split("."))): folder
        for folder in (inside.glob("*") if os.path.isdir(inside) else ())
        if re.fullmatch(r"\d+\.\d+\.\d+", folder.name)
        and os.path.isfile(folder / "dataset_info.json")
    }
    if not versions:
        return None
    folder = versions[max(versions)]
    _check_format(folder, prepare_command(dataset, data_dir))
    return folder


def prepare_command(dataset: str, data_dir: Path | None) -> str:
    """What to type to have a data set downloaded and prepared."""
    option = data_dir_option(data_dir)
    return f"uv run --extra prepare python -m experiments prepare {dataset}{option}"


def data_dir_option(data_dir: Path | None) -> str:
    """The option as it was typed, with a space before it; nothing if it wasn't."""
    return "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"


def check_known(dataset: str) -> None:
    """Raises UsageError unless tensorflow-datasets can prepare `dataset`."""
    import tensorflow_datasets as tfds  # slow to import

    known = tfds.list_builders(with_community_datasets=False)
    name = dataset.partition("/")[0]
    if name in known:
        return
    close = difflib.get_close_matches(name.lower(), ["digits", *known])
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(
        f"{dataset} is neither digits, nor a path that ends in .npz, nor one of a "
        "directory, such as ./images, nor a data set that tensorflow-datasets knows."
        f"{hint}"
    )


def _check_format(folder: Path, command: str) -> None:
    try:
        found = json.loads((folder / "dataset_info.json").read_text())["fileFormat"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "an unknown format"
    if found != "array_record":
        raise UsageError(
            f"{folder} is prepared as {found}; only array_record is read without "
            f"TensorFlow. Remove that folder and prepare it again by `{command}`."
        )

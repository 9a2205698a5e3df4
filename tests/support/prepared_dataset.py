"""Prepared data sets for the tests, in the format of tensorflow-datasets."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from support.small_images import png

from experiments.data import prepare


def fake_download(
    monkeypatch: pytest.MonkeyPatch,
    download: Callable[[Path], None],
    full_name: str = "cifar10/3.0.2",
) -> None:
    """Replaces TensorFlow: `download(data_dir)` downloads and prepares a data set."""

    def builder(name, *, data_dir, file_format):
        assert full_name.startswith(name)
        assert file_format.value == "array_record"
        return SimpleNamespace(
            download_and_prepare=lambda: download(data_dir),
            info=SimpleNamespace(full_name=full_name),
        )

    monkeypatch.setattr(tfds, "builder", builder)
    monkeypatch.setattr(prepare, "find_spec", lambda name: name)


def write_prepared(
    folder: Path,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    features: Mapping[str, Any] | None = None,
    shards: int = 1,
    **metadata: Any,
) -> None:
    """Writes a prepared data set.

    Args:
      folder: .../NAME/VERSION, or .../NAME/CONFIGURATION/VERSION.
      splits: the images and the labels of each split. Images are uint8 [n, height,
        width, channels], or a list of images of different shapes.
      features: what the metadata state; by default an image of any height and width,
        and as many classes as the largest label requires.
      shards: files per split.
      **metadata: entries of dataset_info.json, which may replace correct ones.
    """
    folder.mkdir(parents=True)
    images, _ = next(iter(splits.values()))
    largest = max(labels.max() for _, labels in splits.values())
    true_features = {
        "image": tfds.features.Image(shape=(None, None, images[0].shape[-1])),
        "label": tfds.features.ClassLabel(num_classes=int(largest) + 1),
    }
    encode = tfds.features.FeaturesDict(true_features)
    tfds.features.FeaturesDict(features or true_features).save_config(str(folder))
    infos = []
    for split, (images, labels) in splits.items():
        examples = [
            {"image": io.BytesIO(png(image)), "label": int(label)}
            for image, label in zip(images, labels, strict=True)
        ]
        records = [encode.serialize_example(encode.encode_example(e)) for e in examples]
        infos.append(_write_split(folder, split, records, shards))
    info = {
        "fileFormat": "array_record",
        "name": folder.parts[-2],
        "version": folder.name,
        "splits": infos,
    }
    (folder / "dataset_info.json").write_text(json.dumps({**info, **metadata}))


def _write_split(
    folder: Path, split: str, records: list[bytes], shards: int
) -> dict[str, Any]:
    """Returns what dataset_info.json states about the split."""
    lengths = []
    for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
        suffix = f"array_record-{shard:05}-of-{shards:05}"
        path = folder / f"{folder.parts[-2]}-{split}.{suffix}"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for index in part:
            writer.write(records[index])
        writer.close()
        lengths.append(str(len(part)))
    return {
        "name": split,
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "numBytes": str(sum(map(len, records))),
        "shardLengths": lengths,
    }

"""Prepared data sets for the tests, in the very format of tensorflow-datasets."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image


def random_images(seed: int, n: int, *shape: int) -> np.ndarray:
    """uint8 [n, *shape]."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8)


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
      splits: images, uint8 [n, height, width, channels] or a list of unequal ones, and
        labels, of each split.
      features: what the metadata say; by default an image of any height and width, and
        as many classes as the largest label asks for.
      shards: files a split.
      **metadata: to stand in dataset_info.json beside or instead of what is true.
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
        records = [
            encode.serialize_example(
                encode.encode_example({"image": _png(image), "label": int(label)})
            )
            for image, label in zip(images, labels, strict=True)
        ]
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
    """Returns what dataset_info.json says of the split."""
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


def _png(image: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "png")
    file.seek(0)
    return file

"""Images that stay where they are stored: read, in threads, when a step needs them."""

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from jaxtyping import Int, Integer, UInt8

from experiments.records.config import UsageError

_BLOCK = 64  # images that a thread reads at a time: records are slow to read singly
_BLOCK_BYTES = 2**22
_AHEAD_BYTES = 2**25  # what is read ahead, at most
_THREADS = min(16, max(2, os.cpu_count() or 1))

Image = UInt8[np.ndarray, "height width channels"]
Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageSource(Protocol):
    """Stored images in a fixed order; threads read it at the same time."""

    def read(self, places: Sequence[int]) -> Sequence[Image]:
        """Reads and decodes images; raises `UsageError` for one that has changed."""
        ...


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Takes the place of a uint8 array [examples, height, width, channels].

    Indexing along the first axis selects images without reading them. `np.asarray`
    reads all that are selected, and `read` reads some in any order.
    """

    source: ImageSource
    places: Int[np.ndarray, " examples"]  # of the images in the source
    image_shape: tuple[int, ...]  # height, width, channels
    factor: int = 1  # which multiplies the values

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.places), *self.image_shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def image_bytes(self) -> int:
        return int(np.prod(self.image_shape))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, selected: slice | Integer[Any, " n"]) -> "StreamedImages":
        if not isinstance(selected, slice):
            selected = np.asarray(selected)
        return replace(self, places=self.places[selected])

    def followed_by(self, *others: "StreamedImages") -> "StreamedImages":
        """These images and then others of the same source."""
        assert all(other.source is self.source for other in others)
        places = [images.places for images in (self, *others)]
        return replace(self, places=np.concatenate(places))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images = np.empty(self.shape, np.uint8)
        for index, image in enumerate(self.read(np.arange(len(self)))):
            images[index] = image
        return images if dtype is None else images.astype(dtype)

    def read(self, indices: Integer[np.ndarray, " n"]) -> Generator[Image]:
        """Reads images in the order of the indices, some of them ahead of their use.

        Closing the iterator, or reading it to its end, ends its threads.
        """
        block = max(1, min(_BLOCK, _BLOCK_BYTES // self.image_bytes))
        places = self.places[indices]
        blocks = [places[i : i + block] for i in range(0, len(places), block)]
        ahead = _AHEAD_BYTES // (block * self.image_bytes)
        read = map_in_threads(
            lambda some: self.source.read(some.tolist()), blocks, ahead
        )
        try:
            for images in read:
                for image in images:
                    yield image * np.uint8(self.factor) if self.factor > 1 else image
        finally:
            read.close()


def streamed(
    source: ImageSource, count: int, shape: tuple[int, ...]
) -> UInt8[np.ndarray, "examples height width channels"]:
    """`StreamedImages` of a whole source, typed as the array that they stand for."""
    images: Any = StreamedImages(source, np.arange(count), shape)
    return images


def is_streamed(examples: Any) -> bool:
    """Whether examples, a NamedTuple of arrays, have images that are not in memory."""
    return isinstance(getattr(examples, "images", None), StreamedImages)


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], ahead: int = 64
) -> Generator[Result]:
    """Yields the function's values in the order of the items.

    Args:
      function: called in threads; what it raises is raised here.
      items: its arguments.
      ahead: how many values may be ready before they are used, at least one a thread.
    """
    grain = _grain()
    options = grain.ReadOptions(
        num_threads=_THREADS, prefetch_buffer_size=max(ahead, _THREADS)
    )
    dataset = grain.MapDataset.source(items).map(function)
    iterator = iter(dataset.to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()


def check_streamable(dataset: str) -> None:
    """Raises `UsageError` for a data set that can only be read whole."""
    if dataset == "digits" or dataset.endswith(".npz"):
        raise UsageError(
            f"--stream reads a data set of tensorflow-datasets or a folder of images, "
            f"and --dataset {dataset} is read whole. Omit --stream, or name another, "
            "such as --dataset cifar10."
        )


def _grain() -> Any:
    """Imported only where something is streamed."""
    try:
        import grain
    except ImportError as error:
        raise UsageError(
            f"--stream needs grain, which can't be imported ({error}). Install it with "
            "`pip install grain`."
        ) from error
    return grain

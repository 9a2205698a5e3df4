"""Streamed examples on the devices: those of some steps at a time, a window.

A window has the examples of its steps in the order in which they are used, and each
device only its own. The step that trains on them is the one that trains on data in
memory; only its rows index the window. So windows change no bit of a run.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Int, Int32

from experiments.data.examples import Examples
from experiments.data.streaming import StreamedImages

_IMAGES = 1024  # of a window, all lanes together: about a second of reading
_BYTES = 2**25


@dataclass(frozen=True)
class Layout:
    """How the examples of a window lie on a mesh with the axes `lanes` and `data`.

    A window's arrays have shape [lanes, examples, ...]. The second axis has a block for
    each group of columns, and in it the examples step by step.
    """

    mesh: Mesh
    lanes: int  # 1 if all lanes read the same examples, as when they are scored
    steps: int  # of an epoch
    width: int  # columns: examples of a step, with padding
    columns_divided: bool  # whether each device along `data` has its own columns
    image_shape: tuple[int, ...]

    @property
    def groups(self) -> int:
        """Groups of columns."""
        return self.mesh.shape["data"] if self.columns_divided else 1

    @property
    def per_group(self) -> int:
        return self.width // self.groups

    @property
    def window_steps(self) -> int:
        """Steps of a window: at least one, however large it is."""
        images = self.lanes * self.width
        size = int(np.prod(self.image_shape))
        return max(1, min(self.steps, _IMAGES // images, _BYTES // (images * size)))

    def window_end(self, step: int) -> int:
        """The first step after the window that has this one."""
        return min((step // self.window_steps + 1) * self.window_steps, self.steps)

    @property
    def sharding(self) -> NamedSharding:
        """Of a window's arrays."""
        lanes = "lanes" if self.lanes > 1 or self.mesh.shape["lanes"] == 1 else None
        columns = "data" if self.columns_divided else None
        return NamedSharding(self.mesh, PartitionSpec(lanes, columns))

    def shapes(self) -> Examples:
        """Shapes, dtypes and shardings of a window."""
        leading = self.lanes, self.groups * self.window_steps * self.per_group
        shape: Any = jax.ShapeDtypeStruct
        return Examples(
            shape((*leading, *self.image_shape), np.uint8, sharding=self.sharding),
            shape(leading, np.int32, sharding=self.sharding),
        )

    def rows(self) -> Int32[np.ndarray, "steps width"]:
        """Where in its device's part of the window each example of an epoch is."""
        step = np.arange(self.steps) % self.window_steps
        place = step[:, None] * self.per_group + np.arange(self.per_group)
        return np.tile(place, self.groups).astype(np.int32)


class Order(NamedTuple):
    """The examples of an epoch, and which of them are padding."""

    indices: Int[np.ndarray, "lanes steps width"]
    real: Bool[np.ndarray, "steps width"]


class _Reading(NamedTuple):
    """What is being read, from some step of an epoch on."""

    key: object
    blocks: dict[tuple[int, int], int]  # of this process, by lane and group of columns
    indices: Int[np.ndarray, "steps blocks columns"]
    real: Bool[np.ndarray, "steps blocks columns"]
    first: Int[np.ndarray, ""]  # image, which stands for padding
    images: Generator[np.ndarray]


class Windows:
    """The windows of one epoch after another; reads ahead within an epoch."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self._reading: _Reading | None = None
        self._next = 0  # the step that is read next
        self._first = 0  # of the window at hand
        self._window: Examples | None = None

    def at(
        self,
        step: int,
        key: object,
        train: Examples,
        order: Callable[[], Order],
    ) -> Examples:
        """The window that has a step, and all later steps of the same window.

        Args:
          step: of an epoch.
          key: of the epoch's order: an equal key stands for an equal order.
          train: the examples, whose images are streamed.
          order: of the epoch.
        """
        key = key, id(train.images)
        end = self.layout.window_end(step)
        same = self._reading is not None and self._reading.key == key
        if same and self._first <= step < self._next and self._window is not None:
            return self._window
        if not same or step != self._next:
            self.close()
            self._reading = self._begin(key, train, order(), step)
            self._next = step
        assert self._reading is not None
        self._window = self._read(self._reading, train, step, end)
        self._first, self._next = step, end
        return self._window

    def close(self) -> None:
        """Ends the threads that read ahead, and frees the window."""
        if self._reading is not None:
            self._reading.images.close()
        self._reading = self._window = None

    def _begin(self, key: object, train: Examples, order: Order, step: int) -> _Reading:
        assert isinstance(train.images, StreamedImages)
        layout = self.layout
        shape = layout.lanes, layout.steps, layout.groups, layout.per_group
        indices = order.indices.reshape(shape)
        blocks = self._own_blocks(indices)
        lanes, groups = zip(*dict.fromkeys(blocks.values()), strict=True)
        place = {block: i for i, block in enumerate(zip(lanes, groups, strict=True))}
        own = indices[[*lanes], :, [*groups]].swapaxes(0, 1)
        real = order.real.reshape(shape[1:])[:, [*groups]]
        images = train.images
        return _Reading(
            key,
            {block: place[source] for block, source in blocks.items()},
            own,
            real,
            np.asarray(images[:1])[0],
            images.read(own[step:][real[step:]]),
        )

    def _own_blocks(
        self, indices: Int[np.ndarray, "lanes steps groups columns"]
    ) -> dict[tuple[int, int], tuple[int, int]]:
        """The blocks on this process's devices, and for each the first equal one.

        Lanes of one seed have one order, and their images are read once.
        """
        orders = [lane.tobytes() for lane in indices]
        shape = self.layout.shapes().labels.shape
        size = shape[1] // self.layout.groups
        blocks = {}
        for at in self.layout.sharding.addressable_devices_indices_map(shape).values():
            assert at is not None
            for lane in range(shape[0])[at[0]]:
                for group in {i // size for i in range(shape[1])[at[1]][::size]}:
                    blocks[lane, group] = orders.index(orders[lane]), group
        return blocks

    def _read(
        self, reading: _Reading, train: Examples, step: int, end: int
    ) -> Examples:
        """Reads the steps from `step` to `end` − 1 and places them on the devices."""
        layout = self.layout
        size, blocks = layout.window_steps, reading.indices.shape[1]
        shape = blocks, size, layout.per_group
        images = np.zeros((*shape, *layout.image_shape), np.uint8)
        labels = np.zeros(shape, np.int32)
        steps = slice(step % size, (end - 1) % size + 1)
        labels[:, steps] = np.asarray(train.labels)[
            reading.indices[step:end].swapaxes(0, 1)
        ]
        images[:, steps] = reading.first
        for number, block, column in np.argwhere(reading.real[step:end]):
            images[block, steps.start + number, column] = next(reading.images)
        return Examples(*(self._placed(reading, array) for array in (images, labels)))

    def _placed(self, reading: _Reading, array: np.ndarray) -> Array:
        """The global array of blocks; this process fills in its own."""
        layout, rest = self.layout, array.shape[3:]
        size = layout.window_steps * layout.per_group
        shape = layout.lanes, layout.groups * size, *rest

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            lanes = range(shape[0])[index[0]]
            groups = [i // size for i in range(shape[1])[index[1]][::size]]
            chosen = [[reading.blocks[lane, g] for g in groups] for lane in lanes]
            return array[np.array(chosen)].reshape(len(lanes), -1, *rest)

        return jax.make_array_from_callback(shape, layout.sharding, part)

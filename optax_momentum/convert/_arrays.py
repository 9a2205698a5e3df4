"""Named arrays of another library to a tree and back, bit for bit."""

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optax_momentum._base.boxes import boxed_like, unboxed
from optax_momentum._base.placement import conform_to, zeros_like
from optax_momentum._storage.stored import is_stored, values
from optax_momentum.convert._layouts import SAME, Layout

Tree = TypeVar("Tree")
Path = str | tuple[str | int, ...]  # "conv/kernel" or ("conv", "kernel")
Names = Mapping[Any, Path | None]  # the other library's name → path of the leaf
Layouts = Mapping[Any, Layout]  # path of the leaf → layout


def from_arrays(
    arrays: Mapping[Any, object], like: Tree, names: Names, layout: Layouts | None
) -> Tree:
    """Converts named arrays of another library to a tree: weights, or any buffer.

    Args:
      arrays: maps the other library's names or indices to anything that NumPy can read.
        None in place of an array keeps the leaf of `like`.
      like: the tree to fill, of arrays or `jax.ShapeDtypeStruct`s. The result has its
        structure, shapes, dtypes and shardings.
      names: maps every key of `arrays` to the path of its leaf in `like`: a string such
        as "conv/kernel", a tuple such as ("conv", "kernel"), or None to leave the array
        out.
      layout: maps the path of every leaf with two or more axes to the `Layout` in which
        the other library stores it. None if it stores all leaves as JAX does, as Keras.

    Returns:
      A tree of JAX arrays with the structure of `like`.

    Raises:
      ValueError: a leaf has no name or two; a key or path does not exist; a leaf with
        two or more axes has no layout; a shape differs after applying the layout; the
        leaf's dtype would round a value; or `like` has leaves that are not arrays.
      TypeError: NumPy cannot read an array, for instance PyTorch's bfloat16.

    >>> import jax.numpy as jnp
    >>> from optax_momentum.convert import LINEAR
    >>> like = {"dense": {"kernel": jnp.zeros((2, 1))}}
    >>> names, layout = {"fc.weight": "dense/kernel"}, {"dense/kernel": LINEAR}
    >>> from_arrays({"fc.weight": [[0.25, 0.5]]}, like, names, layout)
    {'dense': {'kernel': Array([[0.25],
           [0.5 ]], dtype=float32)}}
    """
    if any(map(is_stored, jax.tree.leaves(like, is_leaf=is_stored))):
        raise ValueError(
            "from_arrays: like must be a tree of arrays, got a buffer in a `storage`. "
            "Fill a tree like the params, then convert the state with `change_storage`."
        )
    leaves = _by_path(unboxed(like))
    check_keys(names, arrays)
    keys = _key_of_each_leaf(names, leaves)
    layouts = _layout_of_each_leaf(layout, leaves)
    filled = [
        leaf
        if arrays[keys[path]] is None
        else _ours(arrays[keys[path]], leaf, layouts[path], _where(keys[path], path))
        for path, leaf in leaves.items()
    ]
    return boxed_like(
        like, jax.tree.unflatten(jax.tree.structure(unboxed(like)), filled)
    )


def to_arrays(
    tree: optax.Updates, names: Names, layout: Layouts | None
) -> dict[Any, np.ndarray]:
    """Converts a tree to NumPy arrays by name; the inverse of `from_arrays`.

    Args:
      tree: a tree of arrays, or a buffer in any `storage`.
      names: as for `from_arrays`; names mapped to None are left out.
      layout: as for `from_arrays`.

    Returns:
      For each name a new, writable, contiguous array in the leaf's dtype. bfloat16,
      which other libraries cannot read from NumPy, becomes float32 with the same
      values.

    Raises:
      ValueError: as for `from_arrays`.
    """
    leaves = _by_path(values(tree))
    keys = _key_of_each_leaf(names, leaves)
    layouts = _layout_of_each_leaf(layout, leaves)
    return {
        key: _theirs(leaves[path], layouts[path], _where(key, path))
        for path, key in keys.items()
    }


def check_keys(names: Names, arrays: Mapping[Any, object]) -> None:
    """Raises unless `names` has exactly the keys of `arrays`."""
    for key in names:
        if key not in arrays:
            raise ValueError(
                f"names[{key!r}]: there is no {key!r} among {_some(arrays)}."
            )
    for key in arrays:
        if key not in names:
            raise ValueError(
                f"names has no entry for {key!r}. Give the path of its leaf, or None "
                "to leave it out."
            )


def _ours(array: object, leaf: jax.Array, layout: Layout, where: str) -> jax.Array:
    """The array in our layout, with the dtype and sharding of the leaf."""
    read = _read(array, where)
    shape, dtype = jnp.shape(leaf), jnp.result_type(leaf)
    moved = _moved(read, layout.ours, where)
    if moved.shape != shape:
        raise ValueError(
            f"{where} has shape {read.shape}, which its layout turns into "
            f"{moved.shape}, but the leaf has shape {shape}. Correct its layout or "
            "its name."
        )
    within = moved if jnp.issubdtype(dtype, jnp.complexfloating) else np.real(moved)
    with np.errstate(over="ignore"):
        cast = within.astype(dtype)
    if not np.array_equal(cast.astype(moved.dtype), moved, equal_nan=True):
        raise ValueError(
            f"{where} is {moved.dtype}, but its leaf is {dtype}, which cannot hold "
            "its values. To accept the rounding, cast the array yourself."
        )
    # The leaf may be only a shape; zeros like it have its sharding.
    return conform_to(zeros_like(leaf), jnp.asarray(cast))


def _theirs(leaf: jax.Array, layout: Layout, where: str) -> np.ndarray:
    """A copy of the leaf in the other library's layout."""
    array = np.asarray(leaf)
    if array.dtype == jnp.bfloat16:
        array = array.astype(np.float32)
    return np.array(_moved(array, layout.theirs, where), order="C")


def _moved(
    array: np.ndarray, move: Callable[[np.ndarray], np.ndarray], where: str
) -> np.ndarray:
    try:
        return move(array)
    except ValueError as error:
        raise ValueError(
            f"{where} has shape {array.shape}, which its layout does not fit: {error}."
        ) from None


def _read(array: object, where: str) -> np.ndarray:
    if str(getattr(array, "dtype", None)) == "torch.bfloat16":
        raise TypeError(
            f"{where} is a bfloat16 tensor, which NumPy cannot read. Pass "
            "`tensor.float()`: float32 holds every value of bfloat16."
        )
    try:
        read = np.asarray(array)
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{where} cannot be read by NumPy: {error} Pass `tensor.detach().cpu()`."
        ) from error
    if not jnp.issubdtype(read.dtype, jnp.number):
        raise TypeError(f"{where} is {type(array).__name__}, not an array of numbers.")
    return read


def _by_path(tree: object) -> dict[str, jax.Array]:
    """The leaves of a tree by path, with the parts of each path joined by slashes."""
    leaves = {}
    for keys, leaf in jax.tree.leaves_with_path(tree):
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if path in leaves:
            raise ValueError(f"the tree has two leaves with the path {path!r}.")
        leaves[path] = leaf
    return leaves


def _key_of_each_leaf(
    names: Names, leaves: dict[str, jax.Array]
) -> dict[str, Hashable]:
    """Maps each path to its key, in the order of names; raises unless they pair up."""
    keys: dict[str, Hashable] = {}
    for key, path in names.items():
        if path is None:
            continue
        path = _joined(path)
        if path not in leaves:
            raise ValueError(
                f"names[{key!r}] is {path!r}, but there is no such leaf among "
                f"{_some(leaves)}."
            )
        if path in keys:
            raise ValueError(
                f"names gives the leaf {path!r} to both {keys[path]!r} and {key!r}."
            )
        keys[path] = key
    for path in leaves:
        if path not in keys:
            raise ValueError(
                f"names has no entry for the leaf {path!r}. Map an array to it, or "
                "pass a tree without it."
            )
    return keys


def _layout_of_each_leaf(
    layout: Layouts | None, leaves: dict[str, jax.Array]
) -> dict[str, Layout]:
    """Maps each path to its layout; raises where the order of axes is not given.

    Guessing it from shapes is unsafe: a square matrix fits either way.
    """
    if layout is None:
        return dict.fromkeys(leaves, SAME)
    given = {_joined(path): leaf_layout for path, leaf_layout in layout.items()}
    for path in given:
        if path not in leaves:
            raise ValueError(
                f"layout[{path!r}]: there is no such leaf among {_some(leaves)}."
            )
    for path, leaf in leaves.items():
        if path not in given and len(jnp.shape(leaf)) > 1:
            raise ValueError(
                f"layout has no entry for the leaf {path!r} of shape "
                f"{jnp.shape(leaf)}. Give LINEAR, CONVOLUTION, flattened(...), or SAME "
                "if it is stored alike."
            )
    return {path: given.get(path, SAME) for path in leaves}


def _where(key: Hashable, path: str) -> str:
    return f"{key!r} (the leaf {path!r})"


def _joined(path: Path) -> str:
    return path if isinstance(path, str) else "/".join(map(str, path))


def _some(keys: Collection[object]) -> str:
    """The first few keys, for error messages."""
    shown = ", ".join(repr(key) for key in list(keys)[:6])
    return f"{shown}, … ({len(keys)} in all)" if len(keys) > 6 else shown

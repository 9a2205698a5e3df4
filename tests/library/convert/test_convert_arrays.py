"""Arrays of another library are converted to a tree bit for bit, or refused."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.named_arrays import ARRAYS, LAYOUT, LIKE, NAMES

from optax_momentum.convert import (
    CONVOLUTION,
    LINEAR,
    SAME,
    flattened,
    from_arrays,
    to_arrays,
)


class Tensor:
    """A tensor that NumPy cannot read: bfloat16, or on another device."""

    def __init__(self, dtype: str, message: str):
        self.dtype, self.message = dtype, message

    def __array__(self, dtype=None, copy=None):
        raise TypeError(self.message)


def test_each_layout_puts_every_weight_where_it_belongs():
    random = np.random.default_rng(4)
    conv = random.standard_normal((4, 3, 2, 5))
    volume = random.standard_normal((4, 3, 2, 5, 6))
    linear = random.standard_normal((4, 3))
    assert CONVOLUTION.ours(conv)[1, 4, 2, 3] == conv[3, 2, 1, 4]
    assert CONVOLUTION.ours(volume)[1, 4, 5, 2, 3] == volume[3, 2, 1, 4, 5]
    assert LINEAR.ours(linear)[2, 3] == linear[3, 2]
    dense = flattened(channels=3, height=2, width=5)
    weight, image = random.standard_normal((4, 30)), random.standard_normal((3, 2, 5))
    by_pytorch = weight @ image.reshape(-1)
    by_jax = image.transpose(1, 2, 0).reshape(-1) @ dense.ours(weight)
    np.testing.assert_allclose(by_jax, by_pytorch, rtol=1e-12)
    pairs = [(CONVOLUTION, conv), (CONVOLUTION, volume), (LINEAR, linear)]
    for layout, array in [*pairs, (dense, weight), (SAME, volume)]:
        back = layout.theirs(layout.ours(array))
        np.testing.assert_array_equal(back, array, strict=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_arrays_come_back_bit_for_bit_as_copies(dtype):
    like = jax.tree.map(lambda leaf: leaf.astype(dtype), LIKE)
    theirs = "float32" if dtype == "bfloat16" else dtype
    arrays = {i: (a / 7).astype(dtype).astype(theirs) for i, a in ARRAYS.items()}
    arrays[1][0], arrays[1][1] = np.nan, -0.0
    tree = from_arrays(arrays, like, NAMES, LAYOUT)
    assert tree["dense"]["kernel"].dtype == dtype
    back = to_arrays(tree, NAMES, LAYOUT)
    for i, array in arrays.items():
        np.testing.assert_array_equal(back[i], array, strict=True)
        assert back[i].flags.c_contiguous and back[i].flags.writeable
        assert not np.shares_memory(array, np.asarray(jax.tree.leaves(tree)[1 - i]))
    assert np.signbit(back[1][1].real)


def test_none_keeps_a_leaf_and_a_name_of_none_skips_an_array():
    arrays: Any = {**ARRAYS, 1: None, 2: np.ones((5, 5))}
    like: Any = {"dense": {**LIKE["dense"], "bias": jnp.full(3, 4.0), "absent": None}}
    tree = from_arrays(arrays, like, {**NAMES, 2: None}, LAYOUT)
    np.testing.assert_array_equal(tree["dense"]["kernel"], ARRAYS[0].T)
    np.testing.assert_array_equal(tree["dense"]["bias"], np.full(3, 4.0))
    assert tree["dense"]["absent"] is None
    assert list(to_arrays(tree, {**NAMES, 2: None}, LAYOUT)) == [0, 1]


REFUSED = {
    "missing leaf": (
        {"arrays": {0: ARRAYS[0]}, "names": {0: "dense/kernel"}},
        "names has no entry for the leaf 'dense/bias'. Map an array to it, or pass a ",
    ),
    "ambiguous leaf": (
        {"names": {0: "dense/kernel", 1: ("dense", "kernel")}},
        "names gives the leaf 'dense/kernel' to both 0 and 1.",
    ),
    "unknown index": (
        {"names": {**NAMES, 5: "dense/bias"}},
        "names[5]: there is no 5 among 0, 1.",
    ),
    "unnamed index": (
        {"arrays": {**ARRAYS, 2: np.ones(3)}},
        "names has no entry for 2. Give the path of its leaf, or None to leave it out.",
    ),
    "unknown path": (
        {"names": {0: "dense/weight", 1: "dense/bias"}},
        "names[0] is 'dense/weight', but there is no such leaf among "
        "'dense/bias', 'dense/kernel'.",
    ),
    "two leaves of one path": (
        {"like": {**LIKE, "dense/bias": jnp.zeros(3)}},
        "the tree has two leaves with the path 'dense/bias'.",
    ),
    "no layout": (
        {"layout": {}},
        "layout has no entry for the leaf 'dense/kernel' of shape (2, 3). Give LINEAR",
    ),
    "layout of no leaf": (
        {"layout": {"dense/weight": LINEAR}},
        "layout['dense/weight']: there is no such leaf among 'dense/bias', ",
    ),
    "layout that does not fit": (
        {"layout": {**LAYOUT, "dense/bias": CONVOLUTION}},
        "1 (the leaf 'dense/bias') has shape (3,), which its layout does not fit: ",
    ),
    "shape": (
        {"layout": {"dense/kernel": SAME}},
        "0 (the leaf 'dense/kernel') has shape (3, 2), which its layout turns into "
        "(3, 2), but the leaf has shape (2, 3). Correct its layout or its name.",
    ),
    "rounding": (
        {"arrays": {**ARRAYS, 1: np.asarray([0.1, 1, 2])}},
        "1 (the leaf 'dense/bias') is float64, but its leaf is float32, which cannot "
        "hold its values. To accept the rounding, cast the array yourself.",
    ),
    "overflow": (
        {"arrays": {**ARRAYS, 1: np.asarray([1e300, 1, 2])}},
        "1 (the leaf 'dense/bias') is float64, but its leaf is float32, which cannot ",
    ),
    "complex": (
        {"arrays": {**ARRAYS, 1: np.full(3, 1 + 2j, np.complex64)}},
        "1 (the leaf 'dense/bias') is complex64, but its leaf is float32, which can",
    ),
    "bfloat16": (
        {"arrays": {**ARRAYS, 1: Tensor("torch.bfloat16", "unsupported BFloat16")}},
        "1 (the leaf 'dense/bias') is a bfloat16 tensor, which NumPy cannot read. Pass "
        "`tensor.float()`: float32 holds every value of bfloat16.",
    ),
    "other device": (
        {"arrays": {**ARRAYS, 1: Tensor("torch.float32", "can't convert cuda:0.")}},
        "1 (the leaf 'dense/bias') cannot be read by NumPy: can't convert cuda:0. Pass "
        "`tensor.detach().cpu()`.",
    ),
    "no array": (
        {"arrays": {**ARRAYS, 1: {"momentum_buffer": 3}}},
        "1 (the leaf 'dense/bias') is dict, not an array of numbers.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_do_not_fit_are_refused_with_their_paths(case):
    changed, message = REFUSED[case]
    arguments: Any = {"arrays": ARRAYS, "like": LIKE, "names": NAMES, "layout": LAYOUT}
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        from_arrays(**{**arguments, **changed})

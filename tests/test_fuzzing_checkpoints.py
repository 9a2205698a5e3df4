"""Whatever stands where a checkpoint should: it is proven, or it is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.checkpoint import MANIFEST, Damaged, read, write

WORK = {"runs": ["0123456789abcdef"]}
LEAVES = {
    ".params": np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6),
    ".step": np.asarray(7, np.int32),
}
FUZZ = settings(derandomize=True, deadline=None, max_examples=60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "1"
    write(path, LEAVES, {"work": WORK, "position": {"epoch": 1}})
    return path


@pytest.fixture(scope="module")
def copy(whole, tmp_path_factory) -> Path:
    return shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "1")


@FUZZ
@given(data=st.data())
def test_a_file_of_any_other_content_is_refused(whole, copy, data):
    names = sorted(str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(names))
    content = (whole / name).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    other = content[:start] + data.draw(st.binary(max_size=40)) + content[stop:]
    (copy / name).write_bytes(other)
    if other == content:
        read(copy, WORK)
    else:
        with pytest.raises(Damaged, match="altered"):
            read(copy, WORK)
    (copy / name).write_bytes(content)


@FUZZ
@given(name=st.sampled_from(["work", "files", "leaves", "sha256", "new"]), value=VALUES)
def test_a_manifest_with_any_other_value_is_refused(whole, copy, name, value):
    manifest = json.loads((whole / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps({**manifest, name: value}, indent=2))
    with pytest.raises(Damaged, match="its manifest was altered"):
        read(copy, WORK)
    shutil.copy(whole / MANIFEST, copy / MANIFEST)

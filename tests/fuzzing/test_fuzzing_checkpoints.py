"""Whatever stands where a checkpoint should: it is proven, or it is refused."""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.json_values import VALUES, places, replaced

from experiments.records.runs import to_json
from experiments.training.checkpoints import MANIFEST, Damaged, read, write

WORK = {"runs": ["0123456789abcdef"]}
LEAVES = {
    ".params": np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6),
    ".step": np.asarray(7, np.int32),
}
FUZZ = settings(derandomize=True, deadline=None, max_examples=60)


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
@given(data=st.data())
def test_a_manifest_that_fits_its_hash_is_not_believed_for_that(whole, copy, data):
    """Such as one of another version, or of an enemy: it is read or refused."""
    body = json.loads((whole / MANIFEST).read_bytes())
    del body["sha256"]
    place = data.draw(st.sampled_from(places(body)[1:]))
    body = replaced(body, place, data.draw(VALUES))
    digest = hashlib.sha256(to_json(body).encode()).hexdigest()
    (copy / MANIFEST).write_text(to_json({"sha256": digest, **body}, indent=2))
    saved = [leaf.tobytes() for leaf in LEAVES.values()]
    with suppress(Damaged):
        assert all(leaf.tobytes() in saved for leaf in read(copy, WORK).values())
    shutil.copy(whole / MANIFEST, copy / MANIFEST)


@pytest.mark.parametrize("target", ["nowhere", "_METADATA", ".", "/dev/null"])
def test_a_link_in_the_place_of_a_file_is_refused(whole, tmp_path, target):
    path = shutil.copytree(whole, tmp_path / "1")
    (path / "_METADATA").unlink()
    (path / "_METADATA").symlink_to(target)
    with pytest.raises(Damaged, match="_METADATA"):
        read(path, WORK)


@FUZZ
@given(name=st.sampled_from(["work", "files", "leaves", "sha256", "new"]), value=VALUES)
def test_a_manifest_with_any_other_value_is_refused(whole, copy, name, value):
    manifest = json.loads((whole / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps({**manifest, name: value}, indent=2))
    with pytest.raises(Damaged, match="its manifest was altered"):
        read(copy, WORK)
    shutil.copy(whole / MANIFEST, copy / MANIFEST)

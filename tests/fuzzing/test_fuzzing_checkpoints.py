"""Fuzzing checkpoints: a file that differs in any bit is refused."""

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.json_values import VALUES, paths, replaced

from experiments.records.runs import to_json
from experiments.training.checkpoints import MANIFEST, Damaged, read, write

WORK = {"runs": ["0123456789abcdef"]}
PARAMS = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6)
LEAVES = {".params": PARAMS, ".step": np.asarray(7, np.int32)}
FUZZ = settings(derandomize=True, deadline=None, max_examples=60)


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("intact") / "1"
    write(path, LEAVES, {"work": WORK, "position": {"epoch": 1}})
    return path


@pytest.fixture(scope="module")
def copy(intact, tmp_path_factory) -> Path:
    return shutil.copytree(intact, tmp_path_factory.mktemp("copy") / "1")


@FUZZ
@given(data=st.data())
def test_a_file_with_changed_content_is_refused(intact, copy, data):
    names = sorted(str(p.relative_to(intact)) for p in intact.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(names))
    content = (intact / name).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    changed = content[:start] + data.draw(st.binary(max_size=40)) + content[stop:]
    (copy / name).write_bytes(changed)
    if changed == content:
        read(copy, WORK)
    else:
        with pytest.raises(Damaged, match="altered"):
            read(copy, WORK)
    (copy / name).write_bytes(content)


@FUZZ
@given(data=st.data())
def test_a_manifest_with_a_correct_hash_is_still_checked(intact, copy, data):
    """Another version or an attacker may have written it: it is read or refused."""
    body = json.loads((intact / MANIFEST).read_bytes())
    del body["sha256"]
    path = data.draw(st.sampled_from(paths(body)[1:]))
    body = replaced(body, path, data.draw(VALUES))
    digest = hashlib.sha256(to_json(body).encode()).hexdigest()
    (copy / MANIFEST).write_text(to_json({"sha256": digest, **body}, indent=2))
    saved = [leaf.tobytes() for leaf in LEAVES.values()]
    with suppress(Damaged):
        assert all(leaf.tobytes() in saved for leaf in read(copy, WORK).values())
    shutil.copy(intact / MANIFEST, copy / MANIFEST)


@pytest.mark.parametrize("target", ["nowhere", "_METADATA", ".", "/dev/null"])
def test_a_link_in_place_of_a_file_is_refused(intact, tmp_path, target):
    path = shutil.copytree(intact, tmp_path / "1")
    (path / "_METADATA").unlink()
    (path / "_METADATA").symlink_to(target)
    with pytest.raises(Damaged, match="_METADATA"):
        read(path, WORK)


@FUZZ
@given(name=st.sampled_from(["work", "files", "leaves", "sha256", "new"]), value=VALUES)
def test_a_manifest_with_a_changed_value_is_refused(intact, copy, name, value):
    manifest = json.loads((intact / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps({**manifest, name: value}, indent=2))
    with pytest.raises(Damaged, match="its manifest was altered"):
        read(copy, WORK)
    shutil.copy(intact / MANIFEST, copy / MANIFEST)

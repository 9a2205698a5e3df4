"""The checkpoints of a run: the last one that is whole is gone on from."""

import errno
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import checkpoints as checkpoints_module
from experiments.training.checkpoints import DIRECTORY, MANIFEST, Checkpoints, clear

WORK = {"runs": ["0123456789abcdef"]}


def tree(number: float):
    """Of every kind of leaf that a run has, on two devices."""
    mesh = jax.make_mesh((2,), ("x",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = {"kernel": jnp.full((4, 3), number), "a/b": jnp.full(2, number)}
    return {
        "params": jax.device_put(params, rows),
        "state": optax.adam(0.1).init(params),
        "key": jax.random.key(7 + int(number)),
        "curves": np.full((2, 4), number, np.float32),
        "epoch": int(number),
        "seconds": number / 3,
    }


def at(step: int) -> dict[str, int]:
    return {"epoch": 1, "step": step}


@pytest.fixture
def told() -> list[str]:
    """The lines that a user was told."""
    return []


@pytest.fixture
def kept(tmp_path, told) -> Checkpoints:
    return Checkpoints(tmp_path / "kept", WORK, 3600.0, told.append)


@pytest.fixture
def three(kept) -> Checkpoints:
    for step in (8, 9, 10):
        kept.save(tree(float(step)), at(step))
    kept.wait()
    return kept


def names(kept: Checkpoints) -> list[str]:
    return sorted(path.name for path in kept.directory.glob("*"))


def test_the_newest_comes_back_in_kind_and_place(three, told):
    template, want = tree(0.0), tree(10.0)
    got = three.restore(template)
    path = three.directory / "00000001-00000010"
    assert told == [f"Resuming from {path}, after 1 epochs and 10 steps."]
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b, like in zip(*map(jax.tree.leaves, (got, want, template)), strict=True):
        assert type(a) is type(b)
        if isinstance(a, jax.Array):
            assert (a.sharding, a.dtype) == (like.sharding, b.dtype)
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_array_equal(a, b)


def test_two_are_kept(three):
    assert names(three) == ["00000001-00000009", "00000001-00000010"]


def test_what_is_saved_is_what_was_there_when_it_was_asked(kept):
    tree = {"curves": np.arange(3.0), "params": jnp.arange(4.0)}
    kept.save(tree, at(1))
    tree["curves"] += 1
    jax.jit(lambda x: x + 1, donate_argnums=0)(tree["params"])
    kept.wait()
    got = kept.restore({"curves": np.zeros(3), "params": jnp.zeros(4)})
    np.testing.assert_array_equal(got["curves"], np.arange(3.0))
    np.testing.assert_array_equal(got["params"], np.arange(4.0))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / MANIFEST).unlink(), "it is half-written, without a"),
        (lambda path: (path / MANIFEST).write_bytes(b"{"), "its manifest was altered"),
        (lambda path: (path / "_METADATA").unlink(), "its file _METADATA is missing"),
    ],
)
def test_one_that_is_not_whole_is_told_of_and_the_one_before_is_taken(
    three, told, damage, reason
):
    newest = three.directory / "00000001-00000010"
    damage(newest)
    assert three.restore(tree(0.0))["epoch"] == 9
    assert told[0].startswith(f"Skipped {newest}: {reason}")
    older = three.directory / "00000001-00000009"
    assert told[1] == f"Resuming from {older}, after 1 epochs and 9 steps."
    assert names(three) == ["00000001-00000009"]


def test_leftovers_of_a_save_are_cleared_away(three, told):
    leftover = three.directory / "00000001-00000011.orbax-checkpoint-tmp-1"
    leftover.mkdir()
    (leftover / "d").write_bytes(b"half")
    assert three.restore(tree(0.0))["epoch"] == 10
    assert told[0].startswith(f"Skipped {leftover}: it is half-written")
    assert not leftover.exists()


def test_with_none_that_is_whole_a_run_begins_anew(three, told):
    for path in three.directory.glob("*"):
        (path / "_METADATA").write_bytes(b"")
    assert three.restore(tree(0.0)) is None
    assert len(told) == 2
    assert all(line.endswith("its file _METADATA was altered.") for line in told)


def test_a_checkpoint_of_another_structure_is_left_out(three, told):
    assert three.restore({"params": jnp.zeros(3)}) is None
    assert told[0].endswith("its leaves are not those that this program saves.")


def test_a_checkpoint_of_other_runs_is_left_out(three, told):
    other = Checkpoints(three.directory, {"runs": ["f" * 16]}, 3600.0, told.append)
    assert other.restore(tree(0.0)) is None
    assert told[0].endswith("it belongs to other runs.")


def test_files_of_two_checkpoints_are_not_taken_for_one_another(three, told):
    older, newer = (three.directory / f"00000001-{step:08d}" for step in (9, 10))
    (other,), (swapped,) = ((path / "d").iterdir() for path in (older, newer))
    assert other.read_bytes() != swapped.read_bytes()
    shutil.copy(other, swapped)
    assert three.restore(tree(0.0))["epoch"] == 9
    assert "was altered" in told[0]


def test_saves_are_as_far_apart_as_was_asked(tmp_path, told, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path / "kept", WORK, 5.0, told.append)
    for step in range(13):
        if kept.due():
            kept.save(tree(float(step)), at(step))
        now[0] += 1
    kept.wait()
    assert names(kept) == ["00000001-00000005", "00000001-00000010"]


def test_a_full_disk_is_told_and_keeps_the_last_one(three, told, monkeypatch):
    def full(path: Path, *_) -> None:
        path.mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints_module, "write", full)
    three.save(tree(11.0), at(11))
    assert not three.wait()
    assert told == [
        f"No checkpoint could be written to {three.directory}: [Errno 28] No space left"
        f" on device; the last one is {three.directory / '00000001-00000010'}."
    ]
    assert three.restore(tree(0.0))["epoch"] == 10
    assert names(three) == ["00000001-00000009", "00000001-00000010"]


def test_a_save_that_cannot_begin_leaves_the_whole_one_in_place(three, monkeypatch):
    full = shutil.disk_usage(three.directory)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    three.save(tree(11.0), at(10))
    assert not three.wait()
    assert three.restore(tree(0.0))["epoch"] == 10


def test_once_recorded_nothing_of_them_is_left(three):
    three.discard()
    assert not three.directory.exists()
    assert three.restore(tree(0.0)) is None


def test_what_a_recorded_run_left_behind_is_cleared_away(tmp_path, told):
    works = {"recorded": ["a", "b"], "half": ["a", "c"], "emptied": ["d"], "odd": ["a"]}
    directories = {name: tmp_path / DIRECTORY / name for name in works}
    for name, runs in works.items():
        kept = Checkpoints(directories[name], {"runs": runs}, 0.0, told.append)
        kept.save(tree(3.0), at(3))
        kept.wait()
    (manifest,) = directories["emptied"].glob(f"*/{MANIFEST}")
    manifest.unlink()
    (manifest,) = directories["odd"].glob(f"*/{MANIFEST}")
    manifest.write_bytes(manifest.read_bytes()[:-9])
    clear(tmp_path, ["b", "a", "e"])
    left = {name for name, directory in directories.items() if directory.exists()}
    assert left == {"half", "odd"}  # what may be gone on from, and what is to be told
    clear(tmp_path / "nowhere", ["a"])

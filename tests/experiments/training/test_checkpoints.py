"""The checkpoints of a run: it resumes from the newest intact one."""

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
    """A tree with every kind of leaf that a run has, on two devices."""
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
def messages() -> list[str]:
    """The lines that the user is shown."""
    return []


@pytest.fixture
def saved(tmp_path, messages) -> Checkpoints:
    return Checkpoints(tmp_path / "kept", WORK, 3600.0, messages.append)


@pytest.fixture
def three(saved) -> Checkpoints:
    for step in (8, 9, 10):
        saved.save(tree(float(step)), at(step))
    saved.wait()
    return saved


def names(saved: Checkpoints) -> list[str]:
    return sorted(path.name for path in saved.directory.glob("*"))


def test_the_newest_is_restored_with_its_types_and_placement(three, messages):
    template, want = tree(0.0), tree(10.0)
    got = three.restore(template)
    path = three.directory / "00000001-00000010"
    assert messages == [f"Resuming from {path}, after 1 epochs and 10 steps."]
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b, like in zip(*map(jax.tree.leaves, (got, want, template)), strict=True):
        assert type(a) is type(b)
        if isinstance(a, jax.Array):
            assert (a.sharding, a.dtype) == (like.sharding, b.dtype)
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_array_equal(a, b)


def test_the_newest_two_are_kept(three):
    assert names(three) == ["00000001-00000009", "00000001-00000010"]


def test_a_save_has_the_values_at_the_time_of_the_call(saved):
    tree = {"curves": np.arange(3.0), "params": jnp.arange(4.0)}
    saved.save(tree, at(1))
    tree["curves"] += 1
    jax.jit(lambda x: x + 1, donate_argnums=0)(tree["params"])
    saved.wait()
    got = saved.restore({"curves": np.zeros(3), "params": jnp.zeros(4)})
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
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    three, messages, damage, reason
):
    newest = three.directory / "00000001-00000010"
    damage(newest)
    assert three.restore(tree(0.0))["epoch"] == 9
    assert messages[0].startswith(f"Skipped {newest}: {reason}")
    older = three.directory / "00000001-00000009"
    assert messages[1] == f"Resuming from {older}, after 1 epochs and 9 steps."
    assert names(three) == ["00000001-00000009"]


def test_leftovers_of_a_save_are_removed(three, messages):
    leftover = three.directory / "00000001-00000011.orbax-checkpoint-tmp-1"
    leftover.mkdir()
    (leftover / "d").write_bytes(b"half")
    assert three.restore(tree(0.0))["epoch"] == 10
    assert messages[0].startswith(f"Skipped {leftover}: it is half-written")
    assert not leftover.exists()


def test_without_an_intact_checkpoint_a_run_starts_over(three, messages):
    for path in three.directory.glob("*"):
        (path / "_METADATA").write_bytes(b"")
    assert three.restore(tree(0.0)) is None
    assert len(messages) == 2
    assert all(line.endswith("its file _METADATA was altered.") for line in messages)


def test_a_checkpoint_of_another_structure_is_skipped(three, messages):
    assert three.restore({"params": jnp.zeros(3)}) is None
    assert messages[0].endswith("its leaves are not those that this program saves.")


def test_a_checkpoint_of_other_runs_is_skipped(three, messages):
    other = Checkpoints(three.directory, {"runs": ["f" * 16]}, 3600.0, messages.append)
    assert other.restore(tree(0.0)) is None
    assert messages[0].endswith("it belongs to other runs.")


def test_a_file_of_another_checkpoint_is_detected(three, messages):
    older, newer = (three.directory / f"00000001-{step:08d}" for step in (9, 10))
    (other,), (swapped,) = ((path / "d").iterdir() for path in (older, newer))
    assert other.read_bytes() != swapped.read_bytes()
    shutil.copy(other, swapped)
    assert three.restore(tree(0.0))["epoch"] == 9
    assert "was altered" in messages[0]


def test_saves_have_the_requested_interval(tmp_path, messages, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: now[0])
    saved = Checkpoints(tmp_path / "kept", WORK, 5.0, messages.append)
    for step in range(13):
        if saved.due():
            saved.save(tree(float(step)), at(step))
        now[0] += 1
    saved.wait()
    assert names(saved) == ["00000001-00000005", "00000001-00000010"]


def test_a_full_disk_is_reported_and_keeps_the_last(three, messages, monkeypatch):
    def full(path: Path, *_) -> None:
        path.mkdir()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints_module, "write", full)
    three.save(tree(11.0), at(11))
    assert not three.wait()
    assert messages == [
        f"No checkpoint could be written to {three.directory}: [Errno 28] No space left"
        f" on device; the last one is {three.directory / '00000001-00000010'}."
    ]
    assert three.restore(tree(0.0))["epoch"] == 10
    assert names(three) == ["00000001-00000009", "00000001-00000010"]


def test_a_save_that_cannot_start_keeps_the_intact_checkpoint(three, monkeypatch):
    full = shutil.disk_usage(three.directory)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    three.save(tree(11.0), at(10))
    assert not three.wait()
    assert three.restore(tree(0.0))["epoch"] == 10


def test_a_recorded_run_keeps_no_checkpoints(three):
    three.discard()
    assert not three.directory.exists()
    assert three.restore(tree(0.0)) is None


def test_leftovers_of_recorded_runs_are_removed(tmp_path, messages):
    works = {"recorded": ["a", "b"], "half": ["a", "c"], "emptied": ["d"], "odd": ["a"]}
    directories = {name: tmp_path / DIRECTORY / name for name in works}
    for name, runs in works.items():
        saved = Checkpoints(directories[name], {"runs": runs}, 0.0, messages.append)
        saved.save(tree(3.0), at(3))
        saved.wait()
    (manifest,) = directories["emptied"].glob(f"*/{MANIFEST}")
    manifest.unlink()
    (manifest,) = directories["odd"].glob(f"*/{MANIFEST}")
    manifest.write_bytes(manifest.read_bytes()[:-9])
    clear(tmp_path, ["b", "a", "e"])
    left = {name for name, directory in directories.items() if directory.exists()}
    assert left == {"half", "odd"}  # one to resume from, one to report
    clear(tmp_path / "nowhere", ["a"])

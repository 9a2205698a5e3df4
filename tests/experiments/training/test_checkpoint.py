"""A checkpoint is read only if every bit of it is proven intact."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.checkpoints import MANIFEST, Damaged, read, write

WORK = {"runs": ["0123456789abcdef"], "seeds": [3]}
LEAVES = {
    ".params['conv']['kernel']": np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6),
    ".state.buffer['a/b']": np.asarray(jnp.asarray([0.3, -2.0], jnp.bfloat16)),
    ".state.step": np.asarray(7, np.int32),
    ".codes": np.array([-128, 127], np.int8),
    ".none": np.zeros((3, 0), np.float32),
    ".lost": np.array([np.nan, -np.inf, -0.0], np.float32),
}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "00000001-00000004"
    write(path, LEAVES, {"work": WORK, "position": {"epoch": 1, "step": 4}})
    return path


def test_leaves_are_restored_bit_for_bit(saved):
    got = read(saved, WORK)
    assert list(got) == list(LEAVES)
    for name, leaf in LEAVES.items():
        assert (got[name].dtype, got[name].shape) == (leaf.dtype, leaf.shape)
        assert got[name].tobytes() == leaf.tobytes()


def test_the_manifest_states_the_work_and_the_position(saved):
    manifest = json.loads((saved / MANIFEST).read_bytes())
    assert manifest["work"] == WORK
    assert manifest["position"] == {"epoch": 1, "step": 4}
    assert manifest["leaves"][".state.step"]["dtype"] == "int32"
    assert manifest["versions"]["jax"]
    files = {str(p.relative_to(saved)) for p in saved.rglob("*") if p.is_file()}
    assert set(manifest["files"]) == files - {MANIFEST}


def test_a_flipped_bit_of_any_file_is_detected(saved):
    random = np.random.default_rng(4)
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert len(files) > 4
    for path in files:
        content = path.read_bytes()
        for _ in range(8):
            bit = int(random.integers(8 * len(content)))
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(Damaged, match="was altered"):
                read(saved, WORK)
        path.write_bytes(content)
    read(saved, WORK)


def test_a_missing_or_additional_file_is_detected(saved):
    (saved / "stray").write_bytes(b"")
    with pytest.raises(Damaged, match="its file stray does not belong to it"):
        read(saved, WORK)
    (saved / "stray").unlink()
    victim = next(p for p in saved.rglob("*") if p.is_file() and p.name != MANIFEST)
    victim.unlink()
    with pytest.raises(Damaged, match=f"{victim.name} is missing"):
        read(saved, WORK)


def test_a_checkpoint_without_a_manifest_is_half_written(saved):
    (saved / MANIFEST).unlink()
    with pytest.raises(Damaged, match="half-written, without a manifest"):
        read(saved, WORK)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000])
def test_a_manifest_with_other_content_is_altered(saved, content):
    (saved / MANIFEST).write_bytes(content)
    with pytest.raises(Damaged, match="its manifest was altered"):
        read(saved, WORK)


def test_a_checkpoint_of_other_work_is_not_read(saved):
    with pytest.raises(Damaged, match="it belongs to other runs"):
        read(saved, {**WORK, "seeds": [4]})


def test_leaves_that_orbax_restores_wrong_are_detected(saved, monkeypatch):
    import orbax.checkpoint as ocp

    whole = ocp.Checkpointer.restore

    def wrong(*arguments, **options):
        arrays = whole(*arguments, **options)
        return {**arrays, "0000": np.asarray(arrays["0000"]) * 2}

    monkeypatch.setattr(ocp.Checkpointer, "restore", wrong)
    with pytest.raises(Damaged, match=r"its leaf .+kernel'\] is not what"):
        read(saved, WORK)


def test_a_save_without_enough_space_is_not_started(tmp_path, monkeypatch):
    needed = 2**18 + 2 * sum(leaf.nbytes for leaf in LEAVES.values())
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    path = tmp_path / "kept" / "00000001-00000004"
    with pytest.raises(OSError, match=r"No space left on device: '.*kept'"):
        write(path, LEAVES, {"work": WORK, "position": {}})
    assert not path.exists()
    usage = usage._replace(free=needed)
    write(path, LEAVES, {"work": WORK, "position": {}})
    assert list(read(path, WORK)) == list(LEAVES)


def test_an_error_of_the_disk_is_extracted_from_orbaxs_text(tmp_path, monkeypatch):
    def full(*_, **__):
        raise ValueError("a page of text: No space left on device [os_error_code='28']")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", full)
    with pytest.raises(OSError) as raised:
        write(tmp_path / "kept" / "00000001-00000004", LEAVES, {"work": WORK})
    message = f"[Errno 28] No space left on device: '{tmp_path / 'kept'}'"
    assert str(raised.value) == message


def test_an_error_that_orbax_raises_is_not_logged_too(tmp_path, caplog, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orbax.checkpoint._src.path.async_path.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "00000001-00000004", LEAVES, {"work": WORK})
    assert caplog.records == []

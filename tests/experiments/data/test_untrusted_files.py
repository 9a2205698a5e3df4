"""Files from strangers: refused unread if too large, and never run as code."""

import ast
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_folders import write_pets
from support.prepared_dataset import write_prepared
from support.small_images import random_images
from support.usage_errors import usage_error

import experiments
from experiments.data import folder, memory, npz, tfds
from experiments.records.config import UsageError

LABELS = np.arange(6) % 2


@pytest.fixture
def small_memory(monkeypatch):
    """The machine has two million bytes of memory."""
    monkeypatch.setattr(memory, "total", lambda: 2_000_000)


def array(values: np.ndarray) -> bytes:
    """The content of an .npy file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def header(shape: str, descr: str = "'|u1'") -> bytes:
    """The content of an .npy file that ends after its header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def zipped(path: Path, images: bytes, **options) -> Path:
    with zipfile.ZipFile(path / "own.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", images, **options)
        file.writestr("labels.npy", array(LABELS))
    return path / "own.npz"


def refusal(path: Path) -> str:
    return usage_error(f"--dataset {path}: ", npz.read, path)


def test_the_memory_of_a_container_is_its_limit(tmp_path, monkeypatch):
    limits = [tmp_path / name for name in ("memory.max", "none", "unlimited")]
    limits[0].write_text("123456\n")
    limits[2].write_text("max\n")
    whole = memory.total()
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", limits)
    assert memory.total() == 123456 < whole
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", limits[1:])
    assert memory.total() >= whole


def test_zip_bomb_is_refused_before_unpacking(tmp_path, monkeypatch, small_memory):
    path = zipped(tmp_path, array(np.zeros((6, 1000, 1000), np.uint8)))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    assert usage_error(f"--dataset {path} would take ", npz.read, path) == (
        "0.0 GB, more than half of this machine's memory of 0.0 GB. Use a smaller file."
    )


def test_array_that_is_not_read_may_have_any_size(tmp_path, small_memory):
    path, images = tmp_path / "own.npz", random_images(51, 6, 4, 5)
    np.savez_compressed(path, images=images, labels=LABELS, rest=np.zeros(500_000))
    [(read, _)] = npz.read(path).parts
    assert (read[..., 0] == images).all()


def test_no_more_than_the_stated_size_of_an_array_is_unpacked(tmp_path, monkeypatch):
    path = zipped(tmp_path, array(np.zeros((6, 1000, 1000), np.uint8)))
    content = path.read_bytes()
    size = (6_000_128).to_bytes(4, "little")
    assert content.count(size) == 2  # before the array and in the directory at the end
    path.write_bytes(content.replace(size, (200).to_bytes(4, "little")))
    monkeypatch.setattr(memory, "total", lambda: 200_000)
    assert refusal(path).startswith("an array can't be read (")


@pytest.mark.parametrize(
    "images",
    [
        header("(1000000000000,)"),
        header("(99999999999999999999999, 4, 5)"),
        header("(-6, 4, 5)"),
        header("(" * 3_000),
        header("(6, 4, 5)", "'|O'"),
        header("(6, 4, 5)", "[('a', '|u1'), ('b', '<m8[s]')]"),
        header("(6, 4, 5)" + " " * 20_000),  # for which NumPy reports three lines
        header("(6, 4, 5)"),
        b"\x93NUMPY\x09\x00",
        b"words",
        b"",
    ],
)
def test_invalid_array_is_reported_in_one_line(tmp_path, images):
    message = refusal(zipped(tmp_path, images))
    assert "an array can't be read (" in message or "images has dtype" in message


def test_times_are_refused_as_images(tmp_path):
    images = random_images(52, 6, 4, 5).astype("m8[s]")
    np.savez(tmp_path / "own.npz", images=images, labels=LABELS)
    assert refusal(tmp_path / "own.npz").startswith("images has dtype timedelta64")


def test_name_that_is_too_long_for_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"n\.npz: there is no such file\.$"):
        npz.read(tmp_path / f"{'n' * 300}.npz")


def test_images_that_are_too_large_in_total_are_refused(tmp_path, monkeypatch):
    write_pets(tmp_path)
    monkeypatch.setattr(memory, "total", lambda: 2 * 5 * 6 * 5 * 3)
    prefix = f"--dataset {tmp_path}: the images would take "
    usage_error(prefix, folder.read, tmp_path, skip_broken=1.0)
    monkeypatch.setattr(memory, "total", lambda: 2 * 6 * 6 * 5 * 3)
    assert len(folder.read(tmp_path, skip_broken=1.0).parts[0][1]) == 6


def test_image_that_unpacks_to_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    write_pets(tmp_path)
    Image.new("RGB", (600, 500)).save(tmp_path / "cats" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    convert = Image.Image.convert  # decodes an image

    def convert_small(image, *arguments):
        assert image.size == (5, 6)
        return convert(image, *arguments)

    monkeypatch.setattr(Image.Image, "convert", convert_small)
    message = r"1 broken, first cats/bomb\.png \(Image size"
    with pytest.raises(UsageError, match=message):
        folder.read(tmp_path, skip_broken=0.0)


def test_prepared_data_set_is_refused_at_its_first_image(tmp_path, monkeypatch):
    images = random_images(53, 9, 6, 5, 3), np.arange(9) % 4
    write_prepared(tmp_path / "tiny" / "1.0.0", {"train": images, "test": images})
    monkeypatch.setattr(tfds, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "total", lambda: 1_000)
    with pytest.raises(UsageError, match=r"train would take .* more than half of t"):
        tfds.read("tiny", tmp_path)


def test_nothing_is_unpickled_and_only_users_files_are_run():
    unpickling = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    running = {"eval", "exec", "compile", "__import__", "import_module", "runpy"}
    root = Path(experiments.__file__).parent
    for path in root.rglob("*.py"):
        used = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import():
                    used |= {alias.name.partition(".")[0] for alias in node.names}
                case ast.ImportFrom(module=str(module)):
                    used |= {module.partition(".")[0]}
                case ast.Call(func=ast.Name(id=name)):
                    used |= {name}
                case ast.Call(func=ast.Attribute(attr="import_module" as name)):
                    used |= {name}
                case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                    pytest.fail(f"{path} unpickles")
        assert not used & unpickling, path
        # The command line imports modules by the names in its table of commands.
        may_run = path.name in ("user_code.py", "__main__.py")
        assert may_run or not used & running, path

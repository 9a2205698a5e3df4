"""Functions in users' files, named FILE.py:function on the command line.

The file runs with all rights of the user, as any Python script does. So the name of a
file is taken from the command line only, never from a stored record.
"""

import difflib
import hashlib
import importlib.util
import os
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.records.config import UsageError


def load(option: str, reference: str) -> tuple[Callable[..., Any], str]:
    """Imports a file and returns a function that it defines.

    Args:
      option: the option that names the function, for messages: "--arms".
      reference: FILE.py:function. The file may import modules from its own directory,
        but only while it is imported, not later in a function.

    Returns:
      The function, and a digest of 16 hex digits: it changes with any byte of the file
      and of the files below its directory that it imports, except installed packages.

    Raises:
      UsageError: there is no such file or function, or importing the file fails.
    """
    file, name = file_and_function(option, reference)
    path, source = _read(option, reference, _path(file))
    with usage_errors(option, reference, "importing the file"):
        module, digest = _execute(path, source)
    if not hasattr(module, name):
        defined = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        close = difflib.get_close_matches(name, defined) or defined[:3]
        hint = f"did you mean {' or '.join(close)}?" if close else "it defines none."
        raise UsageError(f"{option} {reference}: {file} has no function {name}; {hint}")
    function = getattr(module, name)
    if not callable(function):
        raise UsageError(
            f"{option} {reference}: {name} is of type {type(function).__name__}; a "
            "function is needed."
        )
    return function, digest


def file_and_function(option: str, reference: str) -> tuple[str, str]:
    """The two parts of FILE.py:function, of which neither may be empty.

    Raises:
      UsageError: one is missing; the message begins with the option and the reference.
    """
    file, colon, name = reference.rpartition(":")
    if not (file and colon and name):
        raise UsageError(
            f"{option} {reference}: name a file and a function in it, as in "
            "FILE.py:function."
        )
    return file, name


@contextmanager
def usage_errors(option: str, reference: str, action: str) -> Iterator[None]:
    """Turns an exception of a user's code into a one-line `UsageError`.

    The message gives the line of their file.

    Args:
      option: the option that names the code, for the message: "--arms".
      reference: FILE.py:function.
      action: what may raise the exception, for the message: "importing the file".
    """
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        file = str(_path(reference.rpartition(":")[0]).resolve())
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        place = f" at line {lines[-1]}" if lines else ""
        message = textwrap.shorten(str(error), 300, placeholder=" …")
        raise UsageError(
            f"{option} {reference}: {action} raised {type(error).__name__}{place}"
            f"{': ' if message else ''}{message.rstrip('.')}."
        ) from error


def difference(expected: Any, actual: Any) -> str | None:
    """The first difference of two trees in structure, shapes or dtypes, in words."""
    import jax  # slow: the command line alone needs none

    if jax.tree.structure(expected) != jax.tree.structure(actual):
        return "a tree of another structure"
    leaves = jax.tree.leaves_with_path(expected)
    for (path, leaf), other in zip(leaves, jax.tree.leaves(actual), strict=True):
        wanted, returned = (f"{x.dtype}{list(x.shape)}" for x in (leaf, other))
        if wanted != returned:
            where = jax.tree_util.keystr(path)
            return f"{returned}, not {wanted}{f', at {where}' if where else ''}"
    return None


def _path(file: str) -> Path:
    return Path(os.path.expanduser(file))  # leaves the ~ of an unknown user


def _read(option: str, reference: str, path: Path) -> tuple[Path, bytes]:
    """Returns the absolute path of the file and its bytes."""
    if os.path.isdir(path):
        raise UsageError(f"{option} {reference}: {path} is a directory; name a file.")
    if path.suffix != ".py":
        raise UsageError(
            f"{option} {reference}: {path} doesn't end in .py; name a Python file."
        )
    try:
        # Read first: for a loop of links, `resolve` doesn't raise an OSError.
        source = path.read_bytes()
        return path.resolve(), source
    except FileNotFoundError:
        raise UsageError(f"{option} {reference}: there is no file {path}.") from None
    except OSError as error:
        raise UsageError(
            f"{option} {reference}: {path} can't be read: {error.strerror}."
        ) from None


@cache
def _execute(path: Path, source: bytes) -> tuple[ModuleType, str]:
    """Returns the module that these bytes define, and the digest of its code.

    Never uses a compiled file, which may be of other bytes.
    """
    digest = hashlib.sha256(bytes(path) + source).hexdigest()[:16]
    name = f"{path.stem}_{digest}"  # so that no other module has it
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the path ends in .py
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[name] = module  # where dataclasses look up their annotations
    sys.path.insert(0, str(path.parent))
    try:
        exec(compile(source, path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        with suppress(ValueError):
            sys.path.remove(str(path.parent))
    imported = [sys.modules[key] for key in sys.modules.keys() - before - {name}]
    return module, _digest(source, path.parent, imported)


def _digest(source: bytes, directory: Path, imported: list[ModuleType]) -> str:
    """Digest of the source and of the modules below its directory that it imported."""
    digest = hashlib.sha256(source)
    files = (getattr(module, "__file__", None) for module in imported)
    for file in sorted({Path(file) for file in files if file}):
        if file.is_relative_to(directory) and not _is_installed(file):
            content = file.read_bytes()
            place = file.relative_to(directory).as_posix()
            digest.update(f"\n{place} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _is_installed(file: Path) -> bool:
    """Whether it belongs to Python, to an installed package or to this program.

    They may lie below a user's directory, but a run records their versions separately.
    """
    packages = {"site-packages", "dist-packages"}
    root = Path(__file__).resolve().parents[1]
    ours = (root / "experiments", root / "optax_momentum")
    directories = (*ours, sysconfig.get_path("stdlib"))
    return bool(packages & set(file.parts)) or any(
        map(file.is_relative_to, directories)
    )

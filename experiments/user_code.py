"""A function of the user's own file, named FILE.py:function on the command line.

The file is run as Python runs any script, with all that the user may do: so a name
comes from the command line's arguments alone, never from a stored record.
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
    """Imports a file and finds a function in it.

    Args:
      option: the option by which it was named, for messages: "--arms".
      reference: FILE.py:function. The file may import its neighbours at its top.

    Returns:
      The function, and 16 hex digits that differ when any byte of the file does, or of
      a file below its directory that importing it imports, installed packages apart.

    Raises:
      UsageError: there is no such file or function, or importing the file fails.
    """
    file, colon, name = reference.rpartition(":")
    if not (file and colon and name):
        raise UsageError(
            f"{option} {reference}: name a file and a function in it, as in "
            "FILE.py:function."
        )
    path, source = _read(option, reference, _path(file))
    with told(option, reference, "importing the file"):
        module, digest = _executed(path, source)
    if not hasattr(module, name):
        defined = [key for key, value in vars(module).items() if _is_own(value, module)]
        close = difflib.get_close_matches(name, defined) or defined[:3]
        hint = f"did you mean {' or '.join(close)}?" if close else "it defines none."
        raise UsageError(f"{option} {reference}: {file} has no function {name}; {hint}")
    function = getattr(module, name)
    if not callable(function):
        raise UsageError(
            f"{option} {reference}: {name} is of type {type(function).__name__}, and "
            "a function is needed."
        )
    return function, digest


@contextmanager
def told(option: str, reference: str, doing: str) -> Iterator[None]:
    """Turns whatever a user's code raises into one line, with the line of their file.

    Args:
      option: the option by which the code was named.
      reference: what it was named.
      doing: what raised: "importing the file".
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
        said = textwrap.shorten(str(error), 300, placeholder=" …")
        raise UsageError(
            f"{option} {reference}: {doing} raised {type(error).__name__}{place}"
            f"{': ' if said else ''}{said.rstrip('.')}."
        ) from error


def _path(file: str) -> Path:
    return Path(os.path.expanduser(file))  # as it is where there is no such user


def _read(option: str, reference: str, path: Path) -> tuple[Path, bytes]:
    """The file's full path and its bytes."""
    if os.path.isdir(path):
        raise UsageError(f"{option} {reference}: {path} is a directory; name a file.")
    if path.suffix != ".py":
        raise UsageError(
            f"{option} {reference}: {path} doesn't end in .py; name a Python file."
        )
    try:
        source = path.read_bytes()  # first: resolving a loop of links is no OSError
        return path.resolve(), source
    except FileNotFoundError:
        raise UsageError(f"{option} {reference}: there is no file {path}.") from None
    except OSError as error:
        raise UsageError(
            f"{option} {reference}: {path} can't be read: {error.strerror}."
        ) from None


@cache
def _executed(path: Path, source: bytes) -> tuple[ModuleType, str]:
    """The module that these very bytes make, and the digest of all that it is made of.

    No compiled copy of other bytes is used.
    """
    digest = hashlib.sha256(bytes(path) + source).hexdigest()[:16]
    name = f"{path.stem}_{digest}"  # no other module's
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
    """Of the source alone, unless some of what it imported is below its directory."""
    digest = hashlib.sha256(source)
    files = (getattr(module, "__file__", None) for module in imported)
    for file in sorted({Path(each) for each in files if each}):
        if file.is_relative_to(directory) and not _is_installed(file):
            content = file.read_bytes()
            place = file.relative_to(directory).as_posix()
            digest.update(f"\n{place} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _is_installed(file: Path) -> bool:
    """Whether it belongs to Python, to a package or to this program: a run names them.

    All of them may be below a user's directory.
    """
    packages = {"site-packages", "dist-packages"}
    here = Path(__file__).resolve().parents[1]
    own = (here / "experiments", here / "optax_momentum", sysconfig.get_path("stdlib"))
    return bool(packages & set(file.parts)) or any(map(file.is_relative_to, own))


def _is_own(value: Any, module: ModuleType) -> bool:
    """Whether it is a function or class that the module itself defines."""
    return callable(value) and getattr(value, "__module__", None) == module.__name__

"""Functions in users' files: imported without side effects, digested, refused."""

import hashlib
import re
import sys
from pathlib import Path

import pytest
from support.usage_errors import usage_error

from experiments.records.config import UsageError
from experiments.user_code import load, usage_errors


def write(tmp_path: Path, text: str, name: str = "own.py") -> str:
    """Returns the path of the file, as a string."""
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def refusal(reference: str) -> str:
    return usage_error(f"--arms {reference}: ", load, "--arms", reference)


def test_function_is_returned_with_a_digest_of_the_files_bytes(tmp_path: Path):
    function, digest = load("--arms", f"{write(tmp_path, 'def f(x): return x + 3')}:f")
    assert function(4) == 7
    assert re.fullmatch("[0-9a-f]{16}", digest)
    same = write(tmp_path, "def f(x): return x + 3", "copy.py")
    other = write(tmp_path, "def f(x): return x + 3 ", "other.py")
    assert load("--arms", f"{same}:f")[1] == digest != load("--arms", f"{other}:f")[1]


def test_file_runs_again_only_if_it_changed(tmp_path: Path):
    path = write(tmp_path, "def f(): return 1")
    first, _ = load("--arms", f"{path}:f")
    assert load("--model", f"{path}:f")[0] is first
    write(tmp_path, "def f(): return 2")  # of the same size, and perhaps time
    assert load("--arms", f"{path}:f")[0]() == 2


def test_file_may_import_its_neighbors_and_sys_path_is_restored(tmp_path: Path):
    write(tmp_path, "NUMBER = 5", "neighbor_of_own.py")
    before = list(sys.path)
    path = write(tmp_path, "import neighbor_of_own as n; f = lambda: n.NUMBER")
    function, _ = load("--arms", f"{path}:f")
    assert function() == 5
    assert sys.path == before


def test_digest_includes_modules_imported_from_the_files_directory(tmp_path: Path):
    def digest(place: str, part="N = 1", deeper="", unused="") -> str:
        package = tmp_path / place / "inner_of_own"
        package.mkdir(parents=True)
        write(package, f"from . import deeper\n{part}", "part.py")
        write(package, deeper, "deeper.py")
        write(package, unused, "unused.py")
        text = "import math, inner_of_own.part as part\ndef f(): return part.N"
        reference = f"{write(tmp_path / place, text)}:f"
        result = load("--arms", reference)[1]
        assert load("--arms", reference)[1] == result  # though already imported
        for name in [name for name in sys.modules if name.startswith("inner_of_own")]:
            del sys.modules[name]
        return result

    first = digest("1")
    assert digest("2") == first == digest("3", unused="N = 1")
    assert len({first, digest("4", part="N = 2"), digest("5", deeper="N = 2")}) == 3


def test_digest_excludes_installed_packages(tmp_path: Path, monkeypatch):
    (tmp_path / "site-packages").mkdir()
    write(tmp_path / "site-packages", "N = 4", "installed_for_own.py")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    text = "import installed_for_own as i\ndef f(): return i.N"
    function, digest = load("--arms", f"{write(tmp_path, text)}:f")
    assert function() == 4
    assert digest == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_failed_import_leaves_sys_path_and_modules_unchanged(tmp_path: Path):
    before, modules = list(sys.path), set(sys.modules)
    refusal(f"{write(tmp_path, 'raise ValueError')}:f")
    assert sys.path == before
    assert set(sys.modules) == modules


def test_dataclass_with_postponed_annotations_can_be_defined(tmp_path: Path):
    text = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, fields\n"
        "@dataclass\nclass A:\n    x: int\n"
        "def f(): return [field.name for field in fields(A(1))]\n"
    )
    assert load("--arms", f"{write(tmp_path, text)}:f")[0]() == ["x"]


def test_files_with_the_same_name_are_different_modules(tmp_path: Path):
    functions = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        path = write(tmp_path / str(number), f"N = {number}\ndef f(): return N")
        functions.append(load("--arms", f"{path}:f")[0])
    assert [function() for function in functions] == [1, 2]


def test_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "def f(): return 9")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("--arms", "~/own.py:f")[0]() == 9
    assert refusal("~nobody-here/own.py:f") == "there is no file ~nobody-here/own.py."


@pytest.mark.parametrize("reference", ["own.py", "own.py:", ":f", "momentun"])
def test_reference_without_file_or_function_is_refused(reference: str):
    message = "name a file and a function in it, as in FILE.py:function."
    assert refusal(reference) == message


def test_path_that_is_not_a_python_file_is_refused(tmp_path: Path):
    (tmp_path / "folder.py").mkdir()
    text = write(tmp_path, "def f(): pass", "own.txt")
    assert "nothing.py" in refusal(f"{tmp_path}/nothing.py:f")
    assert refusal(f"{tmp_path}/nothing.py:f").startswith("there is no file ")
    assert refusal(f"{tmp_path}/folder.py:f").endswith("is a directory; name a file.")
    assert refusal(f"{text}:f").endswith("doesn't end in .py; name a Python file.")


def test_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch):
    def read_bytes(path):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, "def f(): pass")
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert refusal(f"{path}:f") == f"{path} can't be read: Permission denied."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax (own.py, line 2)."),
        (
            "import math\n\n\ndef g(): return 1 / 0\n\n\ng()\n",
            "ZeroDivisionError at line 4: division by zero.",
        ),
        ("import nowhere", "ModuleNotFoundError at line 1: No module named 'nowhere'."),
        ("raise ValueError('two\\nlines')", "ValueError at line 1: two lines."),
        ("\nraise SystemExit", "SystemExit at line 2."),
        ("x = '\0'", "SyntaxError: source code string cannot contain null bytes."),
    ],
)
def test_failed_import_is_reported_with_its_line(tmp_path: Path, text, message):
    path = write(tmp_path, text)
    assert refusal(f"{path}:f") == f"importing the file raised {message}"


def test_long_message_is_shortened(tmp_path: Path):
    path = write(tmp_path, "raise ValueError('word ' * 1000)")
    message = refusal(f"{path}:f")
    assert 250 < len(message) < 400 and message.endswith("word ….")


def test_keyboard_interrupt_is_not_turned_into_a_usage_error(tmp_path: Path):
    path = write(tmp_path, "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("--arms", f"{path}:f")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("armz", "has no function armz; did you mean arms?"),
        ("x" * 9, "has no function xxxxxxxxx; did you mean arms or network?"),
        ("NUMBER", "NUMBER is of type int; a function is needed."),
    ],
)
def test_name_that_is_not_a_function_is_refused(tmp_path: Path, name, message):
    text = "from math import exp\nNUMBER = 3\ndef arms(): pass\nclass network: pass\n"
    assert refusal(f"{write(tmp_path, text)}:{name}").endswith(message)


def test_file_without_functions_is_reported(tmp_path: Path):
    path = write(tmp_path, "from math import exp")
    assert refusal(f"{path}:f") == f"{path} has no function f; it defines none."


def test_error_of_a_call_is_reported_with_the_line_in_the_users_file(tmp_path: Path):
    text = "def g(x):\n    return x[3]\n\n\ndef f(x):\n    return g(x)\n"
    reference = f"{write(tmp_path, text)}:f"
    function, _ = load("--arms", reference)
    with pytest.raises(UsageError) as refused:
        with usage_errors("--arms", reference, "calling it"):
            function([1])
    assert str(refused.value) == (
        f"--arms {reference}: calling it raised IndexError at line 2: list index out "
        "of range."
    )
    with pytest.raises(UsageError) as refused, usage_errors("--arms", reference, ""):
        raise UsageError("as it is")
    assert str(refused.value) == "as it is"

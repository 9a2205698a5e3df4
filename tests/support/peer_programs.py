"""Stand-ins for the programs that run in another library's environment."""

from pathlib import Path

from experiments.peers import process

PROGRAM = """
import sys
print({name!r}, "of", *sys.argv[1:], flush=True)
for line in sys.stdin:
    with open({log!r}, "a") as log:
        log.write({name!r} + " " + line)
    print({answer}, flush=True)
"""


def replace_programs(monkeypatch, directory: Path, answers: dict[str, str]) -> Path:
    """Replaces the programs with ones that print their names and arguments first.

    Args:
      monkeypatch: restores the programs after the test.
      directory: an empty directory.
      answers: by file name, a Python expression that may use the `line` received.

    Returns:
      The file to which the programs append their names and the lines they receive.
    """
    log = directory / "log"
    monkeypatch.setattr(process, "PROGRAMS", directory)
    for name, answer in answers.items():
        program = PROGRAM.format(name=name, log=str(log), answer=answer)
        (directory / name).write_text(program)
    return log

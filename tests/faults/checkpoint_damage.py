"""Damaged checkpoints: flipped bits; files cut, deleted or swapped; unfinished ones."""

import shutil
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from failpoints import Failpoint
from reference import Reference
from sandbox import Sandbox, position_of
from tally import Tally
from watched_command import digest, use_small_network

from experiments.__main__ import main
from experiments.training.checkpoints import MANIFEST, Checkpoints, Damaged, read

_REFUSED = "refused; the previous, intact one is restored"
_FOURTH = Failpoint("os.rename", r"manifest\.json\.partial$", 4, later=1)


class Sample(NamedTuple):
    """Real checkpoints, and what a command needs to restore them."""

    older: Path
    newer: Path
    foreign: Path  # belongs to another run
    checkpoints: Checkpoints
    template: Any
    reference: Reference
    messages: list[str]  # what the user is shown


Damage = Callable[[Path], object]  # damages the checkpoint at a path


def _overwrite(file: Path, content: bytes) -> Damage:
    return lambda path: (path / file).write_bytes(content)


def sample(sandbox: Sandbox, reference: Reference) -> Sample:
    """Kills two commands once each has saved several checkpoints."""
    other = (*sandbox.command, "--learning-rate", "0.02")
    saved = []
    for name, command in {"ours": sandbox.command, "foreign": other}.items():
        trial = sandbox._replace(directory=sandbox.directory / name, command=command)
        trial.run(failpoint=_FOURTH)
        saved.append(sorted(p.parent for p in trial.output.rglob(MANIFEST)))
    (*_, older, newer), (*_, foreign) = saved
    messages: list[str] = []
    checkpoints, template = _restoring(sandbox, messages)
    return Sample(older, newer, foreign, checkpoints, template, reference, messages)


class _Restoring(BaseException):
    """Carries the arguments with which a command would restore a checkpoint."""


def _restoring(sandbox: Sandbox, messages: list[str]) -> tuple[Checkpoints, Any]:
    def stop(self: Checkpoints, template: Any) -> Any:
        self._log = messages.append
        raise _Restoring(self, template)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "restore", stop)
        use_small_network(patch.setattr)
        try:
            main([*sandbox.command, "--output", str(sandbox.output)])
        except _Restoring as call:
            return call.args[0], call.args[1]
    raise SystemExit("the command restores no checkpoint")


def flips(sample: Sample, random: Random, number: int) -> Tally:
    """Flips a random bit, in each file in turn."""

    def flip(path: Path, file: Path) -> None:
        content = bytearray((path / file).read_bytes())
        bit = random.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        (path / file).write_bytes(content)

    tally = Tally("a bit of a checkpoint's file flipped", _REFUSED)
    for file in islice(cycle(_files(sample.newer)), number):
        tally.add(_refusal(sample, lambda path, file=file: flip(path, file)))
    return tally


def truncations(sample: Sample) -> Tally:
    """Cuts every file to 0 bytes, 1 byte, half of it and all but one byte."""
    tally = Tally("a checkpoint's file cut to 0, 1, n/2 or n − 1 bytes", _REFUSED)
    for file in _files(sample.newer):
        content = (sample.newer / file).read_bytes()
        for size in sorted({0, 1, len(content) // 2, len(content) - 1}):
            tally.add(_refusal(sample, _overwrite(file, content[:size])))
    return tally


def deletions(sample: Sample) -> Tally:
    """Deletes every file."""
    tally = Tally("a checkpoint's file deleted", _REFUSED)
    for file in _files(sample.newer):
        tally.add(_refusal(sample, lambda path, file=file: (path / file).unlink()))
    return tally


def swaps(sample: Sample) -> Tally:
    """Replaces every file with the same file of another step's checkpoint."""
    tally = Tally("a checkpoint's file replaced by another step's", _REFUSED)
    for ours, theirs in zip(_files(sample.newer), _files(sample.older), strict=False):
        content = (sample.older / theirs).read_bytes()
        if content != (sample.newer / ours).read_bytes():
            tally.add(_refusal(sample, _overwrite(ours, content)))
    return tally


def leftovers(sample: Sample) -> Tally:
    """Adds an unusable checkpoint of a later step to the intact ones."""
    tally = Tally(
        "an unfinished, foreign or stray checkpoint of a later step beside intact ones",
        "refused; the newest intact one is restored",
    )
    for name, source, missing in _later(sample):
        _place(sample)
        path = sample.checkpoints.directory / name
        if source is None:
            path.write_bytes(b"not even a directory")
        else:
            shutil.copytree(source, path)
            for file in missing:
                (path / file).unlink()
        tally.add(_check_restored(sample, sample.newer))
    return tally


def _later(sample: Sample) -> Iterator[tuple[str, Path | None, list[Path]]]:
    later, files = "99999998-00000000", _files(sample.newer)
    for number in range(len(files)):
        yield f"{later}.orbax-checkpoint-tmp", sample.newer, files[number:]
        yield later, sample.newer, files[number:]
    yield later, sample.foreign, []
    yield later, None, []


def _files(path: Path) -> list[Path]:
    """All files of a checkpoint, its manifest last, in the order of saving."""
    files = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    return sorted(files, key=lambda file: file.name == MANIFEST)


def _place(sample: Sample) -> None:
    directory = sample.checkpoints.directory
    shutil.rmtree(directory, ignore_errors=True)
    for path in (sample.older, sample.newer):
        shutil.copytree(path, directory / path.name)


def _refusal(sample: Sample, damage: Damage) -> str | None:
    """Damages the newer checkpoint; describes what goes wrong, if anything does."""
    _place(sample)
    path = sample.checkpoints.directory / sample.newer.name
    damage(path)
    try:
        read(path, sample.checkpoints._work)
    except Damaged:
        return _check_restored(sample, sample.older)
    return f"{path} was read"


def _check_restored(sample: Sample, expected: Path) -> str | None:
    sample.messages.clear()
    tree = sample.checkpoints.restore(sample.template)
    if tree is None:
        return f"nothing was restored, not even {expected.name}: {sample.messages}"
    work = sample.checkpoints.directory.name
    if digest(tree) != sample.reference.states[work, *position_of(expected)]:
        return f"the state restored is not that of {expected.name}: {sample.messages}"
    if not any(line.startswith("Skipped ") for line in sample.messages):
        return f"the user was not informed: {sample.messages}"
    return None

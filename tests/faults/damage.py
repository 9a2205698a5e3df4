"""Checkpoints with a bit flipped, cut, gone, swapped, half-written or of other runs."""

import shutil
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from failpoints import Failpoint
from scene import Scene, at
from tally import Tally
from truth import Truth
from victim import digest, smaller

from experiments.__main__ import main
from experiments.training import checkpoints
from experiments.training.checkpoints import Checkpoints

_REFUSED = "refused; the whole one before is restored"
_FOURTH = Failpoint("os.rename", r"manifest\.json\.partial$", 4, later=1)


class Sample(NamedTuple):
    """Two real checkpoints of one run, and what a command restores from them."""

    older: Path
    newer: Path
    foreign: Path  # of another run
    checkpoints: Checkpoints
    template: Any
    truth: Truth
    told: list[str]


Damage = Callable[[Path], object]  # does it to one of them


def sample(scene: Scene, truth: Truth) -> Sample:
    """Of two commands that were killed when they had saved some."""
    other = (*scene.command, "--learning-rate", "0.02")
    kept = []
    for name, command in {"ours": scene.command, "foreign": other}.items():
        own = scene._replace(directory=scene.directory / name, command=command)
        own.live(failpoint=_FOURTH)
        kept.append(sorted(p.parent for p in own.output.rglob(checkpoints.MANIFEST)))
    (*_, older, newer), (*_, foreign) = kept
    told: list[str] = []
    checkpoints, template = _restoring(scene, told)
    return Sample(older, newer, foreign, checkpoints, template, truth, told)


class _Restoring(BaseException):
    """What a command is about to restore."""


def _restoring(scene: Scene, told: list[str]) -> tuple[Checkpoints, Any]:
    def stop(self: Checkpoints, template: Any) -> Any:
        self._log = told.append
        raise _Restoring(self, template)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "restore", stop)
        smaller(patch.setattr)
        try:
            main([*scene.command, "--output", str(scene.output)])
        except _Restoring as found:
            return found.args[0], found.args[1]
    raise SystemExit("the command restores nothing")


def flips(sample: Sample, random: Random, number: int) -> Tally:
    """One bit, of each file in turn."""

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
    """Every file, cut to 0 bytes, 1, half of them and all but one."""
    tally = Tally("a checkpoint's file cut to 0, 1, n/2 or n − 1 bytes", _REFUSED)
    for file in _files(sample.newer):
        content = (sample.newer / file).read_bytes()
        for size in sorted({0, 1, len(content) // 2, len(content) - 1}):
            tally.add(
                _refusal(
                    sample,
                    lambda path, file=file, cut=content[:size]: (
                        path / file
                    ).write_bytes(cut),
                )
            )
    return tally


def deletions(sample: Sample) -> Tally:
    """Every file, gone."""
    tally = Tally("a checkpoint's file deleted", _REFUSED)
    for file in _files(sample.newer):
        tally.add(_refusal(sample, lambda path, file=file: (path / file).unlink()))
    return tally


def swaps(sample: Sample) -> Tally:
    """Every file, in the place of the one that another step has there."""
    tally = Tally("a checkpoint's file replaced by another step's", _REFUSED)
    for ours, theirs in zip(_files(sample.newer), _files(sample.older), strict=False):
        content = (sample.older / theirs).read_bytes()
        if content != (sample.newer / ours).read_bytes():
            tally.add(
                _refusal(
                    sample,
                    lambda path, ours=ours, content=content: (path / ours).write_bytes(
                        content
                    ),
                )
            )
    return tally


def leftovers(sample: Sample) -> Tally:
    """Beside whole checkpoints, a later one that is not."""
    tally = Tally(
        "an unfinished, foreign or stray checkpoint of a later step beside whole ones",
        "refused; the newest whole one is restored",
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
        tally.add(_other_than(sample, sample.newer))
    return tally


def _later(sample: Sample) -> Iterator[tuple[str, Path | None, list[Path]]]:
    later = "99999998-00000000"
    files = _files(sample.newer)
    for number in range(len(files)):
        yield f"{later}.orbax-checkpoint-tmp", sample.newer, files[number:]
        yield later, sample.newer, files[number:]
    yield later, sample.foreign, []
    yield later, None, []


def _files(path: Path) -> list[Path]:
    """All files of a checkpoint; its manifest is the last, as when it is saved."""
    files = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    return sorted(files, key=lambda file: file.name == checkpoints.MANIFEST)


def _place(sample: Sample) -> None:
    directory = sample.checkpoints.directory
    shutil.rmtree(directory, ignore_errors=True)
    for path in (sample.older, sample.newer):
        shutil.copytree(path, directory / path.name)


def _refusal(sample: Sample, damage: Damage) -> str | None:
    """What goes wrong if the newer one is damaged; None if nothing does."""
    _place(sample)
    path = sample.checkpoints.directory / sample.newer.name
    damage(path)
    try:
        checkpoints.read(path, sample.checkpoints._work)
    except checkpoints.Damaged:
        return _other_than(sample, sample.older)
    return f"{path} was read"


def _other_than(sample: Sample, expected: Path) -> str | None:
    sample.told.clear()
    tree = sample.checkpoints.restore(sample.template)
    if tree is None:
        return f"nothing was restored, not even {expected.name}: {sample.told}"
    work = sample.checkpoints.directory.name
    if digest(tree) != sample.truth.states[work, *at(expected)]:
        return f"another state than {expected.name}'s was restored: {sample.told}"
    if not any("is left out" in line for line in sample.told):
        return f"the user was not told: {sample.told}"
    return None

"""The stages of a save, and the moments inside each at which a process can die."""

from collections.abc import Callable
from random import Random

from failpoints import Failpoint

_CHECKPOINT = r"checkpoints/[^/]+/[\d-]+"
_UNFINISHED = rf"{_CHECKPOINT}\.orbax-checkpoint-tmp"
_METADATA = rf"{_UNFINISHED}/(_METADATA|_CHECKPOINT_METADATA|commit_success.txt)$"


def _arrays(random: Random) -> Failpoint:
    """When some of the files of the arrays are there."""
    files = random.randint(1, 5)
    return Failpoint("os.mkdir", rf"{_UNFINISHED}$", random.randint(1, 9), files=files)


def _metadata(random: Random) -> Failpoint:
    """Before one of Orbax's own files is written, or when it is there and empty."""
    return Failpoint("open", _METADATA, random.randint(1, 30), random.randint(0, 1))


def _rename(random: Random) -> Failpoint:
    """Before the checkpoint gets its name, or just after."""
    occurrence, later = random.randint(1, 9), random.randint(0, 1)
    return Failpoint("os.rename", rf"{_UNFINISHED}$", occurrence, later)


def _written(path: str, occurrences: int) -> Callable[[Random], Failpoint]:
    """While a file is replaced: before, at any share of it, and around the rename."""

    def moment(random: Random) -> Failpoint:
        partial, occurrence = rf"{path}\.partial$", random.randint(1, occurrences)
        return random.choice(
            [
                Failpoint("open", partial, occurrence),
                Failpoint("fsync", partial, occurrence, kept=random.random()),
                Failpoint("os.rename", partial, occurrence),
                Failpoint("os.rename", partial, occurrence, later=1),
            ]
        )

    return moment


def _deletion(path: str, occurrences: int) -> Callable[[Random], Failpoint]:
    """When some of the files of a directory are gone."""

    def moment(random: Random) -> Failpoint:
        occurrence, later = random.randint(1, occurrences), random.randint(0, 12)
        return Failpoint("shutil.rmtree", rf"{path}$", occurrence, later)

    return moment


STAGES: dict[str, Callable[[Random], Failpoint]] = {
    "writing the arrays": _arrays,
    "writing Orbax's metadata": _metadata,
    "renaming the checkpoint": _rename,
    "writing the manifest": _written(r"manifest\.json", 9),
    "deleting an old step": _deletion(_CHECKPOINT, 9),
    "recording a run": _written(r"runs\.jsonl", 2),
    "deleting the checkpoints of a recorded run": _deletion(r"checkpoints/[^/]+", 2),
    "writing the page": _written(r"(summary\.json|curves\.png|report\.html)", 3),
}

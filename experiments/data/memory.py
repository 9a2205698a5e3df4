"""The memory of this machine: data that would not fit are refused unread."""

import os
from contextlib import suppress
from pathlib import Path

from experiments.records.config import UsageError

# Where Linux states the limit of a container: control groups of version 2, and of 1.
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def check_fits(where: str, size: int, remedy: str) -> None:
    """Raises `UsageError` if `size` bytes are more than half of the memory.

    The other half is left for copies of the data and for other programs.
    """
    if size > total() // 2:
        raise UsageError(
            f"{where} would take {size / 1e9:,.1f} GB, more than half of this "
            f"machine's memory of {total() / 1e9:,.1f} GB. {remedy}"
        )


def total() -> int:
    """The memory of this machine, or of the container in which this runs, in bytes."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # no container, or one without a limit
            sizes.append(int(path.read_text()))
    return min(sizes)

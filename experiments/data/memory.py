"""The memory of this machine: data that would not fit are refused unread."""

import os

from experiments.records.config import UsageError


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
    """The physical memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

"""The memory of this machine: data that it can't hold are refused unread."""

import os

from experiments.records.config import UsageError


def check_fits(where: str, size: int, remedy: str) -> None:
    """Raises `UsageError` for data of more bytes than half of the memory.

    The other half is for copies of them, and for whoever else needs some.
    """
    if size > total() // 2:
        raise UsageError(
            f"{where} would take {size / 1e9:,.1f} GB, more than half of this "
            f"machine's memory of {total() / 1e9:,.1f} GB. {remedy}"
        )


def total() -> int:
    """All the memory that there is, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

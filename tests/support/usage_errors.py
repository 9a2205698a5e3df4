"""The message of a `UsageError`, checked to be one printable line."""

from collections.abc import Callable
from typing import Any

import pytest

from experiments.records.config import UsageError


def usage_error(
    prefix: str, function: Callable[..., Any], *arguments: Any, **options: Any
) -> str:
    """Returns what follows the prefix in the message of the error of this call."""
    with pytest.raises(UsageError) as error:
        function(*arguments, **options)
    message = str(error.value)
    assert message.startswith(prefix) and message.isprintable()
    return message.removeprefix(prefix)

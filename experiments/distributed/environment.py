"""Variables of the environment with which JAX can't start, reported in one line."""

import os
import re
import subprocess
import sys

from experiments.records.config import UsageError

# A line that XLA logs as an error, or before it ends the process.
_COMPLAINT = re.compile(r"^[EF]\d{4} [^]]*\] (.+)$", re.MULTILINE)


def import_jax() -> None:
    """Imports JAX.

    Raises:
      UsageError: a variable has a value that JAX or XLA refuses.
    """
    if os.environ.get("XLA_FLAGS"):
        _check_flags()
    try:
        import jax
    except ValueError as error:
        reason = str(error)
        named = [
            f"{name}={value}"
            for name, value in os.environ.items()
            if name.startswith("JAX_") and (name in reason or repr(value) in reason)
        ]
        raise UsageError(
            f"JAX refuses a variable of the environment, {' or '.join(named)}: "
            f"{reason.rstrip('.')}. Correct or unset it."
        ) from None
    if jax.config.values["jax_disable_jit"]:
        raise UsageError(
            "JAX_DISABLE_JIT is set, but runs are compiled as one program, and would "
            "take hours operation by operation. Unset it."
        )


def find_devices() -> None:
    """Starts JAX's devices; several processes must have been joined before.

    Raises:
      UsageError: there is none of the kind that JAX_PLATFORMS names, or none at all.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a message
        platforms = jax.config.values["jax_platforms"]  # from the variable
        reason = " ".join(str(error).split()) or "it finds no such device"
        what = f"JAX_PLATFORMS={platforms}: " if platforms else ""
        raise UsageError(
            f"{what}JAX can't start its devices: {reason.rstrip('.')}. Set "
            "JAX_PLATFORMS to cpu, or unset it to take what there is."
        ) from None


def _check_flags() -> None:
    """Raises `UsageError` for flags that XLA refuses, by ending another process."""
    program = "import jax; jax.devices()"
    tried = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    complaint = _COMPLAINT.search(tried.stderr)
    if tried.returncode and complaint:
        raise UsageError(
            f"XLA refuses XLA_FLAGS={os.environ['XLA_FLAGS']}: "
            f"{complaint[1].rstrip('.')}. Correct or unset the variable."
        )

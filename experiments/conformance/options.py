"""The options of `conformance` and of `bad-inputs`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conformance:
    """Check which library keeps which promise of `optax_momentum.testing`.

    Checks optax_momentum, Optax, PyTorch and Keras, and writes conformance.md and
    conformance.html, which also say how a promise is broken. Every cell comes from a
    run.
    """

    output: Path = Path("docs")
    """Directory of the two files."""

    peers: Path | None = None
    """Python interpreter of an environment that has PyTorch,
    Keras or both; without it, they are left out."""


@dataclass(frozen=True)
class BadInputs:
    """Give forty bad inputs to optax_momentum and to Optax, and write what happens.

    Each is given in four modes: eager, jit, vmap and scan. Every cell of bad_inputs.md
    comes from a run. Takes about two minutes.
    """

    output: Path = Path("docs")
    """Directory of the file."""

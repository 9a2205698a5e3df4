"""What a finished run of `speedrun` leaves: one JSON file for each seed."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from experiments.records.config import UsageError
from experiments.records.files import to_json, write_atomically


@dataclass(frozen=True)
class SpeedrunRecord:
    """A finished run."""

    seed: int
    steps: int
    train_loss: list[float]  # an epoch, smoothed, in training
    train_accuracy: list[float]
    test_loss: list[float]
    test_accuracy: list[float]
    multicrop_accuracy: float
    training_seconds: float
    multicrop_seconds: float
    compile_seconds: float
    test_seconds: float  # of scoring the test images once
    step_parts: dict[str, float]  # seconds of each part of a step, run alone
    matrix_gigaflops: float  # of float32 products, measured before and after the run
    resumed: int  # times resumed from a checkpoint
    versions: dict[str, str]
    device: str
    devices: int
    git_commit: str | None


def path_of(output: Path, seed: int) -> Path:
    return output / f"seed-{seed}.json"


def write(output: Path, record: SpeedrunRecord) -> None:
    """Writes the file atomically."""
    text = to_json(asdict(record), indent=2)
    write_atomically(path_of(output, record.seed), f"{text}\n".encode())


def read(output: Path, seed: int) -> SpeedrunRecord | None:
    """The finished run of a seed, if there is one.

    Raises:
      UsageError: its file is not whole.
    """
    path = path_of(output, seed)
    try:
        values = json.loads(path.read_bytes())
        if {*values} != {field.name for field in fields(SpeedrunRecord)}:
            raise ValueError("its fields are others")
        return SpeedrunRecord(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path} is not a whole record of this program: {error}. Repair or remove "
            "it, or choose another --output."
        ) from None

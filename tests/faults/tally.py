"""Counts how often a fault was injected and how often the promise was kept."""

from dataclasses import dataclass, field


class FaultMissed(Exception):
    """The process ended before the fault could happen; the trial doesn't count."""


@dataclass
class Tally:
    """One row of the published table; each complaint describes a broken promise."""

    fault: str
    promise: str
    trials: int = 0
    complaints: list[str] = field(default_factory=list)

    def add(self, complaint: str | None) -> None:
        """Counts one trial, in which the promise was kept if there is no complaint."""
        self.trials += 1
        if complaint is not None:
            self.add_failure(complaint)

    def add_failure(self, complaint: str) -> None:
        """Records a failure, in a trial or because a trial was impossible."""
        self.complaints.append(complaint)
        print(f"BROKEN: {self.fault}: {complaint}", flush=True)

    @property
    def kept(self) -> int:
        """Trials in which the promise was kept."""
        return max(0, self.trials - len(self.complaints))

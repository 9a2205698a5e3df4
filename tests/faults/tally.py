"""How often a fault was injected, and how often what is promised then held."""

from dataclasses import dataclass, field


class Missed(Exception):
    """The fault did not happen: the process had ended before."""


@dataclass
class Tally:
    """One row of the figures; a complaint is a promise that was broken."""

    fault: str
    promise: str
    trials: int = 0
    complaints: list[str] = field(default_factory=list)

    def add(self, complaint: str | None) -> None:
        """One trial more."""
        self.trials += 1
        if complaint is not None:
            self.broken(complaint)

    def broken(self, complaint: str) -> None:
        """The promise was not kept in one of the trials, or could not be tried."""
        self.complaints.append(complaint)
        print(f"BROKEN: {self.fault}: {complaint}", flush=True)

    @property
    def kept(self) -> int:
        """The trials in which the promise held."""
        return max(0, self.trials - len(self.complaints))

"""How a command is told to train together with other processes."""

from dataclasses import dataclass

from experiments.records.config import UsageError


@dataclass(frozen=True)
class Processes:
    """The processes that train together; by default only this one."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where the processes meet; or
    auto under Slurm, MPI or Kubernetes or on a TPU pod,
    which supply all three of these options."""

    processes: int | None = None
    """Number of processes."""

    process_id: int | None = None
    """Number of this process: 0, 1, ..."""

    devices: int | None = None
    """Devices that all processes must have in total; with
    fewer or more, the command refuses to start."""

    def check(self) -> None:
        """Raises `UsageError` if the options contradict one another."""
        if self.coordinator in (None, "auto"):
            if (self.processes, self.process_id) != (None, None):
                raise UsageError(
                    "--processes and --process-id need --coordinator HOST:PORT, the "
                    "same for all; with --coordinator auto leave them out."
                )
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(
                f"--coordinator must be HOST:PORT or auto, got {self.coordinator}."
            )
        if self.processes is None or self.process_id is None:
            raise UsageError(
                "--coordinator HOST:PORT needs --processes, how many there are, and "
                "--process-id, which of them this is."
            )
        if not 0 <= self.process_id < self.processes:
            raise UsageError(
                f"--process-id must lie in [0, --processes), got {self.process_id} of "
                f"{self.processes}: the first is 0."
            )


ALONE = Processes()

"""The options of `claims`."""

from dataclasses import dataclass

from experiments.studies.options import StudyOptions


@dataclass(frozen=True)
class Claims(StudyOptions):
    """Test the tutorial's four claims about momentum by measurement.

    The claims: momentum makes the trajectory smoother, converges faster, escapes local
    minima, and works in general. Each is a list of predictions that is written down and
    hashed before the first run; one rule decides whether it holds, holds partly or does
    not hold. Expected on the digits: all four hold partly, because much of what
    momentum gains at equal learning rate comes from its larger steps.

    A network, table, text or problem of your own takes the place of the tutorial's
    network in the first and the last claim.

    smoke: half a minute. default: digits, 2 to 3 minutes on two CPU cores. paper:
    CIFAR-10, thousands of starts, about 4 hours on two CPU cores.
    """

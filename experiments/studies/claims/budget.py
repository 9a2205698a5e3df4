"""What the study of the claims fixes before its first run, for each preset."""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.records.config import JSON
from experiments.studies.claims.verdict import RULE


class ClaimsBudget(NamedTuple):
    """The sizes of all measurements, with the predictions and the rule."""

    dataset: str
    epochs: int  # of the network, in claim 4
    seeds: int  # of the network in claim 1, and of the tests in claim 4
    tuning_seeds: int  # in claim 4
    low_octave: int  # claim 4 tries settled steps from 2^low to 2^high
    high_octave: int
    widenings: int  # how often that range may grow, by two octaves each time
    walk_epochs: int  # of the network, in claim 1
    starts: int  # in the ravine of claim 1
    largest_exponent: int  # claim 2: the largest condition number is 10 to this
    quadratic_starts: int  # claim 2: starts on each quadratic
    escapes: int  # claim 3: starts on each landscape
    models: tuple[str, ...]  # of the small problems in claim 4
    losses: tuple[str, ...]
    tables: tuple[str, ...]
    small_epochs: int
    seed: int = 0  # of starts, noise and the synthetic table
    fixed: Mapping[str, JSON] = {}  # constants of each claim
    predictions: Mapping[str, str] = {}
    rule: str = RULE


_DEFAULT = ClaimsBudget(
    dataset="digits",
    epochs=4,
    seeds=10,
    tuning_seeds=2,
    low_octave=-5,
    high_octave=1,
    widenings=3,
    walk_epochs=4,
    starts=200,
    largest_exponent=6,
    quadratic_starts=24,
    escapes=2_000,
    models=("linear", "MLP"),
    losses=("squared", "cross-entropy", "hinge"),
    tables=("digits", "table"),
    small_epochs=10,
)
BUDGETS = {
    "smoke": _DEFAULT._replace(
        epochs=1,
        seeds=2,
        tuning_seeds=1,
        low_octave=-3,
        high_octave=-1,
        widenings=0,
        walk_epochs=1,
        starts=20,
        largest_exponent=3,
        quadratic_starts=4,
        escapes=100,
        models=("linear",),
        losses=("squared", "hinge"),
        tables=("table",),
        small_epochs=2,
    ),
    "default": _DEFAULT,
    "paper": _DEFAULT._replace(
        dataset="cifar10",
        epochs=10,
        low_octave=-6,
        high_octave=0,
        walk_epochs=2,
        starts=1_000,
        quadratic_starts=100,
        escapes=20_000,
        small_epochs=20,
    ),
}

"""The terms of the studies, explained in the words that every page uses."""

from experiments.reporting.statistics import counted

SMOKE = (
    "This is a smoke run: it shows that everything works and what the page looks like. "
    "It trains too little for any conclusion, so it draws none."
)
EFFECTIVE_RATE = (
    "The effective learning rate is α/(1 − β) for momentum, and α for SGD. Under a "
    "constant gradient g, the steps of every method settle at the effective learning "
    "rate times g, the settled step. At equal effective rates, methods therefore "
    "differ by what momentum does, and not by the length of their settled steps."
)


def paired_seeds(count: int) -> str:
    """The number of seeds with the meaning of their pairing.

    >>> paired_seeds(3)[:19], paired_seeds(1)[:18]
    ('n = 3 paired seeds ', 'n = 1 paired seed ')
    """
    return (
        f"n = {counted(count, 'paired seed')} (runs of one seed start from the same "
        "parameters and see the images in the same order)"
    )

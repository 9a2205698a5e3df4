"""The terms of the studies, explained in the words that every page uses."""

EFFECTIVE_RATE = (
    "The effective learning rate is α/(1 − β) for momentum, and α for SGD. Under a "
    "constant gradient g, the steps of every method settle at the effective learning "
    "rate times g, the settled step. At equal effective rates, methods therefore "
    "differ by what momentum does, and not by the length of their settled steps."
)


def paired_seeds(count: int) -> str:
    """The number of seeds with the meaning of their pairing.

    >>> paired_seeds(3)[:19]
    'n = 3 paired seeds '
    """
    return (
        f"n = {count} paired seeds (runs of one seed start from the same parameters "
        "and see the images in the same order)"
    )

"""The terms of the studies, explained in the words that every page uses."""

EFFECTIVE_RATE = (
    "The effective learning rate is α/(1 − β), and α for SGD. The step that follows a "
    "long run of equal gradients, the settled step, is the effective learning rate "
    "times the gradient: at equal ones, methods differ in what momentum does, and not "
    "in the length of their steps."
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

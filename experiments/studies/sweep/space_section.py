"""The space of a sweep in words: how it grew, and whether the best lie inside."""

from experiments.reporting.page import Section, Table
from experiments.studies.sweep.figures import OTHER, RATE, title
from experiments.studies.sweep.results import Found, best
from experiments.studies.sweep.space import Side, Space, can_extend, edges

_AXIS = {"effective_rate": "the effective learning rate", "one_minus_beta": OTHER}


def section(found: Found) -> Section:
    """Where was searched, how the space grew, and whether the best lie inside."""
    rows = []
    for number, each in enumerate(found.rounds, start=1):
        reason = "as declared"
        if each.side is not None:
            methods = " and of ".join(map(title, each.wanted_by))
            reason = f"the best trial of {methods} was at {_end(each.side)}"
        count = len(each.points.line) * len(found.budget.batch_sizes)
        rows.append([number, *_bounds(each.space), count, reason])
    header = ["round", RATE, OTHER, "trials of each method", "why"]
    told = [f"{title(method)}: {_place(found, method)}." for method in found.final]
    sizes = found.budget.batch_sizes
    if len(sizes) > 1:
        told.append(f"Batch sizes are those given: {', '.join(map(str, sizes))}.")
    return Section(
        "The space",
        (
            "All methods have the same space and as many trials in it; SGD, which is "
            "momentum at β = 0, spends all of its trials on the learning rate. Where "
            "a best trial lies in the outermost eighth of an axis, the space grows on "
            "that side by half of the axis as declared, for all methods alike.",
            " ".join(told),
        ),
        tables=(Table("Rounds of trials.", header, rows),),
    )


def _bounds(space: Space) -> list[str]:
    return [f"{axis.low:g} to {axis.high:g}" for axis in space]


def _end(side: Side) -> str:
    return f"the {'upper' if side.high else 'lower'} end of {_AXIS[side.axis]}"


def open_sides(found: Found, method: str) -> list[Side]:
    return edges(found.rounds[-1].space, best(found.results)[method].trial)


def _place(found: Found, method: str) -> str:
    """Whether the best trial lies inside; and if not, why the sweep went no further."""
    sides = open_sides(found, method)
    if not sides:
        return "the best trial lies inside"
    told = []
    for side in sides:
        why = "the extensions of the plan are spent"
        if not can_extend(found.rounds[-1].space, side):
            why = "the space can't grow there"
            if side == Side("one_minus_beta", high=True):
                why += ", as β = 0 is SGD itself"
        told.append(f"the best trial is at {_end(side)}, and {why}")
    return "; ".join(told)

"""The page of `lr-decay`: from runs to tables, figures and sentences."""

from collections.abc import Mapping, Sequence

from experiments.optimizers.schedules import SCHEDULES
from experiments.records import runs as records
from experiments.records.plan import digest
from experiments.records.runs import Run
from experiments.reporting.page import Page, Section, Table
from experiments.reporting.statistics import (
    ACCURACIES,
    DIFFERENCES,
    in_points,
    sign,
    wall_time,
)
from experiments.studies.lr_decay import figures
from experiments.studies.lr_decay.cells import ARMS, TUNED
from experiments.studies.lr_decay.found import (
    CONSTANT,
    CORRECTED,
    INSIDE_GAINS,
    OUTSIDE_GAINS,
    SAME_RATE,
    TUNED_APART,
    Found,
    Part,
    accuracy,
    chosen,
    comparisons,
    difference,
)
from experiments.studies.validation import diverged, mean_score


def page(found: Found, command: str) -> Page:
    """All that was found."""
    parts = comparisons(found)
    return Page(
        study="lr-decay",
        title=f"Momentum under schedules of the rate, on {found.plan['dataset']}",
        summary=_summary(found, parts),
        sections=(
            _schedules(found),
            _conventions(parts),
            _reason(found),
            _tuning(found),
        ),
        plan=found.plan,
        plan_hash=digest(found.plan),
        command=command,
        provenance=records.provenance(_all_runs(found)),
    )


def _summary(found: Found, parts: Mapping[str, list[Part]]) -> str:
    n = len(next(iter(found.compared.values())))
    return " ".join(
        [
            f"On {found.plan['dataset']} with β = {found.plan['beta']}, "
            f"n = {n} paired seeds, test accuracies:",
            *(_best_schedule(found, arm) for arm in TUNED),
            _resolved(parts[TUNED_APART], "each at its own tuned rate"),
            *_control(parts[TUNED_APART]),
            _resolved(parts[SAME_RATE], "both at the rate tuned for outside"),
            *_under_tuned(parts),
        ]
    )


def _best_schedule(found: Found, arm: str) -> str:
    """Which schedule has the highest mean, and by how much, for one arm."""
    own = [cell for (_, name), cell in chosen(found).items() if name == arm]
    own.sort(key=lambda cell: -accuracy(found, cell).mean)
    first = own[0]
    told = f"{ARMS[arm].title} did best under the {first.schedule} schedule, "
    told += f"{accuracy(found, first).mean:.2%}"
    if len(own) > 1:
        lead = difference(found, first, own[1])
        clearly = "" if sign(lead) else ", which is not to be told from 0"
        told += f", {in_points(lead)} ahead of {own[1].schedule}{clearly}"
    return f"{told}."


def _resolved(parts: Sequence[Part], how: str) -> str:
    """Under which changing schedules inside and outside differ."""
    parts = [part for part in parts if part.schedule != CONSTANT] or parts
    differing = [part for part in parts if sign(part.difference)]
    if parts[0].difference.low is None:
        return f"Whether inside and outside, {how}, differ: one seed can't tell."
    if not differing:
        return f"Inside and outside, {how}, differ under no changing schedule."
    told = "; ".join(f"{p.schedule}: {in_points(p.difference)}" for p in differing)
    return f"Inside − outside, {how}, differs from 0 under {told}."


def _control(parts: Sequence[Part]) -> list[str]:
    """What remains between the two where they are one method."""
    told = []
    for part in parts:
        rates = part.first.rate, part.second.rate
        why = "by rounding alone"
        if rates[0] != rates[1]:
            why = f"by the luck of tuning, which chose {rates[0]:g} and {rates[1]:g}"
        if part.schedule == CONSTANT:
            told.append(
                "At a constant rate they are one method, and differ by "
                f"{in_points(part.difference)}, {why}: a smaller difference elsewhere "
                "says nothing of the conventions."
            )
    return told


def _under_tuned(parts: Mapping[str, list[Part]]) -> list[str]:
    lost = [
        f"{ARMS[part.first.arm].title} under {part.schedule}"
        for question in (INSIDE_GAINS, OUTSIDE_GAINS)
        for part in parts[question]
        if sign(part.difference) < 0
    ]
    if not lost:
        return []
    return [
        f"Under-tuned: {', '.join(lost)} lost to SGD, which is momentum at β = 0; here "
        "β was given, not tuned."
    ]


def _schedules(found: Found) -> Section:
    """Every cell that was compared."""
    tuned = chosen(found).values()
    rows = []
    for cell, own in found.compared.items():
        mean, low, high = accuracy(found, cell).shown(ACCURACIES)
        lost = sum(diverged(run, found.classes) for run in own)
        rate = "its own" if cell in tuned else "that of outside"
        arm = ARMS[cell.arm].title
        rows.append(
            (cell.schedule, arm, cell.rate, rate, mean, low, high, lost, len(own))
        )
    header = ("Schedule", "Method", "Effective rate", "Rate tuned for", "Test accuracy")
    table = Table(
        "Test accuracy after the last epoch: mean and 95% interval over seeds; the "
        "effective rate is α/(1 − β) at its largest.",
        (*header, "From", "To", "Diverged", "n"),
        rows,
        dict.fromkeys(("Test accuracy", "From", "To"), "{:.2%}"),
    )
    courses = (f"{name}: {SCHEDULES[name].title}" for name, _ in chosen(found))
    return Section(
        "Which schedule is best for which method?",
        (
            "; ".join(dict.fromkeys(courses)) + ".",
            *(_best_schedule(found, arm) for arm in TUNED),
        ),
        figures=(figures.schedules(found, table),),
    )


def _conventions(parts: Mapping[str, list[Part]]) -> Section:
    rows = [
        (
            question,
            part.schedule,
            *part.difference.shown(DIFFERENCES),
            part.first.rate,
            part.second.rate,
        )
        for question, own in parts.items()
        for part in own
    ]
    table = Table(
        "Differences of test accuracy, first − second, paired by seed.",
        ("Compared", "Schedule", "Difference", "From", "To", "Rate, first", "Second"),
        rows,
        dict.fromkeys(("Difference", "From", "To"), "{:+.2%}"),
    )
    controls = [p.difference for p in parts[CORRECTED]]
    controls += [
        part.difference
        for question in (TUNED_APART, SAME_RATE)
        for part in parts[question]
        if part.schedule == CONSTANT and part.first.rate == part.second.rate
    ]
    largest = max(abs(control.mean) for control in controls)
    return Section(
        "Where do the conventions differ?",
        (
            "At a constant rate inside and outside are one method, and with momentum "
            "correction inside is outside under any schedule. They are trained as "
            "different programs, so what remains between them is rounding, grown by "
            f"training: at most {100 * largest:.2f} points in the mean here. A "
            "difference as small as that means nothing; and by chance alone, one of "
            "twenty 95% intervals misses 0.",
            _resolved(parts[TUNED_APART], "each at its own tuned rate"),
            *_control(parts[TUNED_APART]),
            _resolved(parts[SAME_RATE], "both at the rate tuned for outside"),
        ),
        figures=(figures.differences(parts, table),),
    )


def _reason(found: Found) -> Section:
    return Section(
        "Why they part",
        (
            "Inside, the buffer holds steps, which keep the size they were made with: "
            "after a drop of the rate it goes on as before for about 1/(1 − β) steps. "
            "Outside, it holds gradients, and the new rate scales them all at once. "
            "Momentum correction rescales the steps held, and so makes the first the "
            "second.",
        ),
        figures=(figures.reaction(),),
    )


def _tuning(found: Found) -> Section:
    cells = chosen(found).values()
    rates = sorted({cell.rate for cell in found.tuning})
    at_edge = [cell for cell in cells if cell.rate in (rates[0], rates[-1])]
    rows = [
        (
            cell.schedule,
            ARMS[cell.arm].title,
            cell.rate,
            mean_score(own, found.classes).accuracy,
            sum(diverged(run, found.classes) for run in own),
            len(own),
        )
        for cell, own in found.tuning.items()
    ]
    table = Table(
        "Validation accuracy of every trial; a run that diverged counts as 0.",
        ("Schedule", "Method", "Effective rate", "Validation", "Diverged", "Runs"),
        rows,
        {"Validation": "{:.2%}"},
    )
    told = [f"{cell.arm} under {cell.schedule}" for cell in at_edge]
    edge = f"Still at an edge of them: {', '.join(told)}."
    edge = edge if told else "Every best one lies between."
    lost, count = sum(row[4] for row in rows), sum(row[5] for row in rows)
    all_runs = _all_runs(found)
    return Section(
        "How the rates were tuned",
        (
            f"{len(rates)} rates from {rates[0]:g} to {rates[-1]:g} for every schedule "
            f"and method, equally many trials. {edge} Diverged: {lost} of {count} "
            f"runs. All runs of this page: {len(all_runs)}, {wall_time(all_runs)} "
            "without compilation.",
        ),
        figures=(figures.sensitivity(found.tuning, found.classes, table),),
    )


def _all_runs(found: Found) -> list[Run]:
    groups = (*found.tuning.values(), *found.compared.values())
    return [run for own in groups for run in own]

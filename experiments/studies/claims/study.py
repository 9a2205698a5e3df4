"""The four claims of the tutorial, in turn: measured, recorded, judged and told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from experiments.records.command_line import repeating
from experiments.records.plan import digest
from experiments.reporting.page import Page, Section, Table
from experiments.studies.claims import (
    condition,
    condition_page,
    generality,
    generality_page,
    minima,
    minima_page,
    record,
    trajectory,
    trajectory_page,
)
from experiments.studies.claims.budget import BUDGETS, Budget
from experiments.studies.claims.record import Record
from experiments.studies.claims.verdict import (
    RULE,
    Answer,
    Prediction,
    answers,
    counted,
    verdict,
)
from experiments.studies.lifecycle import (
    OpenStudy,
    StudyOptions,
    open_study,
    publish,
    resolve_budget,
)
from experiments.studies.methods import METHODS


@dataclass(frozen=True)
class Claims(StudyOptions):
    """Put the tutorial's four claims about momentum to a measured test.

    Smoother trajectory, faster convergence, escape from local minima, works in
    general: each is a list of predictions that is written down and hashed before the
    first run, and holds, holds partly or does not hold by one rule. Expected on the
    digits: all four hold partly, since much of what momentum gains at equal learning
    rate is due to its larger settled step.

    smoke: half a minute. default: digits, 2 to 3 minutes on two CPU cores. paper:
    CIFAR-10, thousands of starts, about 4 hours on two CPU cores.
    """


class Claim(NamedTuple):
    """One of the four."""

    says: str  # of momentum
    predictions: tuple[Prediction, ...]
    quoted: tuple[str, ...]  # keys of those that tell most
    fixed: Mapping[str, Any]  # JSON values, the same in all budgets
    measure: Callable[[OpenStudy, Budget], dict[str, Any]]
    section: Callable[[dict[str, Any], Sequence[Answer]], Section]


def the_claims(budget: Budget) -> dict[str, Claim]:
    """All four, by the key that they are recorded by."""
    general = generality.predictions(generality.titles(budget))
    return {
        "trajectory": Claim(
            "makes the trajectory smoother",
            trajectory.PREDICTIONS,
            ("zigzag_path", "calm_path", "noisy_path"),
            trajectory.FIXED,
            trajectory.measure,
            trajectory_page.section,
        ),
        "condition": Claim(
            "converges faster",
            condition.PREDICTIONS,
            ("slope", "settled_slope"),
            condition.FIXED,
            condition.measure,
            condition_page.section,
        ),
        "minima": Claim(
            "escapes local minima",
            minima.PREDICTIONS,
            ("well_gradient_equal_rate", "well_gradient_equal_step"),
            minima.FIXED,
            minima.measure,
            minima_page.section,
        ),
        "generality": Claim(
            "helps whatever the model, loss and data",
            general,
            (general[-1].key,),
            generality.FIXED,
            generality.measure,
            generality_page.section,
        ),
    }


def claims(options: Claims, console: Console) -> Path:
    """Measures what is missing and judges all; returns the path of the page.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    budget = resolve_budget(options, BUDGETS)
    the_four = the_claims(budget)
    stated = {
        each.key: f"{each.says}: {each.side} {each.bound:g}"
        for claim in the_four.values()
        for each in claim.predictions
    }
    fixed = {key: claim.fixed for key, claim in the_four.items()}
    budget = budget._replace(predictions=stated, fixed=fixed)
    arms = {"momentum": METHODS["momentum"].arm}
    with open_study(options, "claims", budget, arms, console) as study:
        done = record.read(study)
        for key, claim in the_four.items():
            if key not in done:
                console.print(f"Measuring: momentum {claim.says} …", highlight=False)
                done[key] = record.write(study, key, claim.measure(study, budget))
        page = _page(the_four, done, study, repeating("claims", options))
        return publish(options, page, study, list(study.context.finished.values()))


def _page(
    the_four: dict[str, Claim],
    done: Mapping[str, Record],
    study: OpenStudy,
    repeated_by: str,
) -> Page:
    judged = [
        (claim, answers(claim.predictions, done[key].measured))
        for key, claim in the_four.items()
    ]
    sections = [
        claim.section(done[key].measured, own)
        for key, (claim, own) in zip(the_four, judged, strict=True)
    ]
    return Page(
        study="claims",
        title="Four claims about momentum, put to the test",
        summary=_summary(judged),
        sections=(_verdicts(judged), *sections),
        plan=study.plan,
        plan_hash=digest(study.plan),
        command=repeated_by,
        provenance=record.provenance(done.values()),
    )


def _summary(judged: Sequence[tuple[Claim, Sequence[Answer]]]) -> str:
    told = (f"{claim.says}: {verdict(own)}, {counted(own)}" for claim, own in judged)
    return f"Momentum {'; '.join(told)}."


def _verdicts(judged: Sequence[tuple[Claim, Sequence[Answer]]]) -> Section:
    header = ("claim", "verdict", "met", "contradicted", "open")
    rows = [
        (
            f"Momentum {claim.says}",
            verdict(own),
            *(sum(each.outcome == outcome for each in own) for outcome in header[2:]),
        )
        for claim, own in judged
    ]
    return Section(
        "Verdicts",
        (
            RULE,
            "A momentum step settles at η/(1 − β) times a constant gradient: at "
            "β = 0.9 ten times that of SGD with the same learning rate η. So each "
            "claim is asked at equal learning rate and at equal settled step, and only "
            "the latter shows what momentum does beyond a larger step. Of so many "
            "predictions, about one in twenty of those that are neither true nor "
            "false is decided by chance.",
        ),
        tables=(
            Table("What became of each claim", header, rows),
            _quoted(judged),
        ),
    )


def _quoted(judged: Sequence[tuple[Claim, Sequence[Answer]]]) -> Table:
    """The predictions that tell most of each claim."""
    rows = [
        (claim.says, each.prediction.says, *each.measured, each.outcome)
        for claim, own in judged
        for each in own
        if each.prediction.key in claim.quoted
    ]
    return Table(
        "The figures that tell most of each claim, with 95% intervals",
        ("momentum", "figure", "measured", "low", "high", "n", "outcome"),
        rows,
        dict.fromkeys(("measured", "low", "high"), "{:.3g}"),
    )

"""The four claims of the tutorial: each is measured, recorded, judged and reported."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments.records import runs
from experiments.records.command_line import repeating
from experiments.records.config import JSON, UsageError
from experiments.records.plan import digest
from experiments.reporting.page import Page, Section, Table
from experiments.studies.claims import (
    condition,
    generality,
    minima,
    record,
    trajectory,
    trajectory_network,
)
from experiments.studies.claims.budget import BUDGETS, ClaimsBudget
from experiments.studies.claims.options import Claims
from experiments.studies.claims.record import ClaimRecord
from experiments.studies.claims.verdict import (
    MEASURED_FORMATS,
    READING,
    JudgedPrediction,
    Outcome,
    Prediction,
    count,
    judge_all,
    tally,
    verdict,
)
from experiments.studies.full_size import Work, options_at_full_size
from experiments.studies.lifecycle import (
    OpenStudy,
    check_output,
    open_study,
    publish,
)
from experiments.studies.methods import METHODS
from experiments.studies.options import resolve_budget
from experiments.studies.subject import read_subject
from experiments.studies.validation import Measure


class Claim(NamedTuple):
    """A claim, its predictions, and how to measure and report them."""

    says: str  # of momentum
    predictions: tuple[Prediction, ...]
    quoted: tuple[str, ...]  # keys of the most telling predictions
    fixed: Mapping[str, JSON]  # JSON values, the same in all budgets
    measure: Callable[[OpenStudy, ClaimsBudget], dict[str, JSON]]
    section: Callable[[dict[str, JSON], Sequence[JudgedPrediction]], Section]


class JudgedClaim(NamedTuple):
    """A claim with all its predictions judged."""

    claim: Claim
    predictions: tuple[JudgedPrediction, ...]


def all_claims(budget: ClaimsBudget, own: str, measure: Measure) -> dict[str, Claim]:
    """The four claims, by the key under which they are recorded.

    Args:
      budget: of all measurements.
      own: the title of the study's own problem.
      measure: what judges it.
    """
    general = generality.predictions(budget, own, measure.metric)
    return {
        "trajectory": Claim(
            "makes the trajectory smoother",
            trajectory.PREDICTIONS,
            ("zigzag_path", "calm_path", "noisy_path"),
            trajectory.FIXED,
            trajectory.measure,
            trajectory.section,
        ),
        "condition": Claim(
            "converges faster",
            condition.PREDICTIONS,
            ("slope", "settled_slope"),
            condition.FIXED,
            condition.measure,
            condition.section,
        ),
        "minima": Claim(
            "escapes local minima",
            minima.PREDICTIONS,
            ("well_gradient_equal_rate", "well_gradient_equal_step"),
            minima.FIXED,
            minima.measure,
            minima.section,
        ),
        "generality": Claim(
            "helps whatever the model, loss and data",
            general,
            (general[-1].key,),
            generality.FIXED,
            partial(generality.measure, own),
            partial(generality.section, measure),
        ),
    }


def claims(options: Claims, console: Console) -> Path:
    """Measures the claims not yet recorded, judges all, and returns the page's path.

    Raises:
      UsageError: an option is impossible, by itself or for these data.
    """
    options.check()
    if options.stream:
        raise UsageError(
            "claims keeps the images in memory; omit --stream, or give another "
            "command, such as compare."
        )
    budget = resolve_budget(options, BUDGETS)
    check_output(options)
    subject = read_subject(options, budget.dataset, console)
    own = subject.problem.name
    if subject.network in ("cnn", options.model):  # of images
        own = f"network, cross-entropy, {budget.dataset}"
    by_key = all_claims(budget, own, subject.measure)
    predictions = {
        p.key: f"{p.quantity}: {p.side} {p.bound:g}"
        for claim in by_key.values()
        for p in claim.predictions
    }
    fixed = {key: claim.fixed for key, claim in by_key.items()}
    budget = budget._replace(predictions=predictions, fixed=fixed)
    arms = {"momentum": METHODS["momentum"].arm}
    with open_study(options, "claims", budget, arms, console, subject=subject) as study:
        recorded = record.read(study)
        for key, claim in by_key.items():
            if key not in recorded:
                console.print(f"Measuring: momentum {claim.says} …", highlight=False)
                measured = claim.measure(study, budget)
                recorded[key] = record.write(study, key, measured)
        smoke = options.preset == "smoke"
        judged = {
            key: JudgedClaim(
                claim, judge_all(claim.predictions, recorded[key].measured, smoke=smoke)
            )
            for key, claim in by_key.items()
        }
        page = _page(judged, recorded, study, repeating("claims", options))
        full = resolve_budget(options_at_full_size(options), BUDGETS)
        finished = list(study.context.finished.values())
        return publish(options, page, study, finished, work(full))


def work(budget: ClaimsBudget) -> Work:
    """The runs of the network in claims 1 and 4; those of small problems are short."""
    octaves = budget.high_octave - budget.low_octave
    trials = sum(
        len(space(0, octaves))
        for space in (generality.sgd_space, generality.momentum_space)
    )
    runs = trials * budget.tuning_seeds + 2 * budget.seeds
    walks = len(trajectory_network.ARMS) * budget.seeds
    epochs = runs * budget.epochs + walks * budget.walk_epochs
    return Work(runs + walks, epochs)


def _page(
    judged: Mapping[str, JudgedClaim],
    recorded: Mapping[str, ClaimRecord],
    study: OpenStudy,
    command: str,
) -> Page:
    sections = [
        claim.section(recorded[key].measured, predictions)
        for key, (claim, predictions) in judged.items()
    ]
    verdicts = "; ".join(
        f"{claim.says}: {verdict(predictions)}"
        + ("" if verdict(predictions) == "not judged" else f", {tally(predictions)}")
        for claim, predictions in judged.values()
    )
    return Page(
        study="claims",
        title="Four claims about momentum, put to the test",
        summary=f"Momentum {verdicts}.",
        sections=(_verdicts(list(judged.values())), *sections),
        plan=study.plan,
        plan_hash=digest(study.plan),
        command=command,
        provenance=runs.provenance(list(recorded.values())),
    )


def _verdicts(judged: Sequence[JudgedClaim]) -> Section:
    outcomes: tuple[Outcome, ...]
    outcomes = ("met", "contradicted", "too close to call", "open")
    verdicts = [
        (f"Momentum {claim.says}", verdict(made), *(count(made, o) for o in outcomes))
        for claim, made in judged
    ]
    quoted = [
        (prediction.quantity, outcome, *measured, claim.says)
        for claim, predictions in judged
        for prediction, measured, outcome in predictions
        if prediction.key in claim.quoted
    ]
    return Section(
        "Verdicts",
        (
            READING,
            "Under a constant gradient, the steps of momentum grow until they settle "
            "at α/(1 − β) times the gradient, for learning rate α: this factor is the "
            "settled step. SGD's is α. At β = 0.9 and the same learning rate, momentum "
            "thus takes steps ten times as large. Each claim is therefore tested both "
            "at equal learning rate and at equal settled step; only the second shows "
            "what momentum does beyond taking larger steps.",
            "Both methods start from the same point or seed and, where there is noise, "
            "meet the same noise. They are compared pair by pair; n is the number of "
            "pairs. Where the true value lies exactly at the bound, one prediction in "
            "twenty is still met or contradicted, by chance.",
        ),
        tables=(
            Table(
                "The verdict on each claim, with the outcomes of its predictions",
                ("claim", "verdict", *outcomes),
                verdicts,
            ),
            Table(
                "The most telling predictions of each claim, with 95% intervals",
                ("quantity", "outcome", "measured", "low", "high", "n", "momentum"),
                quoted,
                MEASURED_FORMATS,
            ),
        ),
    )

"""The life of a study: options, data, plan and directory, then runs, then its page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from experiments.distributed import shared_plan
from experiments.distributed.processes import is_first
from experiments.optimizers.arms import Arm
from experiments.records import plan, runs
from experiments.records.config import (
    Config,
    UsageError,
    recorded_digest,
    serialized,
)
from experiments.records.runs import Run
from experiments.reporting import html, index, tensorboard, terminal
from experiments.reporting.page import Page
from experiments.studies.context import StudyContext, runs_on
from experiments.studies.full_size import Work, full_size
from experiments.studies.options import TUNING_SEED, StudyOptions
from experiments.studies.subject import Fold, Subject, read_subject
from experiments.studies.terms import SMOKE
from experiments.training import startup_check
from experiments.training.checkpoints import clear

# Fields of budgets that have a default and were in plans from the first format on. A
# field that is added later, with a default, is left out of plans where it has it.
_FIRST = frozenset(
    {"factors", "fixed", "metric", "predictions", "rule", "scramble_seed", "seed"}
)


def tuning_seeds(count: int) -> range:
    """The seeds of a trial, on which nothing is reported."""
    return range(TUNING_SEED, TUNING_SEED + count)


class OpenStudy(NamedTuple):
    """A study's context, and the config that its runs vary."""

    context: StudyContext
    base: Config
    plan: plan.Plan


@contextmanager
def open_study(
    options: StudyOptions,
    study: str,
    budget: Any,
    arms: Mapping[str, Arm],
    console: Console,
    folds: Mapping[str, Fold] | None = None,
    subject: Subject | None = None,
) -> Iterator[OpenStudy]:
    """Reads the data, writes the plan, and holds the study's directory meanwhile.

    The plan is the budget, a NamedTuple of all that is fixed before the first run, with
    the data's digest and the network. `folds` are those besides the hold-out; a
    `subject` is one that has been read already.

    Raises:
      UsageError: the data, the network or the directory can't be used.
    """
    check_output(options)
    if subject is None:
        subject = read_subject(options, budget.dataset, console)
    base = subject.configured(options, budget.epochs)
    study_plan = {
        "study": study,
        **serialized(budget, first=_FIRST),
        "dataset": base.dataset,
        "data_digest": base.data_digest,
        "network": base.network,
        "code": base.code,
        **base.later_settings(),
        **subject.settings,
        **shared_plan.numerics(),
    }
    with hold_directory(options, study, study_plan, console, base.dataset) as (
        output,
        finished,
    ):
        context = StudyContext(
            output,
            subject,
            arms,
            folds or {},
            console,
            finished,
            startup_check.check(),
            options.save_every,
        )
        yield OpenStudy(context, base, study_plan)


@contextmanager
def hold_directory(
    options: StudyOptions,
    name: str,
    study_plan: plan.Plan,
    console: Console,
    dataset: str,
) -> Iterator[tuple[Path, dict[str, Run]]]:
    """Reserves the directory of a plan; yields it with the runs that are finished.

    Unless the options name the directory, its name has those of the study and data set.
    """
    digest = plan.digest(study_plan)
    directory = f"{name}-{Path(dataset).stem}-{digest}"
    output = options.output or Path("runs") / directory
    with shared_plan.hold(output, study_plan) as finished:
        clear(output, [run.config_hash for run in finished])
        console.print(f"Plan {digest}, in {output}", markup=False)
        if finished:
            console.print(f"{len(finished)} finished runs of this plan are kept.")
            if change := _change(finished):
                terminal.say(console, change)
        yield output, {recorded_digest(run.config): run for run in finished}


def _change(finished: Sequence[Run]) -> str:
    """Says what finished runs ran on that has changed since, if anything has."""
    here = {**runs.environment(), **runs_on()}
    there = {
        name: [value for value in values if value not in (here.get(name), "unknown")]
        for name, values in runs.provenance(finished).items()
        if name in here
    }
    changed = {name: values for name, values in there.items() if values}
    if not changed:
        return ""
    before = ", ".join(f"{name} {' and '.join(v)}" for name, v in changed.items())
    now = ", ".join(f"{name} {here[name]}" for name in changed)
    return f"They ran with {before}; now with {now}: digits may differ."


def check_output(options: StudyOptions) -> None:
    """Creates the directory that the user named, or refuses before anything is slow."""
    if options.output is not None and is_first():
        plan.make_directory(options.output)


def publish(
    options: StudyOptions,
    page: Page,
    opened: OpenStudy,
    finished: Sequence[Run],
    at_full_size: Work,
) -> Path:
    """Writes page, index and, if requested, event files; returns the page's path."""
    output, console = opened.context.output, opened.context.console
    notes = opened.context.subject.notes
    page = page._replace(summary=" ".join([page.summary, *notes]))
    if not is_first():
        return output
    if options.preset == "smoke":
        page = page._replace(notice=SMOKE)
    if options.preset != "paper":
        larger = full_size(page.study, options, at_full_size, finished)
        page = page._replace(full_size=larger)
    if options.tensorboard:
        tensorboard.write_events(output, finished)
    return write_page(output, page, console)


def write_page(output: Path, page: Page, console: Console) -> Path:
    """Writes a page and the index beside it, says what it found; returns its path."""
    path = html.write(output, page)
    try:
        index.write_index(output.parent)
    except UsageError as error:  # the page itself is written
        terminal.say(console, str(error))
    for paragraph in filter(None, (page.notice, page.summary, page.conclusion)):
        console.print(paragraph, markup=False, highlight=False)
    if page.full_size:
        terminal.say(console, "At full size, {}: {}".format(*page.full_size))
    console.print(f"Report: {path}", markup=False, highlight=False, soft_wrap=True)
    return path

"""A page as data: sections with text, figures and the tables behind them.

Nothing here knows HTML or any study; `experiments.reporting.html` writes a page.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # Matplotlib takes a second to import, which no help needs
    from matplotlib.figure import Figure as Canvas

Cell = str | int | float | None  # None: there is no such value; NaN: the run diverged


class Draw(Protocol):
    """Draws on an empty canvas; lines and words beside the data are in `ink`."""

    def __call__(self, canvas: "Canvas", ink: str) -> None: ...


class Table(NamedTuple):
    """Rows that a reader can sort; numbers stay numbers until they are shown."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    formats: Mapping[str, str] = {}  # by heading, as in str.format: "{:.2%}"


class Figure(NamedTuple):
    """A drawing with the numbers that it shows."""

    name: str  # of its file, without the suffix: unique on the page
    caption: str  # what it shows and what to see in it; also its alternative text
    draw: Draw
    table: Table
    size: tuple[float, float] = (6.4, 4.0)  # inches
    description: str = ""  # its values in words, for readers who can't see it


class Section(NamedTuple):
    """One question and its answer."""

    heading: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    code: str | None = None  # a program, shown as it is, with a button to copy it


class FullSize(NamedTuple):
    """The study with nothing left out, for somebody who has seen a smaller one."""

    cost: str  # runs and time
    command: str


class Page(NamedTuple):
    """All results of a study in words, figures and tables."""

    study: str  # the command: "sweep"
    title: str
    summary: str  # the whole answer in one paragraph
    sections: Sequence[Section]
    plan: Mapping[str, object]  # what was fixed before the first run
    plan_hash: str
    command: str  # that repeats the study
    provenance: Mapping[str, Sequence[str]]  # by fact, such as "device", its values
    notice: str = ""  # what to know before anything else, such as that it's a smoke run
    full_size: FullSize | None = None  # None for a study that is at full size
    conclusion: str = ""  # what was learned, in one sentence, before the summary
    data: Mapping[str, object] = {}  # further entries of summary.json, for programs
    of_shares: bool = True  # whether intervals are of accuracies, cut at 0 and 100%

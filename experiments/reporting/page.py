"""What a study tells: a page of sections, each with figures and the tables behind them.

This file knows neither HTML nor any study; `experiments.page_html` writes a page.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure as Canvas

Cell = str | int | float | None  # None: there is no such figure; NaN: it diverged


class Table(NamedTuple):
    """Rows that a reader can sort; numbers stay numbers until they are shown."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    formats: Mapping[str, str] = {}  # by heading: of str.format, "{:.2%}" for example


class Figure(NamedTuple):
    """A drawing with the numbers that it shows."""

    name: str  # of its file, without ending: unique in the study
    caption: str  # what it shows and what to see in it; also its alternative text
    draw: Callable[[Canvas, str], None]  # on an empty canvas, in ink of that colour
    table: Table
    size: tuple[float, float] = (6.4, 4.0)  # inches


class Section(NamedTuple):
    """One question and its answer."""

    heading: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    code: str | None = None  # to be copied, as it is


class Page(NamedTuple):
    """All that a study found, in words, figures and tables."""

    study: str  # the command: "sweep"
    title: str
    summary: str  # the whole answer in one paragraph
    sections: Sequence[Section]
    plan: Mapping[str, object]  # what was fixed before the first run
    plan_hash: str
    command: str  # that repeats the study
    provenance: Mapping[str, Sequence[str]]  # what it ran on; a fact, its values

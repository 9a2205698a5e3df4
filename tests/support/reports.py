"""The setup of an invented comparison, and a reader of pages."""

from html.parser import HTMLParser

from support.synthetic import TITLES

from experiments.compare.page import Setup
from experiments.reporting.statistics import PAIRS
from experiments.studies.validation import of_classes

SETUP = Setup(
    titles=TITLES,
    equations={arm: f"θ ← equation of {arm}" for arm in TITLES},
    pairs=PAIRS,
    measure=of_classes(10),
    train_examples=40_001,
    validation_examples=10_002,
    test_examples=9_999,
    command="python -m experiments compare --epochs 3",
)


class Reader(HTMLParser):
    """The elements of a page, each with its attributes, and its running text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.pieces.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

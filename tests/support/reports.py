"""The setup of an invented comparison, and a reader of pages."""

from html.parser import HTMLParser

from support.synthetic import TITLES

from experiments.compare.page import Setup

SETUP = Setup(
    titles=TITLES,
    equations={arm: f"θ ← equation of {arm}" for arm in TITLES},
    train_images=40_001,
    validation_images=10_002,
    test_images=9_999,
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

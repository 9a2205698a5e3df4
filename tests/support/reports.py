"""The setting of an invented report, and a reader of its page."""

from html.parser import HTMLParser

from support.synthetic import TITLES

from experiments.compare import report

SETTING = report.Setting(
    titles=TITLES,
    equations={arm: f"θ ← equation of {arm}" for arm in TITLES},
    train_images=40_001,
    validation_images=10_002,
    test_images=9_999,
    command="python -m experiments compare --epochs 3",
)


class Reader(HTMLParser):
    """The tags, attributes and the running text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.pieces = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self):
        return " ".join("".join(self.pieces).split())

"""The report of optimizers of a user's own, of which it knows no more than names."""

from support.reports import SETTING, Reader
from support.synthetic import synthetic_comparison

from experiments.compare import report

OWN = {"<b>$x$": [0.5, 0.52, 0.51], "sgd": [0.7, 0.71, 0.72], "ema": [0.6, 0.7, 0.5]}
OWN_SETTING = SETTING._replace(
    titles={name: name for name in OWN}, equations=dict.fromkeys(OWN, "")
)


def test_page_of_a_users_optimizers_compares_each_with_the_first_whatever_its_name():
    runs = synthetic_comparison(OWN, code="fedcba9876543210")
    page = report.page(runs, OWN_SETTING)
    reader = Reader(page)
    assert "3 optimizers on digits" in reader.text
    for first, gain, verdict in (
        ("sgd", "+20.00", "winner: sgd"),
        ("ema", "+9.00", "no winner: the interval contains 0"),
    ):
        words = f"Optimizer: {first} instead of <b>$x$ {first}, minus <b>$x$ 0 {gain}"
        assert words in reader.text
        assert verdict in reader.text.split(words)[1][:100]
    assert "b" not in reader.tags and "&lt;b&gt;$x$" in page
    assert "learning rate α = 0.01. A seed" in reader.text
    assert "code digestfedcba9876543210" in reader.text
    for about_known_arms in ("Two step sizes", "settled", "β", "momentum, at"):
        assert about_known_arms not in reader.text.replace("optax_momentum", "")
    assert 'class="equation' not in page


def test_page_of_one_optimizer_compares_nothing():
    runs = synthetic_comparison({"sgd": [0.5]}, code="fedcba9876543210")
    setting = OWN_SETTING._replace(titles={"sgd": "sgd"})
    text = Reader(report.page(runs, setting)).text
    assert "1 optimizer on digits" in text and "What made the diff" not in text


def test_summary_of_a_users_optimizers_holds_their_comparisons():
    runs = synthetic_comparison(OWN, code="fedcba9876543210")
    summary = report.summary(runs[::-1], OWN_SETTING.titles)
    pairs = [(each["first"], each["second"]) for each in summary["comparisons"]]
    assert pairs == [("sgd", "<b>$x$"), ("ema", "<b>$x$")]

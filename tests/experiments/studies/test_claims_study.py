"""The study of the claims: what it records, resumes and refuses."""

import json

import pytest
from support.small_studies import printed

from experiments.records.config import UsageError
from experiments.reporting import drawing
from experiments.reporting.page import Page, Section
from experiments.studies.claims import study
from experiments.studies.claims.budget import BUDGETS
from experiments.studies.claims.options import Claims
from experiments.studies.claims.study import Claim, all_claims, claims
from experiments.studies.claims.verdict import Prediction, difference
from experiments.studies.validation import of_classes

pytestmark = pytest.mark.usefixtures("small_network")


def run(output, **options) -> str:
    return printed(claims, Claims(**{"preset": "smoke", **options}), output)


@pytest.fixture
def cheap(monkeypatch):
    """Replaces the claims with four cheap ones; runs are of the default preset.

    Yields the keys of measured claims in order, and a set of keys: measuring one of
    them is interrupted.
    """
    measured = []

    def claim(key: str, gain: float) -> Claim:
        def measure(opened, budget):
            measured.append(key)
            if key in stops:
                raise KeyboardInterrupt
            return {f"{key} gain": difference([gain, gain + 0.1, gain], [0.0] * 3)}

        prediction = Prediction(f"{key} gain", f"gain of {key}", "above", 0.0)
        return Claim(
            f"does {key}",
            (prediction,),
            (f"{key} gain",),
            {"strength": gain},
            measure,
            lambda measured, judged: Section(key),
        )

    stops = set()
    gains = {"one": 3.0, "two": -3.0, "three": 0.0, "four": 2.0}
    four = {key: claim(key, gain) for key, gain in gains.items()}
    monkeypatch.setattr(study, "all_claims", lambda *_: four)
    return measured, stops


@pytest.mark.slow
def test_an_interrupted_study_resumes_with_the_claim_it_stopped_in(cheap, tmp_path):
    measured, stops = cheap
    stops.add("three")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, preset="default")
    assert measured == ["one", "two", "three"]
    lines = (tmp_path / "claims.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["claim"] for line in lines] == ["one", "two"]
    stops.clear()
    output = run(tmp_path, preset="default")
    assert measured[3:] == ["three", "four"]
    assert (
        "Momentum does one: holds, 1 of 1 prediction met; does two: does not hold, 0 "
        "of 1 prediction met; does three: open, 0 of 1 prediction met; does four: "
        "holds, 1 of 1 prediction met.\n"
    ) in output
    run(tmp_path, preset="default")
    assert len(measured) == 5
    page = (tmp_path / "report.html").read_text()
    assert "gain of three" in page and "does not hold" in page
    records = (tmp_path / "claims.jsonl").read_bytes()
    assert records.startswith(b"\n".join(lines))
    assert len(records.splitlines()) == 4


def test_a_smoke_run_judges_nothing_and_says_so(cheap, tmp_path):
    output = run(tmp_path)
    assert "This is a smoke run" in output
    assert "Momentum does one: not judged; does two: not judged;" in output
    page = (tmp_path / "report.html").read_text()
    assert '<p class="notice">This is a smoke run' in page
    summary = json.loads((tmp_path / "summary.json").read_text())
    verdicts, quoted = summary["sections"][0]["tables"]
    assert {row[1] for row in verdicts["rows"] + quoted["rows"]} == {"not judged"}
    assert all(row[2:] == [0, 0, 0, 0] for row in verdicts["rows"])
    assert summary["notice"].startswith("This is a smoke run")
    assert "This is a smoke run" in (tmp_path.parent / "index.html").read_text()


def test_predictions_and_rule_are_in_the_plan_before_anything_is_measured(
    cheap, tmp_path
):
    _, stops = cheap
    stops.add("one")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, preset="default")
    plan = json.loads((tmp_path / "plan.json").read_text())["plan"]
    assert plan["predictions"]["two gain"] == "gain of two: above 0"
    assert plan["fixed"]["two"] == {"strength": -3.0}
    assert plan["rule"].startswith("A prediction is met if its whole 95% interval")


def test_another_plan_and_incomplete_records_are_refused(cheap, tmp_path):
    run(tmp_path, preset="default")
    with pytest.raises(UsageError, match="holds runs of another plan"):
        run(tmp_path, preset="default", seeds=5)
    path = tmp_path / "claims.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"claims.jsonl, line 4, is not a complete"):
        run(tmp_path, preset="default")


@pytest.mark.parametrize("preset", list(BUDGETS))
def test_the_predictions_of_a_preset_have_different_keys(preset):
    keys = [
        prediction.key
        for claim in all_claims(BUDGETS[preset], "own", of_classes(10)).values()
        for prediction in claim.predictions
    ]
    assert len(set(keys)) == len(keys) >= 30


@pytest.mark.slow
def test_the_smallest_study_measures_and_draws_all_four_claims(monkeypatch, tmp_path):
    tiny = BUDGETS["smoke"]._replace(
        starts=6, escapes=20, losses=("hinge",), small_epochs=1, largest_exponent=2
    )
    monkeypatch.setitem(BUDGETS, "smoke", tiny)
    pages: list[Page] = []
    monkeypatch.setattr(study, "publish", lambda options, page, *_: pages.append(page))
    run(tmp_path)
    records = (tmp_path / "claims.jsonl").read_text().splitlines()
    by_claim = {r["claim"]: r["measured"] for r in map(json.loads, records)}
    own = "network, cross-entropy, digits"
    stated = all_claims(tiny, own, of_classes(10))
    assert list(by_claim) == list(stated) and len(records) == 4
    for key, claim in stated.items():
        assert all(p.key in by_claim[key] for p in claim.predictions)
    verdicts, *sections = pages[0].sections
    assert str(verdicts.tables[0].rows[3][0]).startswith("Momentum helps whatever")
    quoted = [key for claim in stated.values() for key in claim.quoted]
    assert len(verdicts.tables[1].rows) == len(quoted)
    figures = [figure for section in sections for figure in section.figures]
    names = (
        "ravine-paths ravine-against-step network-walk network-losses "
        "steps-against-condition double-well-paths escapes gains"
    )
    assert {figure.name for figure in figures} == set(names.split())
    for figure in figures:
        assert drawing.png(figure).startswith(b"\x89PNG")
        assert all(len(row) == len(figure.table.header) for row in figure.table.rows)
    for number, section in enumerate(sections, start=1):
        assert section.heading.startswith(f"Claim {number}: momentum")


@pytest.mark.slow
def test_a_problem_with_another_metric_takes_the_place_of_the_network(
    monkeypatch, tmp_path
):
    tiny = BUDGETS["smoke"]._replace(
        starts=6, escapes=20, losses=("hinge",), small_epochs=1, largest_exponent=2
    )
    monkeypatch.setitem(BUDGETS, "smoke", tiny)
    run(tmp_path, table="diabetes")
    plan = json.loads((tmp_path / "plan.json").read_text())["plan"]
    assert plan["predictions"]["diabetes"].endswith("tuned SGD: below 0")
    page = (tmp_path / "report.html").read_text()
    assert "diabetes is judged by its RMSE" in page
    assert {*tmp_path.glob("**/gains.*")} and {*tmp_path.glob("**/own-gains.*")}
    last = json.loads((tmp_path / "claims.jsonl").read_text().splitlines()[-1])
    tested = last["measured"]["problems"]["diabetes"]["methods"]["sgd"]["accuracies"]
    assert all(20 < value < 200 for value in tested)

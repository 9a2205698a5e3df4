"""The tables of a report can be sorted, by the script of all pages and no other."""

import re

import pytest
from support.reports import SETTING
from support.synthetic import diverged, synthetic_comparison
from test_report import ACCURACIES

from experiments.compare import report
from experiments.reporting.rendering import script


@pytest.fixture(scope="module")
def page():
    return report.page(synthetic_comparison(ACCURACIES), SETTING)


def test_page_lets_only_the_script_of_all_pages_run(page):
    (own,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert own == script()["script"]
    assert f"script-src 'sha256-{script()['script_digest']}'\"" in page


def test_page_has_tables_to_sort_by_exact_figures(page):
    runs = synthetic_comparison(ACCURACIES)
    runs[-1] = diverged(runs[-1])
    lost = report.page(runs, SETTING)
    mean = sum(ACCURACIES["ema"]) / 3
    assert f'data-value="{mean!r}" data-label="Test accuracy"' in page
    assert 'data-value="1.234" data-label="Test loss"' in page
    assert '<td class="missing" data-label="Test loss">diverged in 1 of 3' in lost
    assert '<td class="number" data-value="1.234">1.234</td>' in page
    assert '<td class="number missing">diverged</td>' in lost
    assert page.count('<button type="button">') == 4 + 7

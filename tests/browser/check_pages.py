"""Checks pages in a real browser: phone and desktop, light and dark.

    uv run --with playwright==1.65.2 python tests/browser/check_pages.py

Fails if a page writes to the console, requests another address, overflows its window,
or has a table that does not sort. Without arguments, it makes three pages to check.
With `--metric RMSE`, pages must also show that metric on their axes, in its own unit,
and no word about images or their accuracy.
"""

import argparse
import re
import sys
import tempfile
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

WIDTHS = (360, 1440)
SCHEMES = ("light", "dark")
ORDER = """(table, column) => [...table.tBodies[0].rows].map(({cells}) => ({
    row: [...cells].map((cell) => cell.textContent).join("|"),
    text: cells[column].textContent,
    number: cells[column].dataset.value,
    missing: cells[column].classList.contains("missing"),
}))"""
OVERFLOWING = """() => [...document.querySelectorAll("body, body *")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
    .filter((element) => !element.closest(".scroll, svg"))
    .map(({localName, className}) => `<${localName} class="${className}">`).join(" ")"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--screenshots", type=Path, default=Path("runs/screenshots"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--metric", help="of which lower values are better")
    options = parser.parse_args()
    options.screenshots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        pages = options.pages or demonstrations(Path(directory) / "results")
        browser = playwright.chromium.launch(executable_path=options.chromium)
        failures = [
            f"{path} at {width} px, {scheme}: {failure}"
            for path, width, scheme in product(pages, WIDTHS, SCHEMES)
            for failure in look(browser, path, width, scheme, options)
        ]
        browser.close()
    print("\n".join(failures) or f"{len(pages)} pages pass")
    return 1 if failures else 0


def demonstrations(directory: Path) -> list[Path]:
    """A study's page, a comparison's and their index, with hostile names."""
    from support.demonstration import NAMES, PAGE, SCRIPT
    from support.reports import SETUP
    from support.synthetic import ACCURACY, synthetic_comparison

    from experiments.compare import page
    from experiments.reporting import html, index

    study, comparison, broken = (
        directory / name for name in ("study", "comparison", f"#{NAMES[1]}")
    )
    for path in (study, comparison, broken):
        path.mkdir(parents=True)
    (broken / "summary.json").write_text("{}")
    spreads = ((0, 0.01, -0.005), (0.02, 0, 0.03), (0, 0.01, 0), (0.02, -0.01, 0.03))
    accuracies = {
        arm: [value + each for each in spread]
        for (arm, value), spread in zip(ACCURACY.items(), spreads, strict=True)
    }
    runs = synthetic_comparison(accuracies, dataset=f"{SCRIPT.replace('/', '')}.npz")
    return [
        html.write(study, PAGE),
        html.write(comparison, page.page(runs, SETUP)),
        index.write_index(directory),
    ]


def look(
    browser: Browser, path: Path, width: int, scheme: str, options: argparse.Namespace
) -> list[str]:
    """The failures of a page in one window."""
    screenshots = options.screenshots
    failures: list[str] = []
    address = path.resolve().as_uri()

    def only_itself(route: Route) -> None:
        if route.request.url == address:
            return route.continue_()
        failures.append(f"it requests {route.request.url}")
        route.abort()

    page = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page.route("**/*", only_itself)
    page.on("console", lambda said: failures.append(f"console: {said.text[:200]}"))
    page.on("pageerror", lambda error: failures.append(f"script: {error}"))
    page.goto(address)
    name = f"{path.parent.name}-{path.stem}-{width}-{scheme}.png"
    page.screenshot(path=screenshots / name, full_page=True)
    failures += overflow(page)
    for details in page.locator("details").all():
        details.locator("summary").click()
        table = details.locator("table")
        if table.count() and not table.is_visible():
            failures.append("a table behind a figure does not show")
    failures += overflow(page)
    for table in page.locator("table:has(th button)").all():
        failures += sorting(table)
    failures += copying(page)
    if options.metric:
        failures += foreign_words(page, options.metric)
    page.screenshot(path=screenshots / f"opened-{name}", full_page=True)
    page.close()
    return failures


def foreign_words(page: Page, metric: str) -> list[str]:
    """What a page of this metric should say and doesn't, or says and shouldn't."""
    text = page.locator("body").inner_text()
    drawn = page.locator("svg text").all_text_contents()
    wrong = [f"it says {word!r}" for word in re.findall(r"(?i)accurac|images?\b", text)]
    wrong += [f"{label!r} is in a figure" for label in drawn if "%" in label]
    if f"Test {metric}" not in drawn:
        wrong.append(f"no axis is titled 'Test {metric}'")
    if f"{metric} (lower is better)" not in text:
        wrong.append("it doesn't say that lower is better")
    return wrong


def overflow(page: Page) -> list[str]:
    """Elements that extend beyond the window; tables may, within their container."""
    root = page.locator("html")
    inner, outer = root.evaluate("(root) => [root.scrollWidth, root.clientWidth]")
    if inner <= outer:
        return []
    return [f"{inner} px wide, by {page.evaluate(OVERFLOWING)}"]


def copying(page: Page) -> list[str]:
    """Every button next to a program must copy it, and say so."""
    buttons = page.locator("button.copy")
    for button in buttons.all():
        button.click()
    try:
        expect(buttons).to_have_text(["Copied"] * buttons.count())
    except AssertionError:
        return ["a button does not copy"]
    return []


def sorting(table: Locator) -> list[str]:
    """Every heading must sort if clicked, and reverse the order if Enter is pressed."""
    wrong = []
    for button in table.locator("thead button").all():
        what = f"the column {button.text_content()!r}"
        heading = button.locator("..")
        column = heading.evaluate("(heading) => heading.cellIndex")
        before = table.evaluate(ORDER, column)
        button.click()
        ascending = table.evaluate(ORDER, column)
        if heading.get_attribute("aria-sort") != "ascending":
            wrong.append(f"{what} doesn't say that it is sorted")
        button.press("Enter")
        descending = table.evaluate(ORDER, column)
        if ascending != ordered(before, ascending):
            wrong.append(f"{what} is not in order: {ascending}")
        if descending != ordered(ascending, ascending, reverse=True):
            wrong.append(f"{what} is not in the reverse order: {descending}")
    return wrong


def ordered(rows: list[dict], ascending: list[dict], reverse: bool = False) -> list:
    """The expected rows: numbers, then text, then missing values, in a stable order.

    The order of words is the browser's: it is taken from `ascending`.
    """
    numbers = [row for row in rows if row["number"] is not None]
    rest = [row for row in rows if row["number"] is None]
    texts = [row for row in rest if not row["missing"]]
    missing = [row for row in rows if row["missing"]]
    words = list(dict.fromkeys(row["text"] for row in ascending))
    return [
        *sorted(numbers, key=lambda row: float(row["number"]), reverse=reverse),
        *sorted(texts, key=lambda row: words.index(row["text"]), reverse=reverse),
        *missing,
    ]


if __name__ == "__main__":
    sys.exit(main())

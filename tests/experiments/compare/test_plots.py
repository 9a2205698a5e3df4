"""The curves show every run, are equal for equal runs, and survive odd input."""

import io
from xml.etree import ElementTree

import matplotlib.image
import pytest
from support.synthetic import (
    ACCURACY,
    TITLES,
    diverged,
    synthetic_comparison,
    synthetic_run,
)

from experiments.compare import plots
from experiments.reporting.drawing import strokes

SVG = "{http://www.w3.org/2000/svg}"


def comparison(**settings):
    accuracies = {arm: [value, value + 0.01] for arm, value in ACCURACY.items()}
    return synthetic_comparison(accuracies, **settings)


def strokes_in(svg, colour):
    """How many paths of the element are drawn in the colour."""
    styles = [path.get("style") or "" for path in ElementTree.fromstring(svg).iter()]
    return sum(f"stroke: {colour}" in style for style in styles)


def test_curves_svg_is_four_named_elements_without_prolog():
    elements = plots.curves_svg(comparison(), TITLES)
    titles = [ElementTree.fromstring(svg).findtext(f"{SVG}title") for svg in elements]
    assert titles == [
        "Training loss on digits, by epoch",
        "Validation loss on digits, by epoch",
        "Training accuracy on digits, by epoch",
        "Validation accuracy on digits, by epoch",
    ]
    for svg in elements:
        assert svg.startswith("<svg ")
        assert 'role="img"' in svg.split(">")[0]


def test_curves_svg_draws_a_line_a_seed_and_their_mean():
    runs = comparison()
    for svg in plots.curves_svg(runs, TITLES):
        for colour, _ in strokes(TITLES).values():
            assert strokes_in(svg, colour) == 3


def test_curves_svg_is_equal_for_equal_runs_and_differs_otherwise():
    first = plots.curves_svg(comparison(), TITLES)
    assert plots.curves_svg(comparison(), TITLES) == first
    assert plots.curves_svg(comparison(epochs=4), TITLES) != first


def test_curves_svg_has_unique_ids_and_no_address_but_namespaces():
    page = "".join(plots.curves_svg(comparison(), TITLES))
    ids = [
        element.get("id")
        for element in ElementTree.fromstring(f"<page>{page}</page>").iter()
        if element.get("id")
    ]
    assert len(ids) == len(set(ids)) > 0
    for namespace in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        page = page.replace(f'"{namespace}"', "")
    assert "http" not in page


def test_curves_svg_writes_in_the_colour_of_the_page():
    for svg in plots.curves_svg(comparison(), TITLES):
        texts = list(ElementTree.fromstring(svg).iter(f"{SVG}text"))
        assert texts
        assert all("fill: currentColor" in (text.get("style") or "") for text in texts)


def test_curves_svg_escapes_the_name_of_the_data():
    runs = [synthetic_run(dataset="<script>alert('$x$')</script>&.npz")]
    for svg in plots.curves_svg(runs, TITLES):
        assert "<script" not in svg
        title = ElementTree.fromstring(svg).findtext(f"{SVG}title")
        assert title is not None and "<script>alert('$x$')</script>&.npz" in title


def test_curves_show_a_diverged_run_up_to_its_divergence():
    svg = plots.curves_svg([diverged(synthetic_run("keras"))], TITLES)[0]
    (described,) = ElementTree.fromstring(svg).iter(f"{SVG}desc")
    assert described.text == "Means of the last epoch: Title of keras diverged."


def test_curves_draw_without_any_finite_loss():
    run = diverged(synthetic_run("ema", epochs=2))
    hopeless = [type(run)(**{**vars(run), "epochs": run.epochs[1:]})]
    assert len(plots.curves_svg(hopeless, TITLES)) == 4


def test_losses_far_apart_are_drawn_on_a_logarithmic_axis():
    far = synthetic_run(epochs=300)  # losses from 2.1 down to 0.007
    svg = plots.curves_svg([far], TITLES)[0]
    labels = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"0.01", "0.1", "1"} <= set(labels)
    near = plots.curves_svg([synthetic_run(epochs=3)], TITLES)[0]
    assert "0.01" not in near


@pytest.mark.parametrize("name", ["digits", "naïve $_{$ 数字\n.npz", "n" * 200])
def test_curves_png_is_a_picture_for_any_name(name):
    picture = plots.curves_png(comparison(dataset=name), TITLES)
    pixels = matplotlib.image.imread(io.BytesIO(picture), format="png")
    assert pixels.shape == (1024, 1408, 4)
    assert pixels[..., :3].std() > 0.05

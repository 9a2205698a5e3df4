"""Tables: what becomes of each column, and refusals in one line."""

from pathlib import Path

import numpy as np
import pytest
from support.usage_errors import usage_error

from experiments.networks.network import random_key
from experiments.problems.check import check_problem
from experiments.problems.problem import concatenated, task_of
from experiments.problems.table import table

RANDOM = np.random.default_rng(8)
ROWS = 60


def write(path: Path, **columns) -> str:
    """A CSV file with these columns, and any that are missing of the usual ones."""
    usual = {
        "size": RANDOM.normal(50, 20, ROWS).round(2),
        "color": np.resize(["red", "green", "blue"], ROWS),
        "price": RANDOM.normal(100, 30, ROWS).round(3),
    }
    chosen = {name: x for name, x in {**usual, **columns}.items() if x is not None}
    lines = [
        ",".join(chosen),
        *(",".join(map(str, row)) for row in zip(*chosen.values(), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def read(source, target="price", task=None, impute=False):
    return table(source, target, task, impute=impute)


def test_numbers_are_standardized_by_the_training_rows_and_texts_one_hot(tmp_path):
    problem, classes, notes = read(write(tmp_path / "houses.csv"))
    assert classes is None and notes == () and problem.name == "houses"
    train = problem.train["features"]
    assert train.shape == (38, 4) and train.dtype == np.float32
    np.testing.assert_allclose(train[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(train[:, 0].std(), 1, rtol=1e-6)
    assert len(problem.validation["target"]) == 10 and len(problem.test["target"]) == 12
    assert abs(problem.test["features"][:, 0].mean()) > 1e-3  # not by its own rows
    everything = concatenated(problem.train, problem.validation, problem.test)
    assert {*everything["features"][:, 1:].reshape(-1)} == {0, 1}
    np.testing.assert_array_equal(everything["features"][:, 1:].sum(1), 1)
    np.testing.assert_allclose(problem.train["target"].mean(), 0, atol=1e-6)
    assert not task_of(check_problem("here", problem)).whole_batches


def test_the_error_of_a_regression_is_in_the_unit_of_the_target(tmp_path):
    """A thousand times the target has a thousand times the RMSE, and the same loss."""
    prices = RANDOM.normal(100, 30, ROWS)
    found = []
    for factor in (1, 1000):
        columns = {"price": (prices * factor).round(3), "size": np.arange(ROWS)}
        problem, *_ = read(write(tmp_path / "houses.csv", **columns))
        params, _ = problem.init(random_key(0), problem.train)
        losses, metrics, _ = problem.loss(
            params, (), problem.test, random_key(0), training=False
        )
        mean = metrics["squared_error"].mean()
        found.append((float(losses.mean()), problem.metric.of(mean)))
    (loss, error), (same, larger) = found
    assert same == pytest.approx(loss, rel=1e-4)
    assert larger == pytest.approx(1000 * error, rel=1e-4)
    assert 10 < error < 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (np.resize(["yes", "no"], ROWS), None, 2),
        (np.resize([3, 5, 9], ROWS), None, 3),
        (np.resize([3, 5, 9], ROWS), "regression", None),
        (np.resize(["true", "false"], ROWS), None, 2),
        (np.arange(ROWS), None, None),
        (np.resize([0.5, 1.5], ROWS), None, None),
    ],
)
def test_the_values_of_the_target_decide_what_it_is(tmp_path, values, task, classes):
    source = write(tmp_path / "t.csv", price=values)
    problem, found, _ = read(source, task=task)
    assert found == classes
    if classes:
        assert {*problem.test["label"].tolist()} == {*range(classes)}
        assert problem.metric.title == "accuracy"
    check_problem("here", problem)


def test_embedded_tables_are_known():
    problem, classes, _ = table("diabetes", None, None, impute=False)
    assert (problem.metric.title, classes) == ("RMSE", None)
    assert problem.train["features"].shape == (282, 10)
    problem, classes, _ = table("wine", None, None, impute=False)
    assert (problem.metric.title, classes) == ("accuracy", 3)


def test_missing_values_are_named_or_imputed_from_training_rows(tmp_path):
    sizes = RANDOM.normal(50, 20, ROWS).round(2).astype(object)
    colors = np.resize(["red", "red", "blue"], ROWS).astype(object)
    sizes[[4, 9]], colors[7] = "", ""
    source = write(tmp_path / "t.csv", size=sizes, color=colors)
    assert usage_error(
        f"--table {source}: row 5, column 'size', has no value", read, source
    ) == (", and 2 other places have none; give --impute, or complete them.")
    problem, _, notes = read(source, impute=True)
    assert notes == (
        "3 missing values in 2 columns are imputed: medians, and the most frequent "
        "texts, of the training rows.",
    )
    whole = concatenated(problem.train, problem.validation, problem.test)
    assert np.isfinite(whole["features"]).all()
    np.testing.assert_array_equal(whole["features"][:, 1:].sum(1), 1)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"size": None, "color": None}, {}, "has the column 'price' alone; at least"),
        ({}, {"target": "cost"}, "has no column 'cost' for --target; choose from size"),
        ({}, {"target": None}, ": name the column to predict, such as --target price."),
        (
            {},
            {"task": "classification"},
            "is it a number to predict? Then give --table-task regression.",
        ),
        (
            {"price": [f"name {i}" for i in range(ROWS)]},
            {"task": "regression"},
            "holds texts, such as 'name 0', which can't be predicted as numbers",
        ),
        ({"price": ["x"] * ROWS}, {}, "is 'x' in every row; choose another column."),
        (
            {"price": ["rare"] + ["a", "b"] * 29 + ["a"]},
            {},
            "the class 'rare' of the target 'price' has 1 rows; at least 4 are needed",
        ),
        ({"price": ["1.5"] * 59 + [""]}, {}, "row 60 has no value of the target"),
        ({"size": ["1.5"] * 59 + ["inf"]}, {}, "row 60, column 'size', is infinite"),
        (
            {"size": ["2020-01-02"] * ROWS},
            {},
            "the column 'size' is of type date32[day]; convert it to numbers or texts",
        ),
        ({"size": [""] * ROWS}, {}, "the column 'size' is empty; remove it."),
    ],
)
def test_unsuitable_tables_are_refused(tmp_path, columns, options, message):
    source = write(tmp_path / "t.csv", **columns)
    assert message in usage_error(f"--table {source}", read, source, **options)


def test_ten_thousand_classes_by_accident_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{i % 7},{i}" for i in range(10_000)]
    path.write_text("\n".join(["a,b", *rows]))
    prefix = (
        f"--table {path}: the target 'b' has 10,000 different values in 10,000 rows"
    )
    usage_error(prefix, table, str(path), "b", "classification", impute=False)
    names = [f"{i % 7},n{i}" for i in range(10_000)]
    path.write_text("\n".join(["a,b", *names]))
    assert "is it the column that you mean?" in usage_error(
        prefix, table, str(path), "b", None, impute=False
    )
    path.write_text("\n".join(["b,a", *(f"n{i},{i % 7}.5" for i in range(500))]))
    assert "500 different texts in 500 rows, too many for categories" in usage_error(
        f"--table {path}", table, str(path), "a", None, impute=False
    )


def test_missing_few_and_broken_files_are_refused(tmp_path):
    missing = tmp_path / "no.csv"
    usage_error(f"--table {missing}: there is no such file.", read, str(missing))
    short = tmp_path / "short.csv"
    short.write_text("size,price\n1,2\n")
    usage_error(f"--table {short} has 1 rows; at least 20 are needed", read, str(short))
    short.write_text("size,price\n1,2,3\n")
    usage_error(f"--table {short} can't be read as CSV: ", read, str(short))
    short.write_text("price,price\n1,2\n")
    usage_error(f"--table {short}: two columns are named 'price'", read, str(short))

"""A table as a problem: one column is predicted from the others by a small network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float32, Integer

from experiments.problems.flax_modules import from_nnx
from experiments.problems.problem import Batch, Init, Loss, Problem
from experiments.records.config import UsageError
from experiments.records.metric import ACCURACY, Metric

TableTask = Literal["classification", "regression"]
Columns = Mapping[str, np.ndarray]  # by name: numbers, or objects that are texts

EMBEDDED = ("diabetes", "wine")  # of scikit-learn
_SEED = 1797  # of the division into splits, which no option sets
_HELD_OUT = 0.2  # of all rows for the test, then of the others for validation
_FEWEST_ROWS = 20
_HIDDEN = 64  # units in each of two layers
_MOST_CLASSES_OF_NUMBERS = 20  # whole numbers with more values are numbers to predict
_MOST_CLASSES = 100
_MOST_CATEGORIES = 100  # of a column of texts


class TableProblem(NamedTuple):
    """A table's problem, and what readers should know of it."""

    problem: Problem
    classes: int | None  # None for a number to predict
    notes: tuple[str, ...]  # sentences


class _Network(nnx.Module):
    """Two hidden layers with ReLU."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        self.hidden1 = nnx.Linear(inputs, _HIDDEN, rngs=rngs)
        self.hidden2 = nnx.Linear(_HIDDEN, _HIDDEN, rngs=rngs)
        self.output = nnx.Linear(_HIDDEN, outputs, rngs=rngs)

    def __call__(
        self, features: Float32[Array, "batch features"]
    ) -> Float32[Array, "batch outputs"]:
        hidden = nnx.relu(self.hidden1(features))
        return self.output(nnx.relu(self.hidden2(hidden)))


def table(
    source: str, target: str | None, task: TableTask | None, *, impute: bool
) -> TableProblem:
    """The problem of predicting one column of a table.

    Numbers are standardized by the mean and the standard deviation of the training
    rows; texts become one column a category. 20% of the rows test, 20% of the others
    validate: always the same, and stratified for classes.

    Args:
      source: the path of a CSV file with a header, or a name of `EMBEDDED`.
      target: the column to predict; for `EMBEDDED` it is known.
      task: whether the target is a class or a number. None decides by its values:
        texts, and whole numbers of at most 20 values, are classes.
      impute: whether missing features become the median, or the most frequent text, of
        the training rows. Otherwise they are refused.

    Raises:
      UsageError: there is no such table or column, or its values are unsuitable.
    """
    where = f"--table {source}"
    if source in EMBEDDED:
        columns, target = _read_embedded(source), target or "target"
    else:
        columns = _read_csv(where, Path(source).expanduser())
    features, values = _divide(where, columns, target)
    classes, values = _classes_or_numbers(where, str(target), values, task)
    rows = _splits(where, values, classes)
    notes = _check_missing(where, features, impute)
    inputs = _encode(where, features, rows["train"])
    name = Path(source).stem
    if classes is None:
        return TableProblem(_regression(name, inputs, values, rows), None, notes)
    problem = _classification(name, inputs, values, rows, len(classes))
    return TableProblem(problem, len(classes), notes)


def _regression(
    name: str,
    features: Float32[np.ndarray, "rows features"],
    values: np.ndarray,
    rows: Mapping[str, np.ndarray],
) -> Problem:
    """Squared errors of the standardized target; the metric is in the target's unit."""
    mean, scale = values[rows["train"]].mean(), values[rows["train"]].std()
    if not scale:
        raise UsageError(
            f"--table: all training rows of {name} have the target {mean:g}; there is "
            "nothing to predict. Choose another --target."
        )
    targets = ((values - mean) / scale).astype(np.float32)
    splits = {
        split: {"features": features[index], "target": targets[index]}
        for split, index in rows.items()
    }

    def losses(module, batch):
        errors = jnp.square(module(batch["features"])[:, 0] - batch["target"])
        return errors, {"squared_error": errors * np.float32(scale**2)}

    def make(rngs: nnx.Rngs) -> _Network:
        return _Network(features.shape[1], 1, rngs)

    metric = Metric("squared_error", "RMSE", False, np.sqrt)
    return _problem(name, splits, from_nnx(make, losses), metric)


def _classification(
    name: str,
    features: Float32[np.ndarray, "rows features"],
    labels: Integer[np.ndarray, " rows"],
    rows: Mapping[str, np.ndarray],
    classes: int,
) -> Problem:
    splits = {
        split: {"features": features[index], "label": labels[index].astype(np.int32)}
        for split, index in rows.items()
    }

    def losses(module, batch):
        logits, labels = module(batch["features"]), batch["label"]
        found = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        hits = (jnp.argmax(logits, -1) == labels).astype(jnp.float32)
        return found, {"accuracy": hits}

    def make(rngs: nnx.Rngs) -> _Network:
        return _Network(features.shape[1], classes, rngs)

    return _problem(name, splits, from_nnx(make, losses), ACCURACY)


def _problem(
    name: str,
    splits: Mapping[str, Batch],
    functions: tuple[Init, Loss],
    metric: Metric,
) -> Problem:
    train, validation, test = (splits[n] for n in ("train", "validation", "test"))
    return Problem(name, train, validation, test, *functions, metric=metric)


def _read_embedded(name: str) -> Columns:
    from sklearn import datasets  # slow to import

    read: Any = getattr(datasets, f"load_{name}")()
    columns = dict(zip(read.feature_names, read.data.T, strict=True))
    return {**columns, "target": read.target}


def _read_csv(where: str, path: Path) -> Columns:
    from pyarrow import ArrowException, csv, types  # slow to import

    try:
        table: Any = csv.read_csv(path)
    except FileNotFoundError:
        raise UsageError(
            f"{where}: there is no such file. Correct the path, or name one of "
            f"{', '.join(EMBEDDED)}."
        ) from None
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{where} can't be read as CSV: {reason}.") from None
    columns = {}
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise UsageError(f"{where}: two columns are named {name!r}; rename one.")
        column = table.column(name)
        kind = column.type
        known = (types.is_integer, types.is_floating, types.is_boolean, types.is_string)
        if types.is_null(kind):
            raise UsageError(f"{where}: the column {name!r} is empty; remove it.")
        if not any(is_kind(kind) for is_kind in known):
            raise UsageError(
                f"{where}: the column {name!r} is of type {kind}; convert it to "
                "numbers or texts, or remove it."
            )
        values = column.to_numpy()
        columns[name] = values if types.is_string(kind) else values.astype(float)
        if types.is_boolean(kind):
            columns[name] = column.cast("string").to_numpy()
    return columns


def _divide(
    where: str, columns: Columns, target: str | None
) -> tuple[Columns, np.ndarray]:
    """The features, and the values of the target."""
    names = list(columns)
    if target is None:
        raise UsageError(
            f"{where}: name the column to predict, such as --target {names[-1]}."
        )
    if target not in columns:
        raise UsageError(
            f"{where} has no column {target!r} for --target; choose from "
            f"{', '.join(names[:20])}{' …' if len(names) > 20 else ''}."
        )
    if len(names) < 2:
        raise UsageError(
            f"{where} has the column {target!r} alone; at least one other is needed to "
            "predict it from."
        )
    values = columns[target]
    if len(values) < _FEWEST_ROWS:
        raise UsageError(
            f"{where} has {len(values)} rows; at least {_FEWEST_ROWS} are needed for "
            "training, validation and test."
        )
    if (missing := _missing(values)).any():
        raise UsageError(
            f"{where}: row {missing.argmax() + 1} has no value of the target "
            f"{target!r} ({missing.sum()} rows have none); remove such rows."
        )
    return {name: columns[name] for name in names if name != target}, values


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return np.array([value is None or value == "" for value in values], bool)
    return np.isnan(values)


def _classes_or_numbers(
    where: str, target: str, values: np.ndarray, task: TableTask | None
) -> tuple[np.ndarray | None, np.ndarray]:
    """The classes with each row's number of its class; or None with the numbers."""
    texts = values.dtype == object
    found, labels = np.unique(
        values.astype(str) if texts else values, return_inverse=True
    )
    whole = not texts and bool((values == np.round(values)).all())
    few = len(found) <= _MOST_CLASSES_OF_NUMBERS
    if task is None:
        task = "classification" if texts or (whole and few) else "regression"
    first = found[0].item()
    several = f"{len(found):,} different values in {len(values):,} rows"
    if task == "regression":
        if texts:
            raise UsageError(
                f"{where}: the target {target!r} holds texts, such as {first!r}, which "
                "can't be predicted as numbers; omit --table-task regression."
            )
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values))) + 1
            raise UsageError(
                f"{where}: the target of row {row} is infinite; correct it."
            )
        return None, values
    if len(found) > _MOST_CLASSES or not (texts or whole):
        question = "is it the column that you mean?"
        if not texts:
            question = "is it a number to predict? Then give --table-task regression."
        raise UsageError(
            f"{where}: the target {target!r} has {several}, too many or too uneven for "
            f"classes; {question}"
        )
    if len(found) < 2:
        raise UsageError(
            f"{where}: the target {target!r} is {first!r} in every row; choose another "
            "column."
        )
    counts = np.bincount(labels)
    if counts.min() < 4:
        rarest = found[counts.argmin()].item()
        raise UsageError(
            f"{where}: the class {rarest!r} of the target {target!r} has "
            f"{counts.min()} rows; at least 4 are needed for training, validation and "
            "test. Remove or merge such classes."
        )
    return found, labels


def _splits(
    where: str, values: np.ndarray, classes: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The rows of each split, stratified by class."""
    from sklearn.model_selection import train_test_split  # slow to import

    def divide(rows: np.ndarray) -> Any:
        strata = None if classes is None else values[rows]
        return train_test_split(
            rows, test_size=_HELD_OUT, random_state=_SEED, stratify=strata
        )

    try:
        others, test = divide(np.arange(len(values)))
        train, validation = divide(others)
    except ValueError:
        raise UsageError(
            f"{where}: {len(values)} rows are too few to test each of "
            f"{0 if classes is None else len(classes)} classes. Add rows."
        ) from None
    return {"train": train, "validation": validation, "test": test}


def _check_missing(where: str, features: Columns, impute: bool) -> tuple[str, ...]:
    """A sentence on imputed values; raises `UsageError` unless they may be imputed."""
    missing = {name: _missing(values) for name, values in features.items()}
    for name, values in features.items():
        if values.dtype != object and np.isinf(values).any():
            row = int(np.argmax(np.isinf(values))) + 1
            raise UsageError(
                f"{where}: row {row}, column {name!r}, is infinite; correct it."
            )
    places = {name: places for name, places in missing.items() if places.any()}
    if not places:
        return ()
    total = sum(int(each.sum()) for each in places.values())
    if not impute:
        name, first = next(iter(places.items()))
        raise UsageError(
            f"{where}: row {first.argmax() + 1}, column {name!r}, has no value, and "
            f"{total - 1} other places have none; give --impute, or complete them."
        )
    return (
        f"{total:,} missing values in {len(places)} columns are imputed: medians, and "
        "the most frequent texts, of the training rows.",
    )


def _encode(
    where: str, features: Columns, train: np.ndarray
) -> Float32[np.ndarray, "rows features"]:
    """All rows as numbers, by what the training rows alone show."""
    from sklearn.impute import SimpleImputer  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    none: Any = None
    texts = make_pipeline(
        SimpleImputer(missing_values=none, strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    parts = []
    for name, values in features.items():
        column = values[:, None]
        if values.dtype == object:
            column = np.where(_missing(values), none, values)[:, None]
            categories = {*column[:, 0]} - {None}
            if len(categories) > _MOST_CATEGORIES:
                raise UsageError(
                    f"{where}: the column {name!r} has {len(categories):,} different "
                    f"texts in {len(values):,} rows, too many for categories; remove "
                    "it, or merge them."
                )
        if _missing(values)[train].all():
            raise UsageError(
                f"{where}: the column {name!r} has no value in any training row; "
                "remove it."
            )
        encoder = texts if values.dtype == object else numbers
        encoder.fit(column[train])
        parts.append(encoder.transform(column))
    return np.concatenate(parts, axis=1).astype(np.float32)

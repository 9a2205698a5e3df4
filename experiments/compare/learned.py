"""What a comparison taught, in one sentence."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.records.metric import Metric
from experiments.records.runs import Run
from experiments.reporting.statistics import (
    Comparison,
    direction,
    number_in_words,
    seeds_in_words,
    too_close,
)

_MOST_NAMED = 3  # optimizers with one kind of result; the others are counted


class _Effect(NamedTuple):
    """One cause, which two pairs of the built-in optimizers isolate."""

    cause: str
    places: Mapping[tuple[str, str], str]  # by first and second: where it is isolated


_STEP = _Effect(
    "a step {factor} times larger",
    {("sgd_large_step", "sgd"): "without momentum", ("keras", "ema"): "with momentum"},
)
_MOMENTUM = _Effect(
    "momentum itself",
    {
        ("ema", "sgd"): "at the smaller step",
        ("keras", "sgd_large_step"): "at the larger step",
    },
)
_STORAGES = {"keras_bfloat16": "bfloat16", "keras_int8": "8 bits"}


def learned(
    arms: Mapping[str, Sequence[Run]],
    titles: Mapping[str, str],
    compared: Sequence[Comparison],
    metric: Metric,
) -> str:
    """What the comparisons show and nothing more, for a reader in a hurry.

    A comparison with an optimizer that diverged in some run is left out, because its
    mean is that of trained and of untrained networks.
    """
    lost = {arm: _diverged(runs) for arm, runs in arms.items() if _diverged(runs)}
    left_out = [
        f"{titles[arm]} diverged in {count} of {len(arms[arm])} runs"
        for arm, count in lost.items()
    ]
    sound = [
        each
        for each in compared
        if not {each.first, each.second} & lost.keys() and not math.isnan(each.mean)
    ]
    return _sentence([*_clauses(arms, titles, compared, sound, metric), *left_out])


def _clauses(
    arms: Mapping[str, Sequence[Run]],
    titles: Mapping[str, str],
    compared: Sequence[Comparison],
    sound: Sequence[Comparison],
    metric: Metric,
) -> list[str]:
    (first, *_), *_ = arms.values()
    if not compared:
        return ["one optimizer alone shows no difference"]
    if not sound:
        return ["no comparison has a result"]
    if (seeds := min(len(each.seeds) for each in sound)) < 3:
        bounds = "bounds" if seeds == 1 else "bound"
        return [f"{seeds_in_words(seeds)} {bounds} nothing; --seeds 3 is the least"]
    if compared[0].isolates.startswith("optimizer:"):
        return [_against(titles[compared[0].second], titles, sound, metric)]
    if compared[0].first in _STORAGES:
        return [_against("float32", _STORAGES, sound, metric)]
    if first.config.beta == 0:
        return ["with β = 0 all of these optimizers are plain SGD"]
    factor = number_in_words(1 / (1 - first.config.beta))
    pairs = {(each.first, each.second): each for each in sound}
    return [
        f"{effect.cause.format(factor=factor)} {words}"
        for effect in (_STEP, _MOMENTUM)
        if (words := _at_each_place(effect, pairs, metric))
    ]


def _at_each_place(
    effect: _Effect, pairs: Mapping[tuple[str, str], Comparison], metric: Metric
) -> str | None:
    """What the cause gained, said once if it gained the same everywhere."""
    gained = {
        place: " ".join(_gained(pairs[pair], metric))
        for pair, place in effect.places.items()
        if pair in pairs
    }
    if len(gained) == len(effect.places) and len(set(gained.values())) == 1:
        return next(iter(gained.values()))
    return " and ".join(f"{words} {place}" for place, words in gained.items())


def _against(
    baseline: str,
    titles: Mapping[str, str],
    compared: Sequence[Comparison],
    metric: Metric,
) -> str:
    """What each optimizer gained over the first one, the clearest results first."""

    def clearness(each: Comparison) -> float:
        return direction(each.interval, metric) * abs(each.mean)

    groups: dict[str, list[str]] = {}
    for each in sorted(compared, key=clearness, reverse=True):
        verb, amount = _gained(each, metric)
        if direction(each.interval, metric):
            groups.setdefault(verb, []).append(f"{titles[each.first]} {verb} {amount}")
        else:
            groups.setdefault(f"{verb} {amount}", []).append(titles[each.first])
    clauses = []
    for words, named in groups.items():
        more = len(named) - _MOST_NAMED
        if more > 0:
            named = [*named[:_MOST_NAMED], f"{more} more"]
        ending = f" {words}" if " " in words else ""
        clauses.append(_joined(named) + ending)
    return f"compared with {baseline}, {', '.join(clauses)}"


def _gained(comparison: Comparison, metric: Metric) -> tuple[str, str]:
    """The difference as a verb and its object."""
    difference = metric.scale * abs(comparison.mean)
    size = f"{difference:,.0f}" if difference >= 9.95 else f"{difference:.2g}"
    better, worse = "improved", "worsened"
    amount = f"the {metric.words} by {size}"
    if metric.is_share:
        better, worse = "gained", "lost"
        amount = f"{size} point{'s' if size != '1' else ''}"
    side = direction(comparison.interval, metric)
    if side:
        return better if side > 0 else worse, amount
    if too_close(comparison.interval):
        verb = better if metric.goodness(comparison.mean) > 0 else worse
        return verb, f"{amount}, too close to call,"
    return better, f"nothing that {seeds_in_words(len(comparison.seeds))} can show"


def _diverged(runs: Sequence[Run]) -> int:
    return sum(math.isnan(run.test_loss) for run in runs)


def _joined(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _sentence(clauses: Sequence[str]) -> str:
    words = "; ".join(clause.rstrip(",") for clause in clauses)
    return f"{words[0].upper()}{words[1:]}."

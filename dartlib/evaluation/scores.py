"""Scores of one model on one benchmark, from its items alone: pass@k, maj@k, verdicts, what was finished."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import pandas as pd

from dartlib.evaluation.gate import EvaluationError, unusable_counts
from dartlib.grading import GradingPool
from dartlib.queries import broken_items
from dartlib.records import Verdict
from dartlib.statistics import clustered_interval, majority_at_k, pass_at_k

Answers = Sequence[str | None]


def score_items(items: pd.DataFrame, grading: GradingPool) -> dict[str, Any]:
    """Everything a result file says about one benchmark, as JSON values; shares in [0, 1].

    ``scores`` has one entry per score: ``avg@n`` (the mean over all samples, greedy ``pass@1``), ``pass@k`` and
    ``maj@k`` for k in powers of two, each the mean over items with a 95 % interval that resamples items. Raises
    EvaluationError when an item lacks a sample.
    """
    samples = int(items.groupby("query_id").size().max())
    by_item = {str(query): part for query, part in items.groupby("query_id", sort=True)}
    if lacking := [query for query, part in by_item.items() if sorted(part["trial"]) != list(range(samples))]:
        raise EvaluationError(f"{len(lacking)} items have not all of their {samples} samples, first {lacking[0]}")
    right = {query: int((part["verdict"] == Verdict.CORRECT.value).sum()) for query, part in by_item.items()}
    values = {"pass@1" if samples == 1 else f"avg@{samples}": [count / samples for count in right.values()]}
    for k in _powers(samples):
        values[f"pass@{k}"] = [pass_at_k(samples, count, k) for count in right.values()]
    if samples > 1:
        votes = vote_classes(by_item, grading)
        for k in _powers(samples):
            values[f"maj@{k}"] = [majority_at_k(samples, classes, k) for classes in votes.values()]
    finished = items[items["finish_reason"] != "length"]
    sound = items[~items["query_id"].isin(broken_items().keys())]
    counts = Counter(items["verdict"])
    return {
        "items": len(by_item),
        "samples": samples,
        "scores": {name: _score(each) for name, each in values.items()},
        "verdicts": {verdict.value: counts[verdict.value] for verdict in Verdict},
        "finish_reasons": dict(Counter(items["finish_reason"])),
        "finished": {"replies": len(finished), "accuracy": _accuracy(finished)},
        "unusable": unusable_counts(items),
        "without_broken": {"items": sound["query_id"].nunique(), "accuracy": _accuracy(sound)},
    }


def vote_classes(by_item: Mapping[str, pd.DataFrame], grading: GradingPool) -> dict[str, list[tuple[int, bool]]]:
    """Per item its classes of equal answers: number of samples, and whether most of them were graded correct.

    A class is what chains of equal answers connect; two answers are equal if one answers for the other, as mathematics
    and without the query's own rules. Samples without an answer are in no class.
    """
    answers = {query: list(dict.fromkeys(part["answer"].dropna())) for query, part in by_item.items()}
    pairs = [pair for distinct in answers.values() for pair in permutations(distinct, 2)]
    equal = {pair for pair, same in zip(pairs, grading.equal_many(pairs), strict=True) if same}
    found = {}
    for query, part in by_item.items():
        label = _components(answers[query], equal)
        votes = part[part["answer"].notna()].assign(right=lambda rows: rows["verdict"] == Verdict.CORRECT.value)
        classes = votes.groupby(votes["answer"].map(label))["right"]
        found[query] = [(len(each), bool(2 * each.sum() > len(each))) for _, each in classes]
    return found


def _components(answers: Sequence[str], equal: set[tuple[str, str]]) -> dict[str, int]:
    """A number per answer, the same for answers that a chain of equal ones connects."""
    label = {answer: number for number, answer in enumerate(answers)}
    for first, second in permutations(answers, 2):
        if (first, second) in equal:
            old, new = label[first], label[second]
            label = {answer: new if number == old else number for answer, number in label.items()}
    return label


def _score(values: Sequence[float]) -> dict[str, float]:
    low, high = clustered_interval(values)
    return {"value": sum(values) / len(values), "low": low, "high": high}


def _accuracy(items: pd.DataFrame) -> float | None:
    return float((items["verdict"] == Verdict.CORRECT.value).mean()) if len(items) else None


def _powers(samples: int) -> list[int]:
    """2, 4, 8 … and the number of samples itself."""
    return sorted({2**power for power in range(1, samples.bit_length())} | ({samples} if samples > 1 else set()))

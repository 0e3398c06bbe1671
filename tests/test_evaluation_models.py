"""Eight models' recorded responses as eight result files: one table, all pairs corrected, beside naive claims."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest

from dartlib.evaluation import Protocol, benchmark_version, compare_results, write_result
from dartlib.grading import LENIENT_GRADER_VERSION, GradingPool
from dartlib.records import Item, Query, make_queries


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write(folder: Path, file: Path) -> Path:
    """One model's responses, graded by the evaluation's grader, as its result file."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    queries: list[Query] = make_queries(
        ({"query": row["query"], "reference_answer": row["reference_answer"], "level": 5} for row in rows),
        source="math-level5",
        version="1",
    )
    asked = [(query, row["response"], "stop") for query, row in zip(queries, rows, strict=True)]
    with GradingPool(lenient=True) as grading:
        grades = grading.grade_many(asked)
    model, version = file.stem.removeprefix("math-level5-"), benchmark_version(queries)
    items = [
        Item(
            query.query_id, "math-level5", version, 5, None, 0, verdict.value, reason, answer, "stop", 0, response,
            digest(response), digest(query.query), LENIENT_GRADER_VERSION, "recorded", model,
        )
        for (query, response, _), (answer, verdict, reason) in zip(asked, grades, strict=True)
    ]  # fmt: skip
    protocol = Protocol(
        version, len(items), "zeroeval", 0, digest("zeroeval"), (), 4096, 0.0, 1.0, 1, LENIENT_GRADER_VERSION,
        "recorded", False,
    )  # fmt: skip
    return write_result(folder / model, model, items, {"math-level5": protocol}).folder


def unpaired_z(first: float, second: float, n: int) -> float:
    """The test that looks at two accuracies alone, as if other questions had been asked of each model."""
    mean = (first + second) / 2
    return 2 * NormalDist().cdf(-abs(first - second) / math.sqrt(2 * mean * (1 - mean) / n))


@pytest.mark.slow
def test_eight_models_in_one_table(tmp_path: Path, test_data: Path) -> None:
    files = sorted((test_data / "responses").glob("math-level5-*.jsonl"))
    found = compare_results([write(tmp_path, file) for file in files])
    scores = found.scores.set_index("model").sort_values("value")
    assert len(scores) == 8 and set(scores["items"]) == {721} and (scores["low"] < scores["value"]).all()
    assert list(scores.index[-2:]) == ["meta-llama-3.1-70b-instruct", "qwen2.5-7b-instruct"]
    pairs = found.pairs
    assert len(pairs) == 28 and set(pairs["items"]) == {721}
    by_model = scores["value"]
    naive = [unpaired_z(by_model[row.first], by_model[row.second], 721) for row in pairs.itertuples()]
    table = pairs.assign(naive=naive)[["first", "second", "difference", "low", "high", "p_value", "p_holm", "naive"]]
    print(scores[["value", "low", "high", "no_answer"]].round(3).to_string(), table.round(4).to_string(), sep="\n")
    # Larger is better claims all 28; the corrected paired test finds most of them, and those are what holds.
    corrected, uncorrected = set(pairs.index[pairs["p_holm"] < 0.05]), set(pairs.index[pairs["p_value"] < 0.05])
    assert corrected < uncorrected and len(corrected) < 28
    clear = pairs["difference"].abs() > 0.1
    assert set(pairs.index[clear]) <= corrected
    assert ((pairs["low"] > 0) | (pairs["high"] < 0)).loc[list(corrected)].all()

"""Eight models' recorded responses as eight result files: one table, all pairs corrected, beside naive claims."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from statistics import NormalDist

import pandas as pd
import pytest

from dartlib.evaluation import Protocol, benchmark_version, compare_results, write_result
from dartlib.grading import LENIENT_GRADER_VERSION, GradingPool
from dartlib.records import Item, Query, make_queries


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write(folder: Path, file: Path, questions: int) -> Path:
    """One model's responses to the first questions, graded by the evaluation's grader, as its result file."""
    rows = [json.loads(line) for line in file.read_text().splitlines()[:questions]]
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


def table(folder: Path, data: Path, questions: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores by model, and all pairs beside the p-value of the test that looks at two accuracies alone."""
    files = sorted((data / "responses").glob("math-level5-*.jsonl"))
    found = compare_results([write(folder, file, questions) for file in files])
    scores = found.scores.set_index("model").sort_values("value")
    value = scores["value"]
    naive = [unpaired_z(value[row.first], value[row.second], questions) for row in found.pairs.itertuples()]
    pairs = found.pairs.assign(naive=naive)
    print(scores[["value", "low", "high", "no_answer"]].round(3).to_string(), pairs.round(4).to_string(), sep="\n")
    assert len(scores) == 8 and len(pairs) == 28 and set(pairs["items"]) == set(scores["items"]) == {questions}
    return scores, pairs


@pytest.mark.slow
def test_eight_models_in_one_table(tmp_path: Path, test_data: Path) -> None:
    scores, pairs = table(tmp_path, test_data, 721)
    assert list(scores.index[-2:]) == ["meta-llama-3.1-70b-instruct", "qwen2.5-7b-instruct"]
    assert scores["value"].is_unique  # so a ranking claims 28 differences
    unclear = pairs[pairs["p_holm"] >= 0.05]
    assert [(row.first, row.second) for row in unclear.itertuples()] == [
        ("claude-3-haiku-20240307", "phi-3-mini-4k-instruct")  # 1.3 points apart
    ]
    clear = pairs.drop(index=unclear.index)
    assert ((clear["low"] > 0) | (clear["high"] < 0)).all()


@pytest.mark.slow
def test_fewer_questions_tell_less(tmp_path: Path, test_data: Path) -> None:
    """The first 100 questions: a ranking still claims 28 differences, two accuracies alone 23, the corrected one 20."""
    scores, pairs = table(tmp_path, test_data, 100)
    claims = {name: int((pairs[name] < 0.05).sum()) for name in ("naive", "p_value", "p_holm")}
    assert claims == {"naive": 23, "p_value": 23, "p_holm": 20}

"""The verifier card: its rows are what its method says, its table follows from them, and our grader still agrees."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from verifier_card import GRADERS, STRATA, TABLE, card_table, read_rows, weighted_share, weights

from dartlib.grading import GradingPool, answers_equal
from dartlib.records import Query, Verdict
from dartlib.synthesis import MEASURED_VERIFIER


def test_sample_is_stratified_and_read_twice() -> None:
    rows = read_rows()
    assert len(rows) == 300 and sum(STRATA.values()) == 8 * 721
    assert min(Counter(row["stratum"] for row in rows).values()) >= 75
    for row in rows:
        votes = {row[grader] for grader in GRADERS}
        assert row["stratum"] == ("disagree" if len(votes) > 1 else "equal" if votes == {"1"} else "different")
        assert row["verdict"] in ("equal", "wrong") and row["reason"]
        assert row["verdict"] in (row["first"], row["second"]) or "runs on" in row["reason"]
    assert sum(row["first"] != row["second"] for row in rows) == 1  # conflicts between the two readers
    assert sum("runs on" in row["reason"] for row in rows) == 4  # settled by the whole response


def test_table_is_what_the_rows_give() -> None:
    with TABLE.open(encoding="utf-8", newline="") as handle:
        stored = list(csv.DictReader(handle))
    assert [{name: str(value) for name, value in row.items()} for row in card_table(read_rows())] == stored


def test_weighted_share_by_hand() -> None:
    """Two rows that stand for 1 and 3: the hit with weight 3 makes 3/4; they are worth 16/10 rows, so one."""
    rows = [{"stratum": "a", "hit": ""}, {"stratum": "b", "hit": "x"}]
    share, low, high = weighted_share(rows, {"a": 1.0, "b": 3.0}, lambda row: bool(row["hit"]))
    assert share == pytest.approx(0.75) and low == pytest.approx(0.2065, abs=1e-4) and high == 1.0


def test_weights_add_up_to_all_responses() -> None:
    rows = read_rows()
    weight = weights(rows)
    assert sum(weight[row["stratum"]] for row in rows) == pytest.approx(5768)


def test_stated_answers_are_judged_as_a_reader_judges_them() -> None:
    """On the answers themselves, extraction aside; the one in base three needs its query."""
    wrong = []
    for row in read_rows():
        query = "Give the product in base three." if row["reason"] == "the query asks for base three" else None
        equal = bool(row["answer"]) and answers_equal(gold=row["gold"], pred=row["answer"], query=query)
        if equal != (row["verdict"] == "equal"):
            wrong.append((row["gold"], row["answer"], row["verdict"]))
    assert wrong == []


def test_our_column_is_what_the_grader_says_of_the_responses(test_data: Path) -> None:
    rows = read_rows()
    responses = {}
    for model in {row["model"] for row in rows}:
        with (test_data / "responses" / f"math-level5-{model}.jsonl").open(encoding="utf-8") as handle:
            responses |= {(model, str(line["id"])): line for line in map(json.loads, handle)}
    found = [responses[row["model"], row["problem"]] for row in rows]
    assert [response["reference_answer"] for response in found] == [row["gold"] for row in rows]
    with GradingPool() as grader:
        graded = grader.grade_many(
            [
                (Query(str(number), "responses", one["query"], one["reference_answer"]), one["response"], "stop")
                for number, one in enumerate(found)
            ]
        )
    assert [verdict is Verdict.CORRECT for _, verdict, _ in graded] == [row["ours"] == "1" for row in rows]


def test_the_package_states_what_the_rows_give() -> None:
    """What data cards are told about the grader: its precision, recall, and how many responses were right."""
    found = {row["measure"]: tuple(float(row[name]) for name in ("value", "low", "high"))
             for row in card_table(read_rows()) if row["grader"] == "ours" and row["solved_by"] == "all"}  # fmt: skip
    rows = read_rows()
    right, _, _ = weighted_share(rows, weights(rows), lambda row: row["verdict"] == "equal")
    assert MEASURED_VERIFIER.precision == found["precision"] and MEASURED_VERIFIER.recall == found["recall"]
    assert MEASURED_VERIFIER.right_share == round(right, 4)

"""The verifier card: its rows are what its method says, its table follows from them, and our grader still agrees."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import verifier_card_hard as hard
from grading_in_process import answers_equal
from verifier_card import GRADERS, STRATA, TABLE, card_table, read_rows, weighted_share, weights

from dartlib.grading import GradingPool
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


BENCHMARK_FILES = {
    "math-test": ("math-test.jsonl", "problem"),
    "college-math-test": ("college-math-test.jsonl", "question"),
    "olympiadbench": ("OE_TO_maths_en_COMP.json", "question"),
    "theoremqa": ("theoremqa.json", "Question"),
    "TheoremQA outputs": ("theoremqa.json", "Question"),
    "deepmind": ("deepmind-mathematics.json", "question"),
}


def test_the_hard_card_has_no_plain_integers_two_tables_and_two_readings() -> None:
    rows = hard.read_rows()
    assert Counter(row["table"] for row in rows) == {"constructed": 306, "real": 93}
    assert {row["group"] for row in rows} == set(hard.GROUPS)
    assert not [row["gold"] for row in rows if row["gold"].strip("$ ").lstrip("-").isdigit()]
    conflicts = [row for row in rows if row["first"] != row["second"]]
    assert len(conflicts) == 8 and all(row["reason"] for row in rows)
    assert all(row["verdict"] == row["first"] for row in rows if row not in conflicts)


def test_the_hard_table_is_what_its_rows_give() -> None:
    with hard.TABLE.open(encoding="utf-8", newline="") as handle:
        stored = list(csv.DictReader(handle))
    assert [{name: str(value) for name, value in row.items()} for row in hard.card_table(hard.read_rows())] == stored


def test_our_column_of_the_hard_card_is_what_the_grader_says(test_data: Path) -> None:
    texts = {}
    for name, (file, field) in BENCHMARK_FILES.items():
        text = (test_data / "benchmarks" / file).read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()] if file.endswith("l") else json.loads(text)
        texts[name] = [row[field] for row in rows]
    known = [row for row in hard.read_rows() if row["problem"]]
    assert len(known) == 391
    with GradingPool() as grader:
        graded = grader.grade_many(
            [
                (
                    Query(str(n), "card", texts[row["source"]][int(row["problem"])], row["gold"], "expression"),
                    f"\\boxed{{{row['answer']}}}",
                    "stop",
                )
                for n, row in enumerate(known)
            ]
        )
    assert [str(int(verdict is Verdict.CORRECT)) for _, verdict, _ in graded] == [row["ours"] for row in known]

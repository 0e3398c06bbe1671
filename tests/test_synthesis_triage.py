"""Never-solved queries: each suspicion is reached by a case made for it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dartlib.records import Query, Sample, make_queries, read_records, read_table
from dartlib.synthesis import triage
from dartlib.synthesis.triage import COLUMNS, odd_reference


def query(text: str, reference: str = "12") -> Query:
    return make_queries([{"query": text, "reference_answer": reference, "level": 5}], source="t", version="1")[0]


def samples(asked: Query, *trials: tuple[str, str | None, str, str]) -> pd.DataFrame:
    """Trials as (verdict, answer, finish_reason, response)."""
    rows = [(asked.query_id, number, *trial) for number, trial in enumerate(trials)]
    return pd.DataFrame(rows, columns=["query_id", "trial", "verdict", "answer", "finish_reason", "response"])


def said(answer: int, *, verdict: str = "wrong") -> tuple[str, str | None, str, str]:
    return verdict, str(answer), "stop", f"So the answer is {answer}."


HARD = [said(n) for n in range(20, 30)]


def only(asked: Query, trials: list[tuple[str, str | None, str, str]]) -> pd.Series:
    table = triage([asked], samples(asked, *trials))
    assert list(table.columns) == COLUMNS and len(table) == 1
    return table.iloc[0]


def test_a_hard_query_has_ten_answers_and_no_suspicion() -> None:
    row = only(query("hard"), HARD)
    assert (row.suspicion, row.trials, row.answers, row.top_share, row.near_misses) == ("hard", 10, 10, 0.1, 0)
    assert row["read"] == [0] and row.level == 5


def test_agreement_on_one_wrong_answer_points_to_the_reference() -> None:
    row = only(query("agreed"), [said(20), *[said(7)] * 4, *HARD[:5]])
    assert (row.suspicion, row.top_answer, row.top_share) == ("reference", "7", 0.4)
    assert row["read"] == [1, 0]


def test_a_lenient_hit_points_to_the_grader_even_when_the_response_was_cut() -> None:
    bare = ("no_answer", None, "stop", "Two times six makes 12")
    cut = ("no_answer", None, "length", "We find \\boxed{12} and then go on and")
    row = only(query("missed"), [*HARD, bare, cut])
    assert (row.suspicion, row.near_misses, row.near_miss, row["read"]) == ("grader", 2, "12", [10, 0])
    assert row.no_answer_share == pytest.approx(2 / 12) and row.cut_share == pytest.approx(1 / 12)


def test_a_missing_figure_points_to_the_query_and_cut_responses_to_the_limit() -> None:
    assert only(query("How large is the angle in the figure below?"), HARD).suspicion == "query"
    cut = ("no_answer", None, "length", "And then we have to look at every")
    assert only(query("long"), [cut] * 6 + HARD[:4]).suspicion == "cut"


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("", "empty"), ("?", "placeholder"), ("N/A", "placeholder"), ("3 or 4", "several answers"),
        ("\\frac{1}{2", "unbalanced"), ("the sum of all the numbers is even", "sentence"),
        ("12", ""), ("\\frac{1}{2}", ""), ("x=3", ""), ("(1,2)", ""), ("\\text{Monday}", ""), ("-\\sqrt{3}", ""),
        ("-1, \\; -5", ""), ("-12 \\text{ or } -30", "several answers"),
    ],
)  # fmt: skip
def test_odd_references(reference: str, why: str) -> None:
    asked = Query("id", "s", "q", reference)
    assert odd_reference(asked) == why


def test_solved_and_barely_tried_queries_are_left_out_and_suspicious_ones_come_first() -> None:
    asked = [query(name) for name in ("hard", "solved", "barely", "agreed")]
    frames = [
        samples(asked[0], *HARD),
        samples(asked[1], *HARD, said(12, verdict="correct")),
        samples(asked[2], *HARD[:7]),
        samples(asked[3], *[said(7)] * 9),
    ]
    table = triage(asked, pd.concat(frames))
    assert list(table["query"]) == ["agreed", "hard"] and list(table["suspicion"]) == ["reference", "hard"]
    assert list(triage([], pd.concat(frames)).columns) == COLUMNS


def test_agreement_counts_only_beyond_what_the_teacher_shows_where_references_are_right() -> None:
    """Four of ten agree on 7; where the reference is proven, four of eight wrong trials agree on one answer, too."""
    asked = [query("agreed"), query("solved")]
    wrong = [said(20), *[said(7)] * 4, *HARD[:5]]
    alike = [said(12, verdict="correct"), *[said(9)] * 4, *HARD[:4]]
    frames = [samples(asked[0], *wrong), samples(asked[1], *alike)]
    assert triage(asked, pd.concat(frames)).suspicion.tolist() == ["hard"]
    frames[1] = samples(asked[1], said(12, verdict="correct"), *HARD)
    assert triage(asked, pd.concat(frames)).suspicion.tolist() == ["reference"]


def test_no_reference_of_the_ladder_is_suspected() -> None:
    """All of them are right: agreement alone once suspected 7 of the 18 that the reference run never solved.

    An answer that only a lenient reader takes is the grader's business and says nothing of the reference.
    """
    run = Path(__file__).parents[1] / "papermill_runs" / "reference" / "02_synthesis"
    table = triage(
        read_records(run / "queries.parquet", Query), read_table(run / "samples.parquet", Sample).to_pandas()
    )
    assert len(table) >= 10 and set(table.suspicion) <= {"hard", "cut", "grader"}

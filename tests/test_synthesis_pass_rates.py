"""Recorded pass rates: every kind of place they come from, and what a wrong one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib.records import Query, QueryOutcome, RecordError, write_records
from dartlib.synthesis import match_pass_rates, read_pass_rates
from dartlib.synthesis.pass_rates import PassRate


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def our_query(identity: str, text: str) -> Query:
    return Query(identity, "own", text, "4")


def published_pool(folder: Path, **changes: list[object]) -> Path:
    """A folder as the authors' files make it: ids and texts in the pool, counts in query-info, "never" unknown."""
    for part in ("pool", "query-info"):
        (folder / part).mkdir(exist_ok=True)
    pool = {"query_id": ["easy", "easy", "hard"], "query": ["question easy", "question easy", "question hard"]}
    info: dict[str, list[object]] = {
        "query_id": ["easy", "hard", "never"], "tot_n_corrects": [90, 4, 0], "tot_n_samples": [100, 100, 100],
        "level": [1, 5, 5],
    }  # fmt: skip
    pq.write_table(pa.table(pool), folder / "pool" / "0.parquet")
    pq.write_table(pa.table(info | changes), folder / "query-info" / "0.parquet")
    return folder


def test_a_known_set_is_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    info = [("a", 1, 10, 4), ("b", 5, 10, 0), ("c", 5, None, None), ("d", 2, 0, 0)]
    names = ("query_id", "level", "tot_n_samples", "tot_n_corrects")
    rows = [dict(zip(names, row, strict=True)) | {"domain": "Algebra"} for row in info]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "dart-math-pool-math-query-info.parquet")
    said: list[str] = []
    read = read_pass_rates("dart-math-pool-math-query-info", log=said.append)
    assert read == [PassRate("a", 0.4, (4, 10), 1, None), PassRate("b", 0.0, (0, 10), 5, None)]
    assert len(said) == 1 and said[0].endswith("2 of 4 queries left out: no trials")


def test_an_own_file_needs_no_ids_levels_or_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rates.jsonl", {"pass_rate": 0.25, "level": "Level 3"}, {"pass_rate": 1, "level": "Level ?"}
    )
    assert read_pass_rates(path) == [PassRate("1", 0.25, None, 3, None), PassRate("2", 1.0, None, None, None)]
    path = write(tmp_path / "counts.jsonl", {"query_id": 7, "correct": "3", "trials": 4, "query": "2+2"})
    assert read_pass_rates(path) == [PassRate("7", 0.75, (3, 4), None, "2+2")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"query": "a", "trials": 3}],
            r"line 1: no column pass_rate or correct .* \(found: query, trials\)",
        ),
        ([{"trials": 2, "correct": 1}, {"trials": 2, "correct": 3}], "line 2: 3 correct of 2 trials"),
        ([{"trials": 2, "correct": 0.5}], "line 1: 0.5 correct of 2 trials: whole numbers"),
        ([{"pass_rate": 1.5}], "line 1: a pass rate of 1.5 is not between 0 and 1"),
        ([{"pass_rate": "high"}], "line 1: pass_rate is 'high', expected a number"),
        ([{"trials": 0, "correct": 0}], "no query with a pass rate"),
        ([{"query_id": "a", "pass_rate": x} for x in (0, 1)], "line 2: query 'a' stood before with another pass rate"),
    ],
)
def test_faults_are_named_with_file_row_and_field(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        read_pass_rates(write(tmp_path / "rates.jsonl", *rows), log=lambda line: None)


def test_recorded_rates_from_the_shared_file(test_data: Path) -> None:
    """1,209 queries; the sums are those of its own columns, added up here."""
    path = test_data / "replay" / "pass-rates-1209.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    read = read_pass_rates(path)
    assert len(read) == len(rows) == 1209
    assert [rate.counts for rate in read] == [(sum(row["correct_per_record"]), row["trials"]) for row in rows]


def test_a_finished_synthesis_gives_its_difficulty_trials(tmp_path: Path) -> None:
    """Not all its trials: those of a query asked until its quota was met would be too favourable."""
    queries = [our_query("q1", "easy"), our_query("q2", "hard")]
    write_records(tmp_path / "queries.parquet", queries, Query)
    outcomes = [
        QueryOutcome(name, strategy, None, 8, correct, 1 - correct / 8, 4, 40, trials, 4, "met")
        for strategy in ("uniform", "prop2diff")
        for name, correct, trials in (("q1", 6, 8), ("q2", 1, 31))
    ]
    write_records(tmp_path / "outcomes.parquet", outcomes, QueryOutcome)
    read = read_pass_rates(tmp_path)
    assert read == [PassRate("q1", 0.75, (6, 8), None, "easy"), PassRate("q2", 0.125, (1, 8), None, "hard")]
    assert match_pass_rates(read, queries) == {"q1": (6, 8), "q2": (1, 8)}


def test_published_pass_rates_reach_our_queries_by_their_text(tmp_path: Path) -> None:
    """Ids of the published pool are not ours; "never" has no row in the pool, so nobody knows what it asked."""
    read = read_pass_rates(published_pool(tmp_path))
    queries = [our_query("q1", " Question  hard"), our_query("q2", "question easy "), our_query("q3", "question never")]
    assert match_pass_rates(read, queries) == {"q1": (4, 100), "q2": (90, 100)}
    assert match_pass_rates(read, [our_query("never", "by its id")]) == {"never": (0, 100)}
    with pytest.raises(RecordError, match="none of the 3 recorded pass rates belongs to one of the 1 queries"):
        match_pass_rates(read, [our_query("q", "another question")])


def test_a_published_folder_with_faults_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="0.parquet, row 1: 105 correct of 100 trials"):
        read_pass_rates(published_pool(tmp_path, tot_n_corrects=[105, 4, 0]))
    published_pool(tmp_path)
    (tmp_path / "pool" / "0.parquet").write_bytes(b"half a file")
    with pytest.raises(RecordError, match="0.parquet: no query_id and query to read"):
        read_pass_rates(tmp_path)
    with pytest.raises(RecordError, match="neither outcomes.parquet of a synthesis nor query-info"):
        read_pass_rates(tmp_path / "pool")


def test_a_name_that_is_no_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"absent.jsonl: no such file, and not a known data set"):
        read_pass_rates(tmp_path / "absent.jsonl")

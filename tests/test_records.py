"""The contracts between rooms: ids, strict readers, files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib import records
from dartlib.records import (
    Manifest,
    Query,
    RecordError,
    SftRow,
    Trial,
    Verdict,
    check_unique,
    make_queries,
    make_query_id,
    read_manifest,
    read_records,
    read_table,
    schema_of,
    write_manifest,
    write_records,
)

ROW = SftRow("1+1?", "2", "a" * 16, 0, "own", None, None, "vrt")


def test_query_ids_follow_source_version_text_and_occurrence() -> None:
    base = make_query_id("s", "1", "What?", 0)
    assert base == make_query_id("s", "1", "  What? \n", 0) and len(base) == 16
    others = [("t", "1", "What?", 0), ("s", "2", "What?", 0), ("s", "1", "Why?", 0), ("s", "1", "What?", 1)]
    assert len({base, *(make_query_id(*other) for other in others)}) == 5


def test_repeated_questions_get_occurrence_numbers() -> None:
    rows = [{"query": text, "reference_answer": "2"} for text in ("q", "q ", "other")]
    queries = make_queries(rows, source="s", version="1")
    assert [query.query_id for query in queries[:2]] == [make_query_id("s", "1", "q", n) for n in (0, 1)]
    check_unique(queries)
    with pytest.raises(RecordError, match="1 query_id repeated"):
        check_unique([queries[0], queries[0]])


def test_records_survive_a_round_trip_with_their_empty_fields(tmp_path: Path) -> None:
    rows = [ROW, SftRow("2+2?", "4", "b" * 16, 1, "own", 3, 0.25, "uniform")]
    write_records(tmp_path / "rows.parquet", rows, SftRow)
    assert read_records(tmp_path / "rows.parquet", SftRow) == rows


def test_the_schema_says_which_columns_may_be_empty() -> None:
    schema = schema_of(Trial)
    assert schema.field("logprob_sum").nullable and not schema.field("response").nullable
    assert schema.field("trial").type == pa.int64()
    assert schema.field("response").type == pa.large_string()  # a column of texts may pass 2 GiB


def test_a_trial_carries_the_hash_of_its_response() -> None:
    first, second = (Trial("q", 0, 1, "s", text, "stop", 1, None, "e", 0.1) for text in ("a", "b"))
    assert first.response_hash == hashlib.sha256(b"a").hexdigest()[:12] != second.response_hash


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["q"]}, "column 'response' is missing"),
        ({"query": [1], "response": ["r"]}, "column 'query' is int64, expected string"),
        ({"query": ["q", None], "response": ["r", "r"]}, "column 'query' has 1 empty values"),
    ],
)
def test_readers_name_file_and_column(tmp_path: Path, columns: dict, message: str) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(RecordError, match=message) as error:
        read_table(path, SftRow, ["query", "response"])
    assert str(path) in str(error.value)


def test_an_absent_and_a_truncated_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_table(tmp_path / "none.parquet", SftRow)
    whole = tmp_path / "rows.parquet"
    write_records(whole, [ROW], SftRow)
    (tmp_path / "torn.parquet").write_bytes(whole.read_bytes()[:-9])
    with pytest.raises(RecordError, match="not a readable Parquet file"):
        read_table(tmp_path / "torn.parquet", SftRow)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "rows.parquet"
    write_records(path, [ROW], SftRow)

    def refuse(table, handle, **options):
        handle.write(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.pq, "write_table", refuse)
    with pytest.raises(OSError, match="No space"):
        write_records(path, [], SftRow)
    assert read_records(path, SftRow) == [ROW]
    assert [item.name for item in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_manifest_is_read_back_or_refused_by_name(tmp_path: Path) -> None:
    manifest = Manifest(
        "s", "complete", {"A": 1}, "abc", False, {"python": "3"}, {"cores": 2}, {}, {}, {"f": "0"}, "t0", "t1", 1.5
    )
    write_manifest(tmp_path / "manifest.json", manifest)
    assert read_manifest(tmp_path / "manifest.json") == manifest
    (tmp_path / "broken.json").write_text(json.dumps({"stage": "s"}))
    with pytest.raises(RecordError, match="broken.json: not a manifest"):
        read_manifest(tmp_path / "broken.json")


def test_the_five_verdicts() -> None:
    assert {verdict.value for verdict in Verdict} == {"correct", "wrong", "no_answer", "timeout", "error"}
    assert Query("i", "s", "q", "a").level is None

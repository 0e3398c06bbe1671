"""The pool's files: merged, torn, foreign, killed at every step; and its readers against a plain pandas join."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dartlib.grading import GRADER_VERSION, LENIENT_GRADER_VERSION
from dartlib.leases import Lease, LeaseHeld
from dartlib.records import (
    Counts,
    Grade,
    Query,
    RecordError,
    Sample,
    Trial,
    make_queries,
    read_table,
    response_hash,
    write_records,
)
from dartlib.sampling import PoolError, Setting, open_pool, reader, regrade, shards
from dartlib.sampling.pool import PoolWriter, grader_key, read_setting

SETTING = Setting("weights", "template", 1.0, 1.0, 8, (), 0)
VERSION = "test/1"


def some_queries(count: int) -> list[Query]:
    rows = ({"query": f"number {n}", "reference_answer": str(n), "level": n % 5 + 1} for n in range(count))
    return make_queries(rows, source="test", version="1")


def trial(query: Query, number: int, text: str = "") -> Trial:
    response = text or f"{query.query} trial {number}. The answer is {number % 3}."
    return Trial(query.query_id, number, number, SETTING.identity, response, "stop", 5, None, "stub", 0.1)


def grade(query: Query, number: int, verdict: str, version: str = VERSION) -> Grade:
    judged = response_hash(trial(query, number).response)
    return Grade(query.query_id, number, str(number % 3), verdict, "number", grader_key(version, query), judged)


def fill(folder: Path, queries: list[Query], flushes: int, compact: bool = False) -> Path:
    """``flushes`` shards of one trial per query each, graded correct at every even trial number."""
    writer = PoolWriter(folder, SETTING)
    writer.add_queries(queries)
    first = len(list(writer.folder.glob("trials-*"))) and open_pool(writer.folder).trials().num_rows // len(queries)
    for number in range(first, first + flushes):
        for query in queries:
            writer.add_trial(trial(query, number))
            writer.add_grade(grade(query, number, "wrong" if number % 2 else "correct"))
        writer.flush()
        if compact:
            writer.compact()
    return writer.folder


@pytest.fixture
def merge_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MERGE_COUNT", 4)


def test_merging_keeps_every_row_in_order_and_numbers_go_on(tmp_path: Path, merge_often: None) -> None:
    queries = some_queries(3)
    plain, merged = fill(tmp_path / "plain", queries, 21), fill(tmp_path / "merged", queries, 21, compact=True)
    assert open_pool(merged).trials().equals(open_pool(plain).trials())
    assert open_pool(merged)._whole("grades").equals(open_pool(plain)._whole("grades"))
    assert len(shards.list_shards(plain, "trials")) == 21
    # 4 become one, which with 3 new ones becomes one, and so on: 1-4, 1-7, … 1-19, then flushes 20 and 21
    assert sorted(path.name for path in merged.glob("trials-*")) == [
        "trials-000001-000019.parquet", "trials-000020.parquet", "trials-000021.parquet",
    ]  # fmt: skip
    fill(tmp_path / "merged", queries, 1)
    assert shards.last_number(merged) == 22


def test_large_shards_are_left_alone_and_row_groups_are_filled(tmp_path: Path, monkeypatch, merge_often: None) -> None:
    folder = fill(tmp_path, some_queries(3), 8)
    size = max(path.stat().st_size for path in folder.glob("trials-*"))
    monkeypatch.setattr(shards, "SMALL_BYTES", 2 * size)
    monkeypatch.setattr(shards, "ROWS_PER_GROUP", 5)
    shards.compact(folder, "trials")
    found = shards.list_shards(folder, "trials")
    assert 2 <= len(found) <= 4 and sum(shard.last - shard.first + 1 for shard in found) == 8
    groups = pq.read_metadata(found[0].path)
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups - 1)] == [5] * (groups.num_row_groups - 1)
    monkeypatch.setattr(shards, "SMALL_BYTES", 1)
    before = [path.name for path in folder.glob("trials-*")]
    shards.compact(folder, "trials")
    assert [path.name for path in folder.glob("trials-*")] == before


def test_a_merged_shard_replaces_the_ones_it_holds_also_before_they_are_removed(tmp_path: Path) -> None:
    folder = fill(tmp_path, some_queries(2), 3)
    rows = open_pool(folder).trials().to_pylist()
    write_records(folder / "trials-000001-000002.parquet", [Trial(**row) for row in rows[:4]], Trial)
    assert open_pool(folder).trials().to_pylist() == rows
    PoolWriter(tmp_path, SETTING)  # the next run cleans up
    assert sorted(path.name for path in folder.glob("trials-*")) == [
        "trials-000001-000002.parquet",
        "trials-000003.parquet",
    ]


def test_when_a_merged_shard_is_torn_the_ones_it_was_to_replace_count(tmp_path: Path) -> None:
    folder = fill(tmp_path, some_queries(2), 3)
    rows = open_pool(folder).trials().to_pylist()
    (folder / "trials-000001-000003.parquet").write_bytes(b"PAR1 torn")
    writer = PoolWriter(tmp_path, SETTING)
    assert len(writer.set_aside) == 1 and writer.set_aside[0].startswith("trials-000001-000003.parquet: not a readable")
    assert open_pool(folder).trials().to_pylist() == rows
    assert [path.name for path in (folder / "set-aside").iterdir()] == ["trials-000001-000003.parquet"]


def test_torn_and_foreign_files_are_set_aside_and_reported_by_the_next_run(tmp_path: Path) -> None:
    folder = fill(tmp_path, some_queries(2), 2)
    rows = open_pool(folder).trials().to_pylist()
    whole = (folder / "trials-000002.parquet").read_bytes()
    other = replace(trial(some_queries(1)[0], 7), setting="another-pool")
    write_records(folder / "trials-000005.parquet", [other], Trial)
    write_records(folder / "grades-000005.parquet", [other], Trial)
    (folder / "trials-000006.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "trials-mine.parquet").write_bytes(b"not ours")
    (folder / ".trials-000007.parquet.4242.tmp").write_bytes(whole[:9])
    (folder / "notes.txt").write_text("a user's own")
    pool = open_pool(folder)
    assert pool.trials().to_pylist() == rows and len(pool.unreadable) == 3  # of trials
    notes = PoolWriter(tmp_path, SETTING).set_aside
    assert [note.split(":")[0] for note in notes] == [
        "trials-mine.parquet", "trials-000005.parquet", "trials-000006.parquet", "grades-000005.parquet",
    ]  # fmt: skip
    assert "another-pool" in notes[1] and "'answer' is missing" in notes[3]
    assert len(list((folder / "set-aside").iterdir())) == 4
    assert (folder / "notes.txt").exists() and not list(folder.glob(".*.tmp"))
    assert open_pool(folder).trials().to_pylist() == rows and PoolWriter(tmp_path, SETTING).set_aside == []


def test_a_shard_with_damaged_pages_is_named_and_the_rest_is_read(tmp_path: Path, merge_often: None) -> None:
    folder = fill(tmp_path, some_queries(2), 5)
    path = folder / "trials-000003.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)  # the footer stays whole
    path.write_bytes(data)
    pool = open_pool(folder)
    assert pool.trials(["trial"])["trial"].to_pylist() == [0, 0, 1, 1, 3, 3, 4, 4]
    assert len(pool.unreadable) == 1 and "trials-000003.parquet: damaged" in pool.unreadable[0]
    with pytest.raises(ValueError, match="moved to set-aside"):
        shards.compact(folder, "trials")
    assert open_pool(folder).trials().num_rows == 8


def test_a_pool_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path, some_queries(1), 1)
    text = (folder / "setting.json").read_text()
    (folder / "setting.json").write_text(text.replace('"schema_version": 2', '"schema_version": 3'))
    for refuse in (lambda: open_pool(folder), lambda: PoolWriter(tmp_path, SETTING)):
        with pytest.raises(PoolError, match="its layout is 3, this dartlib reads 2"):
            refuse()
    (folder / "setting.json").write_text("{")
    with pytest.raises(PoolError, match=r"setting\.json: not the setting of a pool"):
        open_pool(folder)


@pytest.mark.parametrize("name", ["fsync", "replace", "unlink"])
def test_kill_at_every_step_of_flushing_and_merging(tmp_path: Path, merge_often: None, name: str) -> None:
    """A child kills itself before its n-th such system call, n = 0, 1, 2 …; what was flushed is there, once."""
    queries = some_queries(2)
    calls = 0
    for number in range(200):
        pool = tmp_path / str(number)
        child = os.fork()
        if child == 0:
            _die_at_call(name, number)
            fill(pool, queries, 5, compact=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        calls += 1
        folder = next(pool.glob("*"), None)
        if folder is None or not (folder / "setting.json").exists():
            continue
        before = _flushed(folder)
        assert len(set(before)) == len(before), "a trial is there twice"
        assert set(before) == {(query.query_id, n) for query in queries for n in range(len(before) // 2)}
        fill(pool, queries, 2, compact=True)
        after = _flushed(folder)
        assert after[: len(before)] == before and len(after) == len(before) + 4
        assert not list(folder.glob(".*.tmp")) and not (folder / "set-aside").exists()
    assert calls >= 14  # 1 setting, 1 + 5 + 5 shards, 2 merged; unlink: also 4 + 4 replaced ones


def _die_at_call(name: str, number: int) -> None:
    real, count = getattr(os, name), iter(range(10**6))

    def deadly(*arguments, **options):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(os, name, deadly)


def _flushed(folder: Path) -> list[tuple[str, int]]:
    return [(row["query_id"], row["trial"]) for row in open_pool(folder).trials(["query_id", "trial"]).to_pylist()]


def test_readers_see_whole_flushes_while_a_run_writes_and_merges(tmp_path: Path, merge_often: None) -> None:
    queries = some_queries(5)
    fill(tmp_path, queries, 1)
    folder = next(tmp_path.glob("*"))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            fill(tmp_path, queries, 5, compact=True)

    thread = threading.Thread(target=write)
    thread.start()
    seen = 0
    try:
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            rows = open_pool(folder).samples(columns=["query_id", "trial"])
            assert len(rows) >= seen and len(rows) % 5 == 0 and not rows.duplicated().any()
            seen = len(rows)
    finally:
        stop.set()
        thread.join()
    assert seen > 5


def random_pool(folder: Path, seed: int) -> tuple[list[Query], pd.DataFrame, pd.DataFrame]:
    """A pool with gaps, repeats (also with another text), ungraded trials, several graders and a query nobody knows."""
    choose = random.Random(seed)
    queries = some_queries(6)
    stranger = replace(queries[0], query_id="stranger")
    writer = PoolWriter(folder, SETTING)
    writer.add_queries(queries)
    trials, grades = [], []
    for _ in range(6):
        for _ in range(20):
            query, number = choose.choice([*queries, stranger]), choose.randrange(12)
            drawn = trial(query, number, f"{query.query}, text {choose.randrange(2)}: the answer is {number % 3}.")
            trials.append(drawn)
            writer.add_trial(drawn)
            for _ in range(choose.choice([0, 1, 1, 2])):
                judged = grade(
                    query, number, choose.choice(["correct", "wrong", "no_answer"]), choose.choice([VERSION, "old"])
                )
                grades.append(replace(judged, response_hash=drawn.response_hash))
                writer.add_grade(grades[-1])
        writer.flush()
    return queries, pd.DataFrame([asdict(one) for one in trials]), pd.DataFrame([asdict(one) for one in grades])


@pytest.mark.parametrize("version", [None, VERSION])
@pytest.mark.parametrize("where", [None, "level >= 2 and verdict == 'correct'", "trial < 4 and not verdict == 'wrong'"])
@pytest.mark.parametrize("seed", [1, 2])
def test_samples_equal_a_plain_pandas_join(tmp_path: Path, version: str | None, where: str | None, seed: int) -> None:
    queries, trials, grades = random_pool(tmp_path, seed)
    if version is not None:
        keys = {query.query_id: grader_key(version, query) for query in queries}
        grades = grades[grades["grader"] == grades["query_id"].map(keys)]
    expected = trials.drop_duplicates(["query_id", "trial"]).merge(
        pd.DataFrame([asdict(q) for q in queries]), on="query_id"
    )
    expected = expected.merge(
        grades.drop_duplicates(["query_id", "trial", "response_hash"], keep="last"),
        on=["query_id", "trial", "response_hash"],
        how="left",
    )
    order = {query.query_id: number for number, query in enumerate(queries)}
    expected = expected.sort_values("trial").sort_values("query_id", key=lambda ids: ids.map(order), kind="stable")
    expected = expected.reset_index(drop=True)
    if where:
        expected = expected.query(where).reset_index(drop=True)
    found = open_pool(tmp_path).samples(None, version, where=where)
    columns = ["query_id", "trial", "response", "level", "reference_answer", "verdict", "answer", "reason"]
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_dtype=False)
    part = open_pool(tmp_path).samples(queries, version, columns=["response", "verdict"], where=where)
    pd.testing.assert_frame_equal(part, expected[["response", "verdict"]], check_dtype=False)
    if not where:
        drawn, right = (part.groupby("query_id").size() for part in (expected, expected[expected.verdict == "correct"]))
        counts = {query.query_id: Counts(right.get(query.query_id, 0), drawn[query.query_id]) for query in queries}
        assert open_pool(tmp_path).ledger(None, version).counts() == counts


def destroy_responses(path: Path) -> None:
    """Zeros over the pages of one column; the footer and all other columns stay."""
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    column = next(column for column in columns if column.path_in_schema == "response")
    data, start = bytearray(path.read_bytes()), column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)


def test_damaged_texts_are_set_aside_when_they_are_to_be_graded_again(tmp_path: Path) -> None:
    folder = fill(tmp_path, some_queries(3), 4)
    destroy_responses(folder / "trials-000002.parquet")
    with pytest.raises(PoolError, match="trials-000002.parquet damaged, moved to set-aside: run again"):
        regrade(folder, log=lambda line: None)
    assert [path.name for path in (folder / "set-aside").iterdir()] == ["trials-000002.parquet"]
    assert regrade(folder, log=lambda line: None)["trials"].sum() == 9


def test_texts_are_read_for_wanted_rows_only(tmp_path: Path) -> None:
    """The pages of every response but those of one shard are destroyed: whoever reads them is told so."""
    queries = some_queries(3)
    folder = fill(tmp_path, queries, 4)
    for number in (1, 2, 4):
        destroy_responses(folder / f"trials-{number:06d}.parquet")
    pool = open_pool(folder)
    assert pool.ledger(grader_version=VERSION).counts() == {query.query_id: Counts(2, 4) for query in queries}
    assert len(pool.samples(columns=["seed", "answer", "level"], where="verdict == 'correct'")) == 6
    assert pool.unreadable == []
    assert len(pool.samples(columns=["response"])) == 3 and len(pool.unreadable) == 3


@pytest.mark.parametrize(
    "where",
    [
        "verdict != 'correct'", "not verdict == 'wrong'", "~(verdict == 'wrong') and trial < 5", "level in [1, 3]",
        "(level == 1) & (trial > 2) | (level == 2)", "verdict not in ('wrong', 'correct')", "level == [2, 4]",
        "1 < trial <= 3", "verdict.isna()", "verdict.notna() and trial % 2 == 0",
        "response.str.contains('answer is 2')",
        "query.str.startswith('number 1') or query.str.endswith('3')", "trial - 1 == level * -1 + 4", "level in []",
        "answer == reference_answer", "trial >= 2.5",
    ],
)  # fmt: skip
def test_conditions_keep_what_pandas_keeps(tmp_path: Path, where: str) -> None:
    random_pool(tmp_path, 3)
    everything = open_pool(tmp_path).samples(None, VERSION)
    assert everything["verdict"].isna().any() and everything["verdict"].notna().any()
    found = open_pool(tmp_path).samples(None, VERSION, where=where)
    pd.testing.assert_frame_equal(found, everything.query(where).reset_index(drop=True), check_dtype=False)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("verdit == 'wrong'", "no column 'verdit'; did you mean 'verdict'"),
        ("level = 5", "no pandas query string"),
        ("__import__('os').system('x')", "is no condition"),
        ("verdict == 'x'; DROP VIEW trials", "no pandas query string"),
        ("verdict == @name", "no pandas query string"),
        ("level", "is no condition"),
        ("level == (lambda: 1)()", "is no column, number or text"),
        ("level in verdict", "is no list"),
        ("answer.str.replace('a', 'b') == 'b'", "is no column"),
        ("level == 'five'", "Could not convert"),
    ],
)
def test_a_condition_is_translated_never_run(tmp_path: Path, where: str, message: str) -> None:
    with pytest.raises(PoolError, match=message):
        open_pool(fill(tmp_path, some_queries(1), 1)).samples(where=where)


def test_quotes_in_a_condition_stay_text(tmp_path: Path) -> None:
    pool = open_pool(fill(tmp_path / "it's [a] *?", some_queries(2), 2))  # as quotes and wildcards of a path do
    assert len(pool.samples(where="response.str.contains('trial 1') and answer != \"' OR 1=1 --\"")) == 2


def test_a_grade_judges_its_response_only(tmp_path: Path) -> None:
    """The trial's shard is lost, the grade stays, the trial is drawn again and killed before it is graded."""
    queries = some_queries(1)
    folder = fill(tmp_path, queries, 2)
    (folder / "trials-000002.parquet").unlink()
    writer = PoolWriter(tmp_path, SETTING)
    writer.add_trial(trial(queries[0], 1, "Drawn again. The answer is 0."))
    writer.flush()
    assert open_pool(folder).samples(columns=["trial", "verdict"])["verdict"].isna().tolist() == [False, True]
    assert [one.trial for batch in open_pool(folder).ungraded(queries, VERSION) for one in batch] == [1]
    regrade(folder, queries, log=lambda line: None)
    shown = open_pool(folder).show(queries[0].query_id)
    assert shown["response"][1].startswith("Drawn again") and shown["verdict"].tolist() == ["correct", "correct"]


def test_numbers_of_a_setting_have_one_type(tmp_path: Path) -> None:
    whole, real = Setting("w", "t", 1, 1, 8, (), 0), Setting("w", "t", 1.0, 1.0, 8, (), 0)
    assert whole.identity == real.identity == SETTING.__class__("w", "t", True, 1.0, 8, (), False).identity
    folder = PoolWriter(tmp_path, whole).folder
    assert read_setting(folder) == real and '"temperature": 1.0' in (folder / "setting.json").read_text()


@pytest.mark.parametrize("at_a_time", [1, 3000, 2**20])  # bytes that are sorted together
def test_samples_are_written_in_the_order_of_the_queries(tmp_path: Path, monkeypatch, at_a_time: int) -> None:
    monkeypatch.setattr(reader, "_TEXT_AT_A_TIME", at_a_time)
    queries = [
        *reversed(some_queries(4)),
        make_queries([{"query": "new", "reference_answer": "1"}], source="t", version="1")[0],
    ]
    folder = fill(tmp_path, queries, 3)
    writer = PoolWriter(tmp_path, SETTING)
    writer.add_trial(trial(queries[0], 3))  # not graded
    writer.flush()
    assert open_pool(folder).write_samples(tmp_path / "samples.parquet", queries, VERSION) == 15
    rows = read_table(tmp_path / "samples.parquet", Sample).to_pylist()
    assert [(row["query_id"], row["trial"]) for row in rows] == [(q.query_id, n) for q in queries for n in range(3)]
    assert [row["level"] for row in rows[::3]] == [4, 3, 2, 1, None]
    (folder / "trials-000099.parquet").write_bytes(b"PAR1 torn")
    pool = open_pool(folder)
    assert pool.write_samples(tmp_path / "again.parquet", queries, VERSION) == 15 and len(pool.unreadable) == 1
    assert rows[1]["response"] == trial(queries[0], 1).response and rows[1]["verdict"] == "wrong"
    with pytest.raises(RecordError, match="column 'answer' is missing"):
        pq.write_table(pq.read_table(tmp_path / "samples.parquet").drop_columns(["answer"]), tmp_path / "other.parquet")
        read_table(tmp_path / "other.parquet", Sample)


def test_wrong_columns_and_queries_are_refused(tmp_path: Path) -> None:
    pool = open_pool(fill(tmp_path, some_queries(1), 1))
    with pytest.raises(PoolError, match="no column 'verdit'; did you mean 'verdict'"):
        pool.samples(columns=["verdit"])
    with pytest.raises(PoolError, match="no query 'nobody' was asked here"):
        pool.show("nobody")


def test_the_pool_keeps_the_texts_and_a_corrected_reference_replaces_the_old_one(tmp_path: Path) -> None:
    queries = some_queries(3)
    folder = fill(tmp_path, queries, 1)
    assert open_pool(folder).queries() == queries
    corrected = [queries[0], replace(queries[1], reference_answer="42"), queries[2]]
    fill(tmp_path, corrected, 1)
    assert open_pool(folder).queries() == corrected
    fill(tmp_path, corrected, 1)
    assert sum(pq.read_metadata(path).num_rows for path in folder.glob("queries-*")) == 4  # nothing is kept twice


def test_show_prints_every_trial_of_one_query(tmp_path: Path) -> None:
    queries = some_queries(3)
    shown = open_pool(fill(tmp_path, queries, 4)).show(queries[1].query_id)
    assert list(shown["trial"]) == [0, 1, 2, 3]
    assert list(shown["verdict"]) == ["correct", "wrong"] * 2 and set(shown["reference_answer"]) == {"1"}


def test_the_ledger_speaks_of_asked_queries_only(tmp_path: Path) -> None:
    queries = some_queries(3)
    folder = fill(tmp_path, queries, 4)
    ledger = open_pool(folder).ledger(queries[1:2])
    assert list(ledger.graded()) == [(queries[1].query_id, n, n % 2 == 0) for n in range(4)]
    assert ledger.verdict_counts() == {"correct": 2, "wrong": 2, "no_answer": 0, "timeout": 0, "error": 0}
    none = open_pool(folder).ledger([])
    assert len(none) == 0 and list(none.graded()) == []
    other = open_pool(folder).ledger(queries, "no such grader")
    assert other.ungraded == 12 and list(other.graded()) == []


def test_regrading_needs_no_engine_and_says_what_moved(tmp_path: Path) -> None:
    queries = some_queries(2)  # references 0 and 1; answers go 0, 1, 2, 0, …
    folder = fill(tmp_path, queries, 6)
    lines: list[str] = []
    moved = regrade(tmp_path, log=lines.append)
    assert lines == ["regrading 12 of 12 rows"]
    # before: even trials correct. after: query 0 correct at trials 0, 3; query 1 at 1, 4
    assert {(row.before, row.after): row.trials for row in moved.itertuples()} == {
        ("correct", "correct"): 2, ("wrong", "correct"): 2, ("correct", "wrong"): 4, ("wrong", "wrong"): 4,
    }  # fmt: skip
    assert open_pool(folder).ledger(grader_version=GRADER_VERSION).verdict_counts()["correct"] == 4
    regrade(folder, log=lines.append)
    assert lines[-1] == "regrading 0 of 12 rows"
    regrade(folder, [replace(queries[1], reference_answer="2")], log=lines.append)
    assert lines[-1] == "regrading 6 of 6 rows"
    assert np.flatnonzero(open_pool(folder).show(queries[1].query_id)["verdict"] == "correct").tolist() == [2, 5]
    with Lease(folder, purpose="a test"), pytest.raises(LeaseHeld):
        regrade(folder)


def test_regrading_stays_as_lenient_as_the_pool_was(tmp_path: Path) -> None:
    """The last number of a bare text is its answer to a lenient grader only."""
    query = some_queries(8)[7]
    writer = PoolWriter(tmp_path, SETTING)
    writer.add_queries([query])
    for number in range(2):
        drawn = trial(query, number, f"Trial {number}: three and four make 7")
        writer.add_trial(drawn)
        key = grader_key("0/older/lenient", query)
        writer.add_grade(Grade(query.query_id, number, "7", "correct", "number", key, drawn.response_hash))
    writer.flush()
    moved = regrade(tmp_path, log=lambda line: None)
    assert moved[["before", "after", "trials"]].values.tolist() == [["correct", "correct", 2]]
    assert open_pool(tmp_path).ledger(grader_version=LENIENT_GRADER_VERSION).verdict_counts()["correct"] == 2

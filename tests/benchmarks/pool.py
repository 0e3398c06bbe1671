"""20 million trials with grades: how long it takes, and how much memory, to count them per query and to resume.

The pool is made in a temporary folder (about 1 GB; TMPDIR chooses where) as a long run leaves it: merged shards of a
million rows and a tail of small ones. Counting runs in a process of its own, whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _rows import report, row

from dartlib.records import Grade, Query, Trial, make_queries, schema_of
from dartlib.sampling import Setting, open_pool
from dartlib.sampling.pool import PoolWriter, grader_key
from dartlib.sampling.shards import ROWS_PER_GROUP, shard_path

ROWS, QUERIES, SHARD_ROWS = 20_000_000, 14_973, 1_000_000
SETTING = Setting("weights", "template", 1.6, 0.95, 2048, (), 1)
LIMITS = {"count_seconds": (60.0, "s"), "peak_gb": (2.0, "GB")}


def queries(count: int = QUERIES) -> list[Query]:
    rows = (
        {"query": f"question {number}", "reference_answer": "7", "level": 1 + number % 5} for number in range(count)
    )
    return make_queries(rows, source="bench", version="1")


def fill(
    folder: Path, rows: int, asked: list[Query], version: str = "bench", shard_rows: int = SHARD_ROWS, words: int = 0
) -> int:
    """Write the pool; returns the number of correct trials. Row i is trial i // n of query i % n, of n queries.

    The queries' pass rates are spread evenly from 0 to 1. ``words`` of six letters make responses longer.
    """
    count = len(asked)
    writer = PoolWriter(folder, SETTING)
    writer.add_queries(asked)
    writer.flush()
    identities = pa.array([query.query_id for query in asked])
    keys = pa.array([grader_key(version, query) for query in asked])
    random = np.random.default_rng(1)
    correct = 0
    letters = np.concatenate([random.integers(97, 123, (4096, 6)), np.full((4096, 1), 32)], axis=1).astype(np.uint8)
    for first in range(0, rows, shard_rows):
        numbers = np.arange(first, min(rows, first + shard_rows))
        right = random.random(len(numbers)) < (numbers % count) / count
        correct += int(right.sum())
        owner, trial = pa.array(numbers % count), pa.array(numbers // count)
        answer = pa.array(np.where(right, "7", random.integers(10, 99, len(numbers)).astype(str)))
        text = pa.array(random.integers(0, 2**62, len(numbers)).astype(str))
        same = {"setting": SETTING.identity, "finish_reason": "stop", "engine": "bench", "reason": "number"}
        columns = {name: pa.repeat(value, len(numbers)) for name, value in same.items()}
        columns |= {"query_id": identities.take(owner), "trial": trial, "answer": answer, "grader": keys.take(owner)}
        columns |= {"seed": pa.array(random.integers(0, 2**31, len(numbers))), "n_tokens": trial}
        columns |= {
            "logprob_sum": pa.nulls(len(numbers), pa.float64()),
            "seconds": pa.array(random.random(len(numbers))),
        }
        if words:
            filler = letters[random.integers(4096, size=(len(numbers), words))].reshape(len(numbers), -1)
            ends = pa.array(np.arange(len(numbers) + 1) * filler.shape[1]).buffers()[1]
            text = pa.LargeStringArray.from_buffers(len(numbers), ends, pa.py_buffer(filler.tobytes()))
        said, space = (pa.scalar(each, text.type) for each in ("So the answer is", " "))
        columns |= {"response": pa.compute.binary_join_element_wise(said, answer.cast(text.type), text, space)}
        columns |= {"verdict": pa.array(np.where(right, "correct", "wrong"))}
        columns |= {"response_hash": pa.array(random.integers(10**11, 10**12, len(numbers)).astype(str))}
        last = first + shard_rows
        for kind, record in (("trials", Trial), ("grades", Grade)):
            schema = schema_of(record)
            table = pa.table([columns[name] for name in schema.names], schema=schema)
            path = shard_path(writer.folder, kind, first + 2, last + 1)
            pq.write_table(table, path, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return correct


def count(folder: Path) -> dict[str, float]:
    """In a fresh process: seconds and peak memory of counting, then seconds of other things people do."""
    started = time.monotonic()
    pool = open_pool(folder)
    counts = pool.ledger(queries(), "bench").counts()
    found = {"count_seconds": time.monotonic() - started}
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    found |= {name: sum(getattr(count, name) for count in counts.values()) for name in ("trials", "correct")}
    started = time.monotonic()
    name, (correct, trials) = list(counts.items())[100]
    shown = pool.show(name)
    found["show_seconds"] = time.monotonic() - started
    assert len(shown) == trials and (shown["verdict"] == "correct").sum() == correct
    started = time.monotonic()
    hard = pool.samples(
        columns=["trial", "level", "response"], where="level == 1 and verdict == 'correct' and trial < 9"
    )
    found |= {"where_seconds": time.monotonic() - started, "where_rows": len(hard)}
    found["peak_gb_with_where"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)  # the child process
    options = parser.parse_args()
    if options.count:
        print(json.dumps(count(options.count)))
        return
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        correct = fill(Path(folder), options.rows, queries())
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) / 1e9
        print(f"{options.rows:,} trials made in {time.monotonic() - started:.0f} s, {size:.2f} GB on disk")
        command = [sys.executable, __file__, "--count", folder]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (found["trials"], found["correct"]) == (options.rows, correct), "the counts are wrong"
    rows = []
    for name, value in found.items():
        limit, unit = LIMITS.get(name, (None, "GB" if "gb" in name else "s" if "seconds" in name else "rows"))
        rows.append(row(name, value, limit, "limit" if limit else None, unit))
    report(rows, options.json)


if __name__ == "__main__":
    main()

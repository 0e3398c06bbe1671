"""Recorded pass rates, whoever measured them: one reader for a file, a folder, or a known set.

They stand in for difficulty trials (notebook 02), predict what vanilla sampling gives (01), and play the teacher of a
simulation (06).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dartlib.queries import column_names, find_source, get_source, join_texts, load_catalogue, read_rows, value_at
from dartlib.records import Query, QueryOutcome, RecordError, read_records

_COLUMNS = {
    "name": ("query_id", "id"),
    "query": ("query", "question", "problem"),
    "level": ("level",),
    "pass_rate": ("pass_rate",),
    "correct": ("correct", "tot_n_corrects", "n_difficulty_correct"),
    "trials": ("trials", "tot_n_samples", "n_difficulty"),
}
_LEVEL = re.compile(r"(?:level )?([1-5])(?:\.0)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PassRate:
    """One query's recorded pass rate. ``counts`` is (correct, trials), None where only the rate was recorded."""

    name: str  # its id where it was recorded
    pass_rate: float
    counts: tuple[int, int] | None
    level: int | None
    query: str | None  # its text, where that was recorded too


def read_pass_rates(source: str | Path, *, log: Callable[[str], None] = print) -> list[PassRate]:
    """Every query's recorded pass rate, from

    * a known set such as ``dart-math-pool-math-query-info``;
    * a file (JSONL, JSON, CSV, Parquet) with ``correct`` and ``trials``, or ``pass_rate``, per query; optional
      ``query_id``, ``query`` (its text) and ``level``;
    * the folder of a finished ``02_synthesis``, by its difficulty trials;
    * a folder with a published pool: Parquet files in ``query-info``, and in ``pool`` for the texts.

    Queries without trials are left out and told through ``log``. Raises RecordError naming file, row and column.
    """
    path = find_source(get_source(str(source)), log) if str(source) in load_catalogue() else Path(source)
    rows = _folder_rows(path) if path.is_dir() else [(f"{path}, {where}", row) for where, row in read_rows(path)]
    names = list(dict.fromkeys(name for _, row in rows for name in column_names(row)))
    found = {field: next((name for name in some if name in names), None) for field, some in _COLUMNS.items()}
    if not found["pass_rate"] and not (found["correct"] and found["trials"]):
        raise RecordError(
            f"{path}: no pass rates (found: {', '.join(names) or 'no rows'}): give correct and trials, or pass_rate"
        )
    read = [_pass_rate(where, row, found, number) for number, (where, row) in enumerate(rows, start=1)]
    rates = [rate for rate in read if rate is not None]
    if left_out := len(read) - len(rates):
        log(f"{path}: {left_out:,} of {len(read):,} queries left out: no trials")
    if not rates:
        raise RecordError(f"{path}: no query with a pass rate")
    name, times = Counter(rate.name for rate in rates).most_common(1)[0]
    if times > 1:
        raise RecordError(f"{path}: query {name!r} stands in {times} rows: keep one")
    return rates


def match_pass_rates(rates: Sequence[PassRate], queries: Sequence[Query]) -> dict[str, tuple[int, int]]:
    """(correct, trials) by ``query_id`` for those of ``queries`` that were recorded with counts: by id, else by text.

    Raises RecordError when there is none, for then the wrong file was named.
    """
    ours = {query.query_id for query in queries}
    joined = join_texts([rate.query for rate in rates if rate.query], queries)
    counts = {}
    for rate in rates:
        query_id = rate.name if rate.name in ours else joined.get(rate.query or "", (None, ""))[0]
        if query_id is not None and rate.counts is not None:
            counts[query_id] = rate.counts
    if not counts:
        raise RecordError(
            f"none of the {len(rates)} recorded pass rates belongs to one of the {len(queries)} queries: neither ids "
            "nor texts agree (query-info files of a published pool have no texts: put the pool's files beside them)"
        )
    return counts


def _folder_rows(folder: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows of a folder: the outcomes of a synthesis, or the query-info files of a published pool with their texts."""
    if (outcomes := folder / "outcomes.parquet").is_file():
        by_query = {row.query_id: asdict(row) for row in read_records(outcomes, QueryOutcome)}
        texts = {query.query_id: query.query for query in read_records(folder / "queries.parquet", Query)}
        return [(str(outcomes), {**row, "query": texts.get(name)}) for name, row in by_query.items()]
    files = sorted((folder / "query-info").rglob("*.parquet"))
    if not files:
        raise RecordError(
            f"{folder}: neither outcomes.parquet of a synthesis nor query-info/*.parquet of a published pool"
        )
    texts = dict(_texts(sorted((folder / "pool").rglob("*.parquet"))))
    return [
        (f"{file}, {where}", {**row, "query": texts.get(row.get("query_id", ""))})
        for file in files
        for where, row in read_rows(file)
    ]


def _texts(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            for batch in pq.ParquetFile(file).iter_batches(columns=["query_id", "query"]):
                yield from zip(batch.column("query_id").to_pylist(), batch.column("query").to_pylist(), strict=True)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise RecordError(f"{file}: not a file of a published pool ({error}): download it again") from None


def _pass_rate(where: str, row: Mapping[str, Any], found: Mapping[str, str | None], number: int) -> PassRate | None:
    """One row; None for a query without trials."""
    values = {field: value_at(row, column) if column else None for field, column in found.items()}
    numbers = {field: _number(where, found[field], values[field]) for field in ("pass_rate", "correct", "trials")}
    correct, trials, rate = numbers["correct"], numbers["trials"], numbers["pass_rate"]
    counts = None
    if trials and correct is not None:
        if not 0 <= correct <= trials or correct % 1 or trials % 1:
            raise RecordError(f"{where}: {correct:g} correct of {trials:g} trials: whole numbers, at most trials")
        counts, rate = (int(correct), int(trials)), correct / trials
    elif trials == 0 or rate is None:
        return None
    if not 0 <= rate <= 1:
        raise RecordError(f"{where}: a pass rate of {rate:g} is not between 0 and 1: correct it or delete the row")
    level = _LEVEL.fullmatch(str(values["level"]).strip())
    name = str(number) if values["name"] is None else str(values["name"])
    return PassRate(name, rate, counts, int(level[1]) if level else None, values["query"])


def _number(where: str, column: str | None, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RecordError(f"{where}: {column} is {value!r}, expected a number") from None

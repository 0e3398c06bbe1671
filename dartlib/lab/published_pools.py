"""The published pools ``dart-math-pool-*`` without a GPU: data sets cut from them.

Those pools (Parquet, MIT licence, on the Hub under hkust-nlp) hold the correct responses of all trials; how many trials
there were, and so the pass rates, are in the ``*-query-info`` files. Trial numbers are lost, so a quota takes the
first correct responses in the order of the files, and no stopping rule can be replayed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dartlib.records import RecordError, SftRow, read_schema
from dartlib.synthesis.allocation import prop2diff_quotas, uniform_quotas

_POOL = ("query_id", "query", "resp", "ans_correct", "query_metadata")
_INFO = ("query_id", "tot_n_samples", "tot_n_corrects", "pass_rate")


def cut_published_pool(
    strategy: str, pool: Sequence[Path], query_info: Sequence[Path], *, quota: int, source: str
) -> tuple[list[SftRow], pd.DataFrame]:
    """A data set like DART-Math-Uniform (``quota`` = k_u) or -Hard (``quota`` = k_p) from downloaded Parquet files.

    ``pool`` are the pool's files, in order; ``query_info`` its query-info files. Returns the rows (``trial`` counts
    the query's correct responses from 0, as trial numbers were not published) and per query: query_id, level,
    trials, pass_rate, quota, available, rows.

    Raises ValueError for ``vrt``, RecordError for a file without the published columns.
    """
    if strategy == "vrt":
        raise ValueError(
            "vrt cannot be cut from a published pool: it holds correct responses only, in unknown order among the "
            "wrong ones, so which of them are among the first n trials of a query is lost; sample with vrt instead"
        )
    if strategy not in ("uniform", "prop2diff"):
        raise ValueError(f"strategy {strategy!r}: choose uniform or prop2diff")
    info = _read_info(query_info)
    rates = {query_id: 1 - (row["pass_rate"] or 0.0) for query_id, row in info.items()}
    quotas = uniform_quotas(rates, k_u=quota) if strategy == "uniform" else prop2diff_quotas(rates, k_p=quota)
    rows: list[SftRow] = []
    available = dict.fromkeys(info, 0)
    levels: dict[str, int | None] = {}
    for path in pool:
        _check(path, _POOL)
        for batch in pq.ParquetFile(path).iter_batches(columns=list(_POOL)):
            kept, numbers = _choose(path, batch, quotas, available)
            for row, number in zip(batch.take(pa.array(kept, pa.int64())).to_pylist(), numbers, strict=True):
                rows.append(_to_sft(row, number, strategy, source, 1 - rates[row["query_id"]]))
                levels[row["query_id"]] = rows[-1].level
    return rows, _summary(info, quotas, available, levels)


def _read_info(paths: Sequence[Path]) -> dict[str, Mapping[str, Any]]:
    info: dict[str, Mapping[str, Any]] = {}
    for path in paths:
        _check(path, _INFO)
        info |= {row["query_id"]: row for row in pq.read_table(path, columns=list(_INFO)).to_pylist()}
    return info


def _check(path: Path, columns: Sequence[str]) -> None:
    found = read_schema(path).names
    for name in columns:
        if name not in found:
            raise RecordError(
                f"{path}: no column {name!r} (found: {', '.join(found)}): not a file of this published set"
            )


def _choose(
    path: Path, batch: pa.RecordBatch, quotas: Mapping[str, int], available: dict[str, int]
) -> tuple[list[int], list[int]]:
    """Places of the rows that fill quotas, and which correct response of its query each is; counts all of them."""
    kept, numbers = [], []
    flags = zip(batch.column("query_id").to_pylist(), batch.column("ans_correct").to_pylist(), strict=True)
    for place, (query_id, correct) in enumerate(flags):
        if query_id not in available:
            raise RecordError(f"{path}: query {query_id!r} is not in the query-info files: give the pool's own ones")
        if not correct:
            continue
        if available[query_id] < quotas[query_id]:
            kept.append(place)
            numbers.append(available[query_id])
        available[query_id] += 1
    return kept, numbers


def _to_sft(row: Mapping[str, Any], number: int, strategy: str, source: str, pass_rate: float) -> SftRow:
    level = (row["query_metadata"] or {}).get("level")  # GSM8K has n_step instead
    return SftRow(row["query"], row["resp"].strip(), row["query_id"], number, source, level, pass_rate, strategy)


def _summary(
    info: Mapping[str, Mapping[str, Any]],
    quotas: Mapping[str, int],
    available: Mapping[str, int],
    levels: Mapping[str, int | None],
) -> pd.DataFrame:
    table = [
        (query_id, levels.get(query_id), row["tot_n_samples"], row["pass_rate"], quotas[query_id], available[query_id])
        for query_id, row in info.items()
    ]
    frame = pd.DataFrame(table, columns=["query_id", "level", "trials", "pass_rate", "quota", "available"])
    return frame.assign(rows=frame[["quota", "available"]].min(axis=1))

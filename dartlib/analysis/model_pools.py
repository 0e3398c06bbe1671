"""Responses of several models to the same queries, without verdicts: graded here, then read like any other set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.inputs import AnalysisError
from dartlib.files import sha256_of, write_table_atomically
from dartlib.grading import GRADER_VERSION, GradingPool
from dartlib.queries.fields import QUERY_FIELDS, RESPONSE_FIELDS, read_fields
from dartlib.records import Query, RecordError, make_queries, read_schema

if TYPE_CHECKING:
    import pandas as pd

_FIELDS = {name: (RESPONSE_FIELDS | QUERY_FIELDS)[name] for name in ("query", "response", "reference_answer", "model")}


def grade_model_pool(
    files: Sequence[Path],
    target: Path,
    *,
    columns: Mapping[str, str] | None = None,
    level: int | None = None,
    workers: int = 2,
    log: Callable[[str], None] = print,
) -> list[Query]:
    """Grade the rows of several files into one Parquet file at ``target``; returns the queries they answer.

    Rows have query, response, reference_answer and model, or the ``columns`` named for them. ``target`` gets those
    fields, answer, verdict and reason, whole or not at all; nothing is graded again when it is there and was made from
    these files by this grader. All queries get ``level``. Raises RecordError.
    """
    import pyarrow as pa

    needed = [(name,) for name in _FIELDS]
    found = [pair for path in files for pair in read_fields(path, _FIELDS, required=needed, columns=columns or {})]
    rows = [(where, {name: cells[name].text(where) for name in _FIELDS}) for where, cells in found]
    known = {row["query"].strip(): row["reference_answer"] for _, row in rows}
    if disagree := [where for where, row in rows if known[row["query"].strip()] != row["reference_answer"]]:
        raise RecordError(f"{disagree[0]}: another reference_answer than elsewhere for the same query: correct one")
    queries = make_queries(
        ({"query": query, "reference_answer": answer, "answer_type": "expression", "level": level}
         for query, answer in known.items()),
        source=target.stem,
        version="1",
    )  # fmt: skip
    made_from = " ".join([GRADER_VERSION, str(columns or {}), *(sha256_of(path) for path in files)]).encode()
    if target.is_file() and (read_schema(target).metadata or {}).get(b"made_from") == made_from:
        return queries
    by_text = {query.query: query for query in queries}
    with GradingPool(workers) as pool:
        asked = [(by_text[row["query"].strip()], row["response"], "stop") for _, row in rows]
        grades = pool.grade_many(asked)
    graded: list[dict[str, Any]] = [
        row | {"answer": answer, "verdict": str(verdict), "reason": reason}
        for (_, row), (answer, verdict, reason) in zip(rows, grades, strict=True)
    ]
    log(f"{len(graded):,} responses of {len({row['model'] for row in graded})} models graded")
    table = pa.Table.from_pylist(graded).replace_schema_metadata({"made_from": made_from})
    write_table_atomically(target, table)
    return queries


def solver_table(pool: Path) -> pd.DataFrame:
    """Who solves what: one row per query, one column of 0/1 per model (best first), hardest query first.

    ``pool`` is what grade_model_pool wrote. The index is the query's text. Raises AnalysisError when a model answered
    a query twice or not at all.
    """
    import pandas as pd

    frame = pd.read_parquet(pool, columns=["query", "model", "verdict"])
    frame["solved"] = (frame["verdict"] == "correct").astype(int)
    if frame.duplicated(["query", "model"]).any():
        raise AnalysisError(f"{pool}: a model answered a query twice: give one response per model and query")
    wide = frame.pivot(index="query", columns="model", values="solved")
    if wide.isna().any(axis=None):
        raise AnalysisError(
            f"{pool}: {int(wide.isna().sum().sum())} responses are missing: every model answers every query"
        )
    wide = wide[wide.mean().sort_values(ascending=False).index].astype(int)
    return wide.loc[wide.sum(axis=1).sort_values(kind="stable").index]

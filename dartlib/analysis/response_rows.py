"""The rows of a set of responses, of any format, as one SQL view: which column is what, and what may be counted."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.inputs import AnalysisError
from dartlib.queries import column_names, read_rows, value_at
from dartlib.records import read_schema

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

# Field -> column names looked for, in this order; ``columns`` of read_responses comes before them.
FIELDS: dict[str, tuple[str, ...]] = {
    "query": ("query", "question", "problem", "instruction"),
    "response": ("response", "resp", "output", "completion"),
    "original_query": ("original_question",),  # what a rephrased query was made from
    "correct": ("correct", "is_correct", "ans_correct", "verdict"),
    "level": ("level",),
    "pass_rate": ("pass_rate",),
    "n_tokens": ("n_tokens",),
    "model": ("model",),
}
_TEXTS = ("query", "response", "original_query")
_NUMBERS = ("pass_rate", "n_tokens")
_RIGHT, _WRONG = ("true", "1", "1.0", "correct"), ("false", "0", "0.0", "wrong", "incorrect", "no_answer", "timeout")
REQUIRED = ("query", "response")
_LEVEL = r"^(?:[Ll]evel )?([1-5])(?:\.0)?$"
_MEMORY = "1GB"  # DuckDB spills to its temporary folder beyond this


def view_of(path: Path, columns: Mapping[str, str], part: str | None) -> str:
    """SQL for the file's rows under the names used here. Column names are quoted; values are parameters."""
    column = {name: _quoted(found) for name, found in columns.items()}
    correct, unjudged = "true", "false"
    if "correct" in column:
        verdict = f"coalesce(lower(CAST({column['correct']} AS VARCHAR)), '')"
        correct, unjudged = f"{verdict} IN {_RIGHT}", f"{verdict} NOT IN {_RIGHT + _WRONG}"
    level = f"regexp_extract(CAST({column.get('level')} AS VARCHAR), '{_LEVEL}', 1)"
    key = f"coalesce({column['original_query']}, {column['query']})" if "original_query" in column else column["query"]
    text = f"trim({key}, E' \\t\\n\\r')"
    no_query, no_response = f"coalesce({text}, '') = ''", f"coalesce({column['response']}, '') = ''"
    parts = {
        "place": "file_row_number",
        "key": text,
        "no_query": no_query,
        "no_response": no_response,
        "no_verdict": unjudged,
        "usable": f"NOT ({no_query} OR {no_response} OR {unjudged})",
        "rephrased": f"{key} <> {column['query']}" if "original_query" in column else "false",
        "response": column["response"],
        "characters": f"length({column['response']})",
        "text_code": f"hash({column['response']})",
        "correct": correct,
        "level": f"TRY_CAST({level} AS INTEGER)" if "level" in column else "NULL::INTEGER",
        "pass_rate": f"nullif(CAST({column['pass_rate']} AS DOUBLE), 'NaN'::DOUBLE)"
        if "pass_rate" in column
        else "NULL::DOUBLE",
        "model": f"CAST({column['model']} AS VARCHAR)" if "model" in column else "NULL::VARCHAR",
        "tokens": f"TRY_CAST({column['n_tokens']} AS BIGINT)" if "n_tokens" in column else "NULL::BIGINT",
    }
    listed = ", ".join(f"{sql} AS {name}" for name, sql in parts.items())
    where = f" WHERE {column['part']} = ?" if part is not None else ""
    return f"SELECT {listed} FROM read_parquet(?, file_row_number = true){where}"


def arguments_of(path: Path, part: str | None) -> list[Any]:
    return [str(path), *([part] if part is not None else [])]


def _quoted(column: str) -> str:
    return ".".join('"' + name.replace('"', '""') + '"' for name in column.split("."))


@contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that reads files, fetches nothing, and spills to a folder of its own."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="dartlib-duckdb-") as spill:
        options = {"memory_limit": _MEMORY, "temp_directory": spill, "autoinstall_known_extensions": "false"}
        with duckdb.connect(":memory:", config=options) as connection:
            yield connection


def run_sql(connection: duckdb.DuckDBPyConnection, path: Path, sql: str, arguments: list[Any]) -> pd.DataFrame:
    import duckdb

    try:
        return connection.execute(sql, arguments).df()
    except duckdb.Error as error:
        raise AnalysisError(
            f"{path}: cannot be counted ({str(error).splitlines()[0]}): write or fetch it again"
        ) from None


def check_parquet(path: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Field -> column of a Parquet file; AnalysisError for a missing, mistyped or unreadable one."""
    import pyarrow as pa

    if set("*?[") & set(str(path)):
        raise AnalysisError(f"{path}: rename it: the characters * ? [ in a path are wildcards")
    schema = read_schema(path)
    nested = {
        f"{item.name}.{sub.name}": sub.type for item in schema if pa.types.is_struct(item.type) for sub in item.type
    }
    types = {item.name: item.type for item in schema} | nested
    found = _find(path, list(types), wanted)
    for name in (name for name in (*_TEXTS, *_NUMBERS) if name in found):
        kind = types[found[name]]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind  # a categorical column of pandas
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        if not (number if name in _NUMBERS else text):
            wanted_kind = "numbers" if name in _NUMBERS else "text"
            raise AnalysisError(f"{path}: column {found[name]!r} is {kind}, expected {wanted_kind}: convert it")
    return found


def _find(path: Path, names: list[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    found = {}
    for name, candidates in wanted.items():
        column = next((candidate for candidate in candidates if candidate in names), None)
        if column is not None:
            found[name] = column
        elif name in REQUIRED or tuple(candidates) != FIELDS.get(name):
            raise AnalysisError(
                f"{path}: column {candidates[0]!r} is missing for {name} (found: {', '.join(names) or 'none'}): "
                f"name it with columns={{'{name}': '…'}}"
            )
    return found


def store_rows(path: Path, target: Path, wanted: Mapping[str, Sequence[str]]) -> tuple[Path, dict[str, str]]:
    """A text file's rows, checked one by one, as Parquet under this module's own column names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise AnalysisError(f"{path}: holds no responses: give one row per response, with its query")
    found = _find(path, column_names(first[1]), wanted)
    schema = pa.schema([(name, pa.string()) for name in found])
    with pq.ParquetWriter(target, schema) as writer:
        batch: list[dict[str, str | None]] = []
        for place, row in (pair for part in ([first], rows) for pair in part):
            batch.append({name: _cell(f"{path}, {place}", row, name, column) for name, column in found.items()})
            if len(batch) == 4096:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema))
    return target, {name: name for name in found}


def _cell(where: str, row: Mapping[str, Any], name: str, column: str) -> str | None:
    value = value_at(row, column)
    if name in REQUIRED and column not in column_names(row):
        raise AnalysisError(f"{where}: {column} is missing: every row needs its query and its response")
    if name in _NUMBERS:
        return _number(f"{where}: {column}", name, value)
    if value is None or isinstance(value, str):
        return value
    if name in _TEXTS or not isinstance(value, bool | int | float):
        raise AnalysisError(f"{where}: {column} is {type(value).__name__}, expected text: convert the row or delete it")
    return str(value)


def _number(where: str, name: str, value: Any) -> str | None:
    """A number as text; None for an empty cell."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise AnalysisError(f"{where} is {value!r}, expected a number: convert it or leave it empty") from None
    if not 0 <= number <= (1 if name == "pass_rate" else math.inf):
        wanted = "between 0 and 1" if name == "pass_rate" else "a number of tokens"
        raise AnalysisError(f"{where} is {number:g}, not {wanted}: correct it or leave it empty")
    return str(number)

"""The rows of a set of responses, of any format, as one SQL view: which column is what, and what may be counted."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.inputs import AnalysisError
from dartlib.queries.fields import RIGHT, WRONG, Cell
from dartlib.records import read_schema

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_TEXTS = ("query", "response", "original_query")
_NUMBERS = ("pass_rate", "n_tokens")
_LEVEL = r"^(?:[Ll]evel )?([1-5])(?:\.0)?$"
_MEMORY = "1GB"  # DuckDB spills to its temporary folder beyond this


def view_of(path: Path, columns: Mapping[str, Sequence[str]], part: str | None) -> str:
    """SQL for the file's rows under the names used here. Column names are quoted; values are parameters."""
    column = {name: _first_of(found) for name, found in columns.items()}
    correct, unjudged = "true", "false"
    if "correct" in column:
        verdict = f"coalesce(lower(CAST({column['correct']} AS VARCHAR)), '')"
        correct, unjudged = f"{verdict} IN {RIGHT}", f"{verdict} NOT IN {RIGHT + WRONG}"
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


def _first_of(columns: Sequence[str]) -> str:
    """SQL for the first of some columns that holds a value in a row."""
    quoted = [".".join('"' + name.replace('"', '""') + '"' for name in column.split(".")) for column in columns]
    return quoted[0] if len(quoted) == 1 else f"coalesce({', '.join(f'CAST({each} AS VARCHAR)' for each in quoted)})"


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


def plain_columns(path: Path, wanted: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]] | None:
    """Field -> its columns of a Parquet file, if SQL can read them as they are; None: its rows must be looked at.

    Raises AnalysisError for a path that DuckDB would take for several, RecordError for an unreadable file.
    """
    import pyarrow as pa

    if set("*?[") & set(str(path)):
        raise AnalysisError(f"{path}: rename it: the characters * ? [ in a path are wildcards")
    schema = read_schema(path)
    nested = {
        f"{item.name}.{sub.name}": sub.type for item in schema if pa.types.is_struct(item.type) for sub in item.type
    }
    types = {item.name: item.type for item in schema} | nested
    plain = {name for name, kind in types.items() if not pa.types.is_nested(kind)}
    found = {name: tuple(column for column in columns if column in plain) for name, columns in wanted.items()}
    found = {name: columns for name, columns in found.items() if columns}
    if not {"query", "response"} <= set(found):
        return None
    for name, columns in found.items():
        for kind in (types[column] for column in columns):
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind  # a categorical column of pandas
            text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
            number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
            if not (number if name in _NUMBERS else text or name not in _TEXTS):
                return None
    return found


def store_rows(
    rows: Iterable[tuple[str, Mapping[str, Cell]]], target: Path, fields: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Rows of read_fields, checked one by one, as Parquet under this module's own column names; the fields found."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, seen = pa.schema([(name, pa.string()) for name in fields]), {"query", "response"}
    with pq.ParquetWriter(target, schema) as writer:
        batch: list[dict[str, str | None]] = []
        for where, cells in rows:
            seen.update(cells)
            batch.append({name: _value(where, name, cell) for name, cell in cells.items()})
            if len(batch) == 4096:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema))
    return {name: (name,) for name in fields if name in seen}


def _value(where: str, name: str, cell: Cell) -> str | None:
    if name in _NUMBERS:
        return _number(f"{where}: {cell.column}", name, cell.value)
    if cell.value is None or isinstance(cell.value, str):
        return cell.value
    if name in _TEXTS or not isinstance(cell.value, bool | int | float):
        kind = type(cell.value).__name__
        raise AnalysisError(f"{where}: {cell.column} is {kind}, expected text: convert the row or delete it")
    return str(cell.value)


def _number(where: str, name: str, value: Any) -> str | None:
    """A number as text; None for an empty cell."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise AnalysisError(
            f"{where} is {str(value)[:40]!r}, expected a number: correct it or leave it empty"
        ) from None
    if not 0 <= number < math.inf or (name == "pass_rate" and number > 1):
        wanted = "between 0 and 1" if name == "pass_rate" else "a number of tokens"
        raise AnalysisError(f"{where} is {number:g}, not {wanted}: correct it or leave it empty")
    return str(number)

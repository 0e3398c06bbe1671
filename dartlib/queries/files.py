"""Rows of a file of problems or responses: JSONL, JSON (a list of objects), CSV or Parquet, one at a time.

JSONL, CSV and Parquet are streamed. Whatever cannot be read is a RecordError with file, line or row, and the fix.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dartlib.records import RecordError

FORMATS = (".jsonl", ".json", ".csv", ".parquet")
_LONGEST_FIELD = 2**31 - 1  # csv's own limit of 128 kB would refuse a long response

Row = tuple[str, Mapping[str, Any]]  # where it stands ("line 3"), column -> value


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of a file with the place it stands at. Raises RecordError at the first row that cannot be read."""
    if path.suffix not in FORMATS:
        raise RecordError(f"{path}: unknown kind of file: use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    yield from {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[path.suffix](
        path
    )


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column; ``a.b`` is field b of the structure a. None where any part is missing."""
    value: Any = row
    for part in [column] if column in row else column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def column_names(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row, those of structures also as ``a.b``."""
    nested = [f"{name}.{part}" for name, value in row.items() if isinstance(value, Mapping) for part in value]
    return [*row, *nested]


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ends, decoded one by one, so that a wrong byte has a line number."""
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise RecordError(f"{path}, line {number}: not UTF-8 text: save the file as UTF-8") from None


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield f"line {number}", _object(f"{path}, line {number}", _parse_json(f"{path}, line {number}", line))


def _json_rows(path: Path) -> Iterator[Row]:
    text = "".join(_lines(path))
    values = _parse_json(str(path), text) if text.strip() else []
    if not isinstance(values, list):
        raise RecordError(f"{path}: must hold a list of objects, one per problem")
    for number, value in enumerate(values, start=1):
        yield f"row {number}", _object(f"{path}, row {number}", value)


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(_lines(path), strict=True)
    try:
        for row in reader:
            if None in row:
                raise RecordError(f"{path}, line {reader.line_num}: more fields than columns: quote texts with commas")
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise RecordError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pa.ArrowException, OSError) as error:
        after = f" after row {number}" if number else ""
        raise RecordError(f"{path}: not a readable Parquet file{after}, perhaps cut short ({error})") from None


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"{where}: invalid JSON ({error})") from None


def _object(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f'{where}: expected an object such as {{"query": "…", "reference_answer": "…"}}')
    return value

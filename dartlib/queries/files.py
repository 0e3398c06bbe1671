"""Rows of a file of problems or responses: JSONL, JSON (a list of objects), CSV or Parquet, one at a time.

JSONL, CSV and Parquet are streamed. Whatever cannot be read is a RecordError with file, line or row, and the fix.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartlib.records import RecordError

FORMATS = (".jsonl", ".json", ".csv", ".parquet")
_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # JSON's spelling of a surrogate, one half of a pair
_LONGEST_FIELD = 2**31 - 1  # csv's own limit of 128 kB would refuse a long response

Row = tuple[str, Mapping[str, Any]]  # where it stands ("line 3"), column -> value


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of a file with the place it stands at. Raises RecordError at the first row that cannot be read."""
    kind = path.suffix.lower()
    if path.is_dir():
        raise RecordError(f"{path}: is a folder: name one file in it")
    if kind not in FORMATS:
        packed = "unpack it first" if kind in _PACKED else f"use one of {', '.join(FORMATS)}"
        raise RecordError(f"{path}: unknown kind of file: {packed}")
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    try:
        yield from {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[kind](
            path
        )
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error})") from None


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column; ``a.b`` is field b of the structure a. None where any part is missing, also as NaN."""
    value: Any = row
    for part in [column] if column in row else column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if isinstance(value, float) and math.isnan(value) else value


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
                if number == 1 and line.startswith(b"\x1f\x8b"):
                    raise RecordError(f"{path}: compressed by gzip: unpack it first") from None
                raise RecordError(f"{path}, line {number}: not UTF-8 text: save the file as UTF-8") from None


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            value = _object(where, _parse_json(where, line.rstrip("\r\n")))
            if _HALF.search(line):
                _check_characters(where, value)
            yield f"line {number}", value


def _json_rows(path: Path) -> Iterator[Row]:
    text = "".join(_lines(path))
    values = _parse_json(str(path), text) if text.strip() else []
    if not isinstance(values, list):
        raise RecordError(f"{path}: holds no list: write a list of objects, one per row")
    halves = _HALF.search(text)
    for number, value in enumerate(values, start=1):
        if halves:
            _check_characters(f"{path}, row {number}", value)
        yield f"row {number}", _object(f"{path}, row {number}", value)


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(_lines(path), strict=True)
    before = 0
    try:
        _check_header(path, reader.fieldnames or [])
        before = reader.line_num
        for row in reader:
            first, before = before + 1, reader.line_num
            place = f"line {before}" if first == before else f"lines {first}-{before}"
            if None in row:
                raise RecordError(f"{path}, {place}: more fields than columns: quote texts with commas")
            yield place, row
    except csv.Error as error:
        raise RecordError(f"{path}, line {before + 1} or later: not valid CSV ({error}): close every quote") from None


def _check_header(path: Path, names: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise RecordError(f"{path}, line 1: column {twice[0]!r} occurs twice: rename one")
    if len(names) == 1 and (mark := next((mark for mark in ";\t" if mark in names[0]), "")):
        raise RecordError(f"{path}, line 1: columns are separated by {mark!r}: save the file with commas")


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
        raise RecordError(
            f"{path}: not a readable Parquet file{after}, perhaps cut short ({error}): write or fetch it again"
        ) from None


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"column {error.colno}" if error.lineno == 1 or ", line " in where else f"line {error.lineno}"
        raise RecordError(f"{where}: invalid JSON at {at} ({error.msg}): correct it or delete the row") from None
    except RecursionError:
        raise RecordError(f"{where}: invalid JSON (nested too deep): correct it or delete the row") from None


def _check_characters(where: str, value: Any) -> None:
    """Half of a surrogate pair, which JSON can spell, is no character: nothing could store it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise RecordError(f"{where}: {half} is half a character: write the whole one or delete it") from None


def _object(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f'{where}: expected an object such as {{"query": "…", "reference_answer": "…"}}')
    return value

"""Rows of a file of problems or responses: JSONL, JSON (a list of objects), CSV or Parquet, one at a time.

JSONL, CSV and Parquet are streamed. Whatever cannot be read is a RecordError with file, line or row, and the fix.
Which column of a row is what, `fields` says.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartlib.queries.chat import chat_columns
from dartlib.records import RecordError

FORMATS = {".jsonl": "JSON Lines", ".json": "a JSON list", ".csv": "CSV", ".parquet": "Parquet"}
_PACKED = {b"\x1f\x8b": ".gz", b"PK\x03\x04": ".zip", b"BZh": ".bz2", b"\xfd7zXZ": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
_SNIFFED = 1 << 16  # bytes looked at to tell what a file holds
_HEADER = re.compile(r'"?[\w .-]+"?(,"?[\w .-]+"?)+')
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # JSON's spelling of a surrogate, one half of a pair
_LONGEST_FIELD = 2**31 - 1  # csv's own limit of 128 kB would refuse a long response

Row = tuple[str, Mapping[str, Any]]  # where it stands ("line 3"), column -> value


def read_rows(path: Path) -> Iterator[Row]:
    """Every row of a file with the place it stands at. Raises RecordError at the first row that cannot be read.

    A row with a conversation has its question and its answer also as ``chat_query`` and ``chat_response``.
    """
    readers = {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    try:
        for place, row in readers[file_ending(path)](path):
            yield place, {**row, **chat_columns(row)}
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror or error})") from None


def file_ending(path: Path) -> str:
    """The ending (".jsonl") of a file that holds what it says; RecordError tells whether to rename or to unpack it."""
    if path.is_dir():
        raise RecordError(f"{path}: is a folder: name one file in it")
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    ending = path.suffix.lower()
    with open(path, "rb") as handle:
        head = handle.read(_SNIFFED)
    packed = next((kind for mark, kind in _PACKED.items() if head.startswith(mark)), None)
    if packed and ending in (*FORMATS, *_PACKED.values()):
        raise RecordError(f"{path}: is compressed ({packed}): unpack it first")
    if (held := _ending_of(head, ending)) != ending:
        if held not in FORMATS:
            raise RecordError(f"{path}: unknown kind of file: use one of {', '.join(FORMATS)}")
        stem = Path(path.stem)
        name = stem if stem.suffix.lower() == held else path.with_suffix(held)
        raise RecordError(f"{path}: holds {FORMATS[held]}: rename it to {name.name}")
    return ending


def _ending_of(head: bytes, named: str) -> str:
    """The ending that fits a file's first bytes: the one it has, unless they clearly say another."""
    if head.startswith(b"PAR1"):
        return ".parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").strip()
    first, _, rest = text.partition("\n")
    if text.startswith("{"):
        lines = first.rstrip().endswith("}") and rest.lstrip().startswith("{")
        return ".jsonl" if lines or named != ".json" else named
    if text.startswith("["):  # not: a list on every line
        return named if first.rstrip().endswith("]") and rest.lstrip().startswith("[") else ".json"
    return ".csv" if _HEADER.fullmatch(first.rstrip()) else named if named in FORMATS else ""


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
    except (RecursionError, ValueError) as error:  # ValueError: a whole number of thousands of digits
        why = "nested too deep" if isinstance(error, RecursionError) else "a number with too many digits"
        raise RecordError(f"{where}: invalid JSON ({why}): correct it or delete the row") from None


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

"""Files of own problems: JSONL, JSON (a list of objects), CSV or Parquet, checked row by row.

A file needs a question and a reference answer per row; everything else is optional. Whatever is wrong is
reported with file, line or row, field and the fix, before anything is sampled.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dartlib.queries.ladder import LADDERS, build_ladder
from dartlib.records import Query, RecordError, make_queries

# Field -> column names looked for, in this order; ``columns`` of read_queries comes before them.
COLUMNS: dict[str, tuple[str, ...]] = {
    "query": ("query", "question", "problem"),
    "reference_answer": ("reference_answer", "answer"),
    "level": ("level",),
    "domain": ("domain", "type"),
    "answer_type": ("answer_type",),
    "tolerance": ("tolerance",),
    "id": ("query_id", "id"),
}
REQUIRED = ("query", "reference_answer")
FORMATS = (".jsonl", ".json", ".csv", ".parquet")
_PLAIN_NUMBER = re.compile(r"[$]?[+-]?[$]?(\d[\d,]*(\.\d*)?|\.\d+)")

Row = tuple[str, Mapping[str, Any]]  # where it stands ("line 3"), column -> value


def load_queries(source: str, *, split: str, queries_per_level: int, seed: int) -> list[Query]:
    """Queries of a ladder named ``ladder-<name>``, or of a file by its path (read whole: it has no splits)."""
    name = source.removeprefix("ladder-")
    if name in LADDERS and name != source:
        return build_ladder(ladder=name, split=split, queries_per_level=queries_per_level, seed=seed)
    if not Path(source).is_file():
        ladders = ", ".join(f"ladder-{ladder}" for ladder in LADDERS)
        raise RecordError(f"{source}: no such file, and not a built-in ladder ({ladders})")
    return read_queries(Path(source))


def read_queries(
    path: Path | str,
    *,
    source: str | None = None,
    columns: Mapping[str, str] | None = None,
    log: Callable[[str], None] = print,
) -> list[Query]:
    """All problems of one file as queries; ``source`` defaults to the file's name without its ending.

    ``columns`` maps a field (query, reference_answer, level, domain, answer_type, tolerance, id) to the file's
    column. A GSM8K-style reference ("… #### 42") is what follows the marks. ``level`` may read 3 or "Level 3";
    an unknown one ("Level ?") becomes None, and ``log`` tells how many. Raises RecordError.
    """
    path = Path(path)
    rows = list(_read_rows(path))
    if not rows:
        raise RecordError(f"{path}: holds no problems: write one per row, with a question and its answer")
    names = _find_columns(path, list(dict.fromkeys(name for _, row in rows for name in row)), columns or {})
    _check_ids(path, rows, names.get("id"))
    records = [_to_record(f"{path}, {place}", row, names) for place, row in rows]
    if "level" in names and (unknown := sum(record["level"] is None for record in records)):
        log(f"{path}: {unknown} of {len(records)} problems have no known level")
    return make_queries(records, source=source or path.stem, version="1")


def _read_rows(path: Path) -> Iterator[Row]:
    if path.suffix not in FORMATS:
        raise RecordError(f"{path}: unknown kind of file: use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    else:
        text = _read_text(path)
        yield from {".jsonl": _jsonl_rows, ".json": _json_rows, ".csv": _csv_rows}[path.suffix](path, text)


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecordError(f"{path}, line {line}: not UTF-8 text: save the file as UTF-8") from None


def _jsonl_rows(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", _object(f"{path}, line {number}", _parse_json(f"{path}, line {number}", line))


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    values = _parse_json(str(path), text) if text.strip() else []
    if not isinstance(values, list):
        raise RecordError(f"{path}: must hold a list of objects, one per problem")
    for number, value in enumerate(values, start=1):
        yield f"row {number}", _object(f"{path}, row {number}", value)


def _csv_rows(path: Path, text: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
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

    try:
        values = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RecordError(f"{path}: not a readable Parquet file, perhaps cut short ({error})") from None
    for number, value in enumerate(values, start=1):
        yield f"row {number}", value


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"{where}: invalid JSON ({error})") from None


def _object(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f'{where}: expected an object such as {{"query": "…", "reference_answer": "…"}}')
    return value


def _find_columns(path: Path, found: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """Field -> column of this file; RecordError names a missing column and lists what was found."""
    if unknown := set(given) - set(COLUMNS):
        raise RecordError(f"columns: unknown field {sorted(unknown)[0]!r}: choose among {', '.join(COLUMNS)}")
    names = {}
    for field, candidates in COLUMNS.items():
        wanted = (given[field],) if field in given else candidates
        column = next((name for name in wanted if name in found), None)
        if column is not None:
            names[field] = column
        elif field in REQUIRED or field in given:
            raise RecordError(
                f"{path}: no column {' or '.join(wanted)} for {field} (found: {', '.join(found)}): "
                f"rename one, or name it with columns={{'{field}': '…'}}"
            )
    return names


def _check_ids(path: Path, rows: list[Row], column: str | None) -> None:
    """Explicit ids are kept as metadata; two rows with one id mean that the file was joined wrongly."""
    if column is None:
        return
    counts = Counter(str(row[column]) for _, row in rows if row.get(column) is not None)
    for identity, count in counts.items():
        if count > 1:
            places = [place for place, row in rows if str(row.get(column)) == identity]
            raise RecordError(
                f"{path}, {places[1]}: {column} {identity!r} was already used on {places[0]}: make it unique"
            )


def _to_record(where: str, row: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The fields of one query; RecordError when one cannot be read."""
    values = {field: row.get(column) for field, column in names.items()}
    reference = _text(where, names["reference_answer"], values["reference_answer"]).rpartition("####")[2].strip()
    if not reference:
        raise RecordError(f"{where}: {names['reference_answer']} is empty: every query needs a reference answer")
    query = _text(where, names["query"], values["query"])
    if not query:
        raise RecordError(f"{where}: {names['query']} is empty: give the question or delete the row")
    record: dict[str, Any] = {"query": query, "reference_answer": reference}
    record["level"] = _level(where, values.get("level"))
    record["tolerance"] = _tolerance(where, values.get("tolerance"))
    guessed = "number" if _PLAIN_NUMBER.fullmatch(reference) else "expression"
    record["answer_type"] = _text(where, "answer_type", values.get("answer_type")) or guessed
    record["domain"] = _text(where, "domain", values.get("domain")) or None
    if values.get("id") is not None:
        record["metadata"] = json.dumps({"id": str(values["id"])})
    return record


def _text(where: str, column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RecordError(f"{where}: {column} must be text or a number, not {type(value).__name__}")
    return str(value).strip()


def _level(where: str, value: Any) -> int | None:
    text = _text(where, "level", value).lower().removeprefix("level").strip()
    if text in ("", "?", "nan"):
        return None
    if not re.fullmatch(r"[1-5](\.0*)?", text):
        raise RecordError(f"{where}: level {value!r} is not 1 to 5: give 1 (easy) to 5 (hard), or leave it empty")
    return int(text[0])


def _tolerance(where: str, value: Any) -> float | None:
    text = _text(where, "tolerance", value)
    if text in ("", "nan"):
        return None
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise RecordError(f"{where}: tolerance {value!r} is not a number of at least 0")
    return tolerance

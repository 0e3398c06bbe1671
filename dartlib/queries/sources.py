"""Queries from files: own problems, and the known sets of the catalogue, checked row by row.

A file needs a question and a reference answer per row; everything else is optional. Whatever is wrong is
reported with file, line or row, field and the fix, before anything is sampled.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from dartlib.files import find_path
from dartlib.queries.catalogue import Source, get_source, load_catalogue
from dartlib.queries.files import Row, column_names, read_rows, value_at
from dartlib.queries.hub import find_source
from dartlib.queries.ladder import LADDERS, build_ladder
from dartlib.records import Query, RecordError, make_queries

# Field -> column names looked for, in this order; ``columns`` of read_queries comes before them.
COLUMNS: dict[str, tuple[str, ...]] = {
    "query": ("query", "question", "problem"),
    "reference_answer": ("reference_answer", "answer"),
    "solution": ("solution",),  # its last \boxed{…} is the reference where there is no column of answers
    "level": ("level",),
    "domain": ("domain", "type"),
    "answer_type": ("answer_type",),
    "tolerance": ("tolerance",),
    "id": ("query_id", "id"),
}
_PLAIN_NUMBER = re.compile(r"[$]?[+-]?[$]?(\d[\d,]*(\.\d*)?|\.\d+)")


def load_queries(
    source: str, *, split: str, queries_per_level: int, seed: int, log: Callable[[str], None] = print
) -> list[Query]:
    """Queries of a ladder named ``ladder-<name>``, of a known set of the catalogue, or of a file by its path.

    Sets and files are read whole: ``split``, ``queries_per_level`` and ``seed`` are for ladders.
    """
    name = source.removeprefix("ladder-")
    if name in LADDERS and name != source:
        return build_ladder(ladder=name, split=split, queries_per_level=queries_per_level, seed=seed)
    if source in load_catalogue():
        return load_known_queries(source, log=log)
    try:
        path = find_path(source, log)
    except FileNotFoundError as error:
        ladders = ", ".join(f"ladder-{ladder}" for ladder in LADDERS)
        known = [name for name, known in load_catalogue().items() if known.kind in ("queries", "benchmark")]
        raise RecordError(
            f"{error}, not a built-in ladder ({ladders}) and not a known data set ({', '.join(known)})"
        ) from None
    return read_queries(path, log=log)


def load_known_queries(name: str, *, log: Callable[[str], None] = print) -> list[Query]:
    """The queries of a known set: from the data folder, else from the Hub.

    A benchmark of another size than the published one, or with another number of repeated questions, is an error:
    scores on it could not be compared. A training set of another size is reported through ``log``.
    """
    source = get_source(name)
    if source.kind not in ("queries", "benchmark"):
        raise RecordError(f"{name}: holds {source.kind}, not queries with reference answers")
    path = find_source(source, log)
    queries = read_queries(path, source=source, log=log)
    repeats = sum(count > 1 for count in Counter(query.query for query in queries).values())
    if repeats:
        log(f"{name}: {repeats} of its questions are asked more than once; each occurrence is a query of its own")
    wrong = source.rows is not None and len(queries) != source.rows
    if source.kind == "benchmark" and (wrong or repeats != source.repeats):
        raise RecordError(
            f"{path}: {len(queries)} questions, {repeats} of them repeated; {name} has {source.rows} and "
            f"{source.repeats}: fetch it again with `dartlib prefetch {name}`"
        )
    if wrong:
        log(f"{name}: {len(queries):,} of its {source.rows:,} queries are in {path.name}")
    return queries


def read_queries(
    path: Path | str,
    *,
    source: str | Source | None = None,
    columns: Mapping[str, str] | None = None,
    log: Callable[[str], None] = print,
) -> list[Query]:
    """All problems of one file as queries; ``source`` names them and defaults to the file's name without its ending.

    ``columns`` maps a field (query, reference_answer, solution, level, domain, answer_type, tolerance, id) to the
    file's column; with a catalogue entry as ``source`` its columns and rules hold. A GSM8K-style reference
    ("… #### 42") is what follows the marks. ``level`` may read 3 or "Level 3"; an unknown one ("Level ?") becomes
    None. ``log`` tells how many; rows of a catalogue entry without a reference are left out and told as well, in an
    own file they are an error. Raises RecordError.
    """
    path = Path(path)
    known = source if isinstance(source, Source) else None
    rows = list(read_rows(path))
    if not rows:
        raise RecordError(f"{path}: holds no problems: write one per row, with a question and its answer")
    candidates = known.columns if known else _candidates(columns or {})
    names = _find_columns(path, list(dict.fromkeys(name for _, row in rows for name in column_names(row))), candidates)
    _check_ids(path, rows, names.get("id"))
    if known:
        unanswered = [place for place, row in rows if not _reference("", row, names, known)]
        if unanswered:
            log(f"{path}: {len(unanswered)} of {len(rows)} rows left out: no reference answer ({unanswered[0]} …)")
        rows = [(place, row) for place, row in rows if _reference("", row, names, known)]
    records = [_to_record(f"{path}, {place}", row, names, known) for place, row in rows]
    if "level" in names and (unknown := sum(record["level"] is None for record in records)):
        log(f"{path}: {unknown} of {len(records)} problems have no known level")
    name, version = (known.name, known.version) if known else (str(source or path.stem), "1")
    return make_queries(records, source=name, version=version)


def _candidates(given: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    if unknown := set(given) - set(COLUMNS):
        raise RecordError(f"columns: unknown field {sorted(unknown)[0]!r}: choose among {', '.join(COLUMNS)}")
    return {**COLUMNS, **{field: (column,) for field, column in given.items()}}


def _find_columns(path: Path, found: list[str], candidates: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Field -> column of this file; RecordError names a missing column and lists what was found.

    A column named on purpose must be there; of several candidates the first one found is taken.
    """
    names = {}
    for field, wanted in candidates.items():
        if (column := next((name for name in wanted if name in found), None)) is not None:
            names[field] = column
    for field, wanted in candidates.items():
        required = field == "query" or (field == "reference_answer" and "solution" not in names)
        named = field in COLUMNS and len(wanted) == 1 and tuple(wanted) != COLUMNS[field]
        if field not in names and (required or (named and field != "solution")):
            raise RecordError(
                f"{path}: no column {' or '.join(wanted)} for {field} (found: {', '.join(found)}): "
                f"rename one, or name it with columns={{'{field}': '…'}}"
            )
    return names


def _check_ids(path: Path, rows: list[Row], column: str | None) -> None:
    """Explicit ids are kept as metadata; two rows with one id mean that the file was joined wrongly."""
    if column is None:
        return
    first: dict[str, str] = {}
    for place, row in rows:
        if (value := value_at(row, column)) is None:
            continue
        if str(value) in first:
            raise RecordError(
                f"{path}, {place}: {column} {str(value)!r} was already used on {first[str(value)]}: make it unique"
            )
        first[str(value)] = place


def _to_record(where: str, row: Mapping[str, Any], names: Mapping[str, str], known: Source | None) -> dict[str, Any]:
    """The fields of one query; RecordError when one cannot be read."""
    values = {field: value_at(row, column) for field, column in names.items()}
    reference = _reference(where, row, names, known)
    if not reference:
        column = names.get("reference_answer")
        lack = f"{column} is empty" if column else f"{names['solution']} has no \\boxed{{…}}"
        raise RecordError(f"{where}: {lack}: every query needs a reference answer: give it or delete the row")
    query = _text(where, names["query"], values["query"])
    if not query:
        raise RecordError(f"{where}: {names['query']} is empty: give the question or delete the row")
    record: dict[str, Any] = {"query": query, "reference_answer": reference}
    record["level"] = _level(where, values.get("level"))
    record["domain"] = _text(where, "domain", values.get("domain")) or None
    stated = _text(where, "answer_type", values.get("answer_type"))
    record["answer_type"] = stated or _guess_type(reference)
    record["tolerance"] = _tolerance(where, values.get("tolerance"))
    if known:
        record |= _by_rules(known, record, stated, several=values.get("several") is True)
    if values.get("id") is not None:
        record["metadata"] = json.dumps({"id": str(values["id"])})
    return record


def _by_rules(known: Source, record: Mapping[str, Any], stated: str, several: bool) -> dict[str, Any]:
    """What the catalogue says about this row's level, answer type and tolerance."""
    digest = hashlib.sha256(record["query"].encode()).hexdigest()[:16]
    level = known.levels.get(digest) if record["level"] is None else record["level"]
    kind = known.answer_types.get(stated, "expression") if stated else record["answer_type"]
    tolerance = record["tolerance"]
    if tolerance is None and kind == "number":
        tolerance = known.number_tolerance
    if stated in known.rounded:
        tolerance = _half_of_last_digit(record["reference_answer"])
    return {"level": level, "answer_type": "set" if several else kind, "tolerance": tolerance}


def _reference(where: str, row: Mapping[str, Any], names: Mapping[str, str], known: Source | None) -> str:
    """The reference answer of a row, empty when it has none."""
    text = ""
    if "reference_answer" in names:
        value = value_at(row, names["reference_answer"])
        plain = _as_text(value) if known else value
        text = _text(where, names["reference_answer"], plain).rpartition("####")[2].strip()
    if not text and "solution" in names:
        text = last_boxed(_text(where, names["solution"], value_at(row, names["solution"])))
    return text


def _as_text(value: Any) -> Any:
    """Published references that are lists or truth values: ["3"] reads 3, [1, 2] reads [1, 2]."""
    if isinstance(value, list):
        return ", ".join(value) if value and all(isinstance(part, str) for part in value) else json.dumps(value)
    return str(value) if isinstance(value, bool) else value


def last_boxed(text: str) -> str:
    """The content of the last ``\\boxed`` (or ``\\fbox``) of a solution, braces balanced; empty when there is none."""
    *_, rest = ["", *re.split(r"\\(?:boxed|fbox)\s*", text)[1:]]
    depth = 0
    if not rest.startswith("{"):
        return rest[:1].strip() if not rest.startswith("\\") else ""
    for place, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:place].strip()
    return ""


def _guess_type(reference: str) -> str:
    return "number" if _PLAIN_NUMBER.fullmatch(reference) else "expression"


def _half_of_last_digit(reference: str) -> float | None:
    """1.42 stands for 1.415 to 1.425: 0.005. None for whole numbers, which are exact."""
    try:
        number = Decimal(reference)
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or number == number.to_integral_value():
        return None
    return float(Decimal(5).scaleb(exponent - 1))


def _text(where: str, column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RecordError(f"{where}: {column} must be text or a number, not {type(value).__name__}: convert it")
    return str(value).strip()


def _level(where: str, value: Any) -> int | None:
    text = _text(where, "level", value).lower().removeprefix("level").strip()
    if text in ("", "?", "nan", "0", "0.0"):  # a mirror of MATH writes 0 where the original says "Level ?"
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

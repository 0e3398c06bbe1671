"""Queries from files: own problems, and the known sets of the catalogue, checked row by row.

A file needs a question and a reference answer per row; everything else is optional. Whatever is wrong is
reported with file, line or row, field and the fix, before anything is sampled.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from dartlib.boxes import reference_in
from dartlib.files import find_path, text_digest
from dartlib.queries.benchmarks import choose_queries
from dartlib.queries.catalogue import Source, get_source, load_catalogue
from dartlib.queries.fields import QUERY_FIELDS, Cell, read_fields, read_level
from dartlib.queries.hub import find_source
from dartlib.queries.joining import normalise_text
from dartlib.queries.ladder import LADDERS, build_ladder
from dartlib.records import Query, RecordError, make_queries

_PLAIN_NUMBER = re.compile(r"[$]?[+-]?[$]?(\d[\d,]*(\.\d*)?|\.\d+)")


def load_queries(
    source: str,
    *,
    split: str,
    queries_per_level: int,
    seed: int,
    columns: Mapping[str, str] | None = None,
    log: Callable[[str], None] = print,
) -> list[Query]:
    """Queries of a ladder named ``ladder-<name>``, of known sets of the catalogue, or of a file by its path.

    Several sets stand with commas between them; ``math-train:20`` draws 20 of a set's queries by ``seed``.
    Sets and files are read whole: ``queries_per_level`` and ``seed`` are for ladders, ``columns`` (as in read_queries)
    for files. A problem that a file repeats is asked once, unless ``split`` is "test": a benchmark counts it as often
    as it stands there.
    """
    name = source.removeprefix("ladder-")
    if name in LADDERS and name != source:
        return build_ladder(ladder=name, split=split, queries_per_level=queries_per_level, seed=seed)
    if parts := known_sets(source):
        loaded = [(load_known_queries(set_name, log=log), count) for set_name, count in parts]
        return [query for queries, count in loaded for query in choose_queries(queries, count, seed)]
    try:
        path = find_path(source, log)
    except FileNotFoundError as error:
        ladders = ", ".join(f"ladder-{ladder}" for ladder in LADDERS)
        known = [name for name, known in load_catalogue().items() if known.kind in ("queries", "benchmark")]
        raise RecordError(
            f"{error}, not a built-in ladder ({ladders}) and not a known data set ({', '.join(known)})"
        ) from None
    return read_queries(path, columns=columns, keep_repeats=split == "test", log=log)


def known_sets(source: str) -> list[tuple[str, int]]:
    """The sets that a text such as ``math-train:20,gsm8k-train`` names, with how many queries (0: all); else none."""
    parts = [part.strip().partition(":") for part in source.split(",")]
    known = all(name in load_catalogue() and (not colon or count.isdecimal()) for name, colon, count in parts)
    once = len({name for name, *_ in parts}) == len(parts)
    return [(name, int(count or 0)) for name, _, count in parts] if known and once else []


def load_known_queries(name: str, *, log: Callable[[str], None] = print) -> list[Query]:
    """The queries of a known set: from the data folder, else from the Hub.

    A benchmark of another size than the published one, or with another number of repeated questions, is an error:
    scores on it could not be compared. A training set of another size is reported through ``log``.
    """
    source = get_source(name)
    if source.kind not in ("queries", "benchmark"):
        raise RecordError(f"{name}: holds {source.kind}, not queries with reference answers")
    path = find_source(source, log)
    queries = read_queries(path, source=source, keep_repeats=source.kind == "benchmark", log=log)
    repeats = sum(count > 1 for count in Counter(query.query for query in queries).values())
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
    keep_repeats: bool = True,
    log: Callable[[str], None] = print,
) -> list[Query]:
    """All problems of one file as queries; ``source`` names them and defaults to the file's name without its ending.

    ``columns`` maps a field (query, reference_answer, solution, level, domain, answer_type, tolerance, id) to the
    file's column or path; with a catalogue entry as ``source`` its columns and rules hold. Conversations are read as
    well: the question is what the user says, the reference the last box of the reply unless a column states it. A
    GSM8K-style reference ("… #### 42") is what follows the marks. ``level`` may read 3 or "Level 3"; an unknown one
    ("Level ?") becomes None. ``log`` tells of unknown levels, of repeated problems (the first one alone is kept unless
    ``keep_repeats``) and of those with different answers; rows of a catalogue entry without a reference are left out
    and told as well, in an own file they are an error. Raises RecordError.
    """
    path = Path(path)
    known = source if isinstance(source, Source) else None
    if known:
        rows = list(read_fields(path, known.columns, required=(("query",),), somewhere=known.everywhere))
    else:
        required = (("query",), ("reference_answer", "solution"))
        rows = list(read_fields(path, QUERY_FIELDS, required=required, columns=columns or {}))
    if not rows:
        raise RecordError(f"{path}: holds no problems: write one per row, with a question and its answer")
    if known:
        unanswered = [where for where, cells in rows if not _reference(where, cells, known)]
        if unanswered:
            first = _row(unanswered[0])
            log(f"{path}: {len(unanswered)} of {len(rows)} rows left out: no reference answer ({first} …)")
        rows = [(where, cells) for where, cells in rows if _reference(where, cells, known)]
    records = {where: _to_record(where, cells, known) for where, cells in rows}
    _check_ids(rows)
    repeats = _tell_repeats(path, records, keep_repeats, log)
    kept = [record for where, record in records.items() if keep_repeats or where not in repeats]
    if lists := sum("reference_answer" not in cells and _boxed(where, cells)[1] > 1 for where, cells in rows):
        log(f"{path}: {lists} of {len(rows)} references are lists, stated in several boxes of the solution")
    if any("level" in cells for _, cells in rows) and (unknown := sum(record["level"] is None for record in kept)):
        log(f"{path}: {unknown} of {len(kept)} problems have no known level")
    name, version = (known.name, known.version) if known else (str(source or path.stem), "1")
    return make_queries(kept, source=name, version=version)


def _check_ids(rows: Sequence[tuple[str, Mapping[str, Cell]]]) -> None:
    """Explicit ids are kept as metadata; two problems with one id mean that the file was joined wrongly."""
    first: dict[str, tuple[str, str]] = {}
    for where, cells in rows:
        if "id" not in cells or cells["id"].value is None:
            continue
        identity, text = str(cells["id"].value), str(cells["query"].value).strip()
        before, its_text = first.setdefault(identity, (where, text))
        if its_text != text:
            raise RecordError(
                f"{where}: {cells['id'].column} {identity!r} was already used on {_row(before)}: make it unique"
            )


def _tell_repeats(
    path: Path, records: Mapping[str, Mapping[str, Any]], keep: bool, log: Callable[[str], None]
) -> set[str]:
    """The places of all problems that stood before in the file; tells how many, and which answers disagree."""
    first: dict[str, str] = {}
    repeats, disputed = set(), {}
    for where, record in records.items():
        if (before := first.setdefault(record["query"], where)) == where:
            continue
        repeats.add(where)
        answers = [records[place]["reference_answer"] for place in (before, where)]
        if _plain(answers[0]) != _plain(answers[1]):
            disputed[where] = f"{_row(before)} and {_row(where)} ({answers[0][:40]!r}, {answers[1][:40]!r})"
    if repeats:
        what = "each occurrence is a query of its own" if keep else "asked once each, as in their first row"
        several = len({records[where]["query"] for where in repeats})
        log(f"{path}: {len(repeats):,} of {len(records):,} rows repeat a problem ({several:,} problems): {what}")
    if disputed:
        shown = "; ".join(list(disputed.values())[:10]) + (" …" if len(disputed) > 10 else "")
        log(f"{path}: {len(disputed):,} rows answer a problem that stood before in other words: {shown}: correct one")
    return repeats


def _row(where: str) -> str:
    return where.rpartition(", ")[2]


def _plain(answer: str) -> str:
    """An answer in one spelling: 1,004 and $1004.0 are not two answers."""
    text = normalise_text(answer)
    if not _PLAIN_NUMBER.fullmatch(text):
        return text
    number = text.replace("$", "").replace(",", "")
    return str(Decimal(number).normalize())


def _to_record(where: str, cells: Mapping[str, Cell], known: Source | None) -> dict[str, Any]:
    """The fields of one query; RecordError when one cannot be read."""
    reference = _reference(where, cells, known)
    if not reference:
        cell = cells.get("reference_answer")
        lack = f"{cell.column} is empty" if cell else f"{cells['solution'].column} has no \\boxed{{…}}"
        raise RecordError(f"{where}: {lack}: every query needs a reference answer: give it or delete the row")
    query = _text(where, cells, "query")
    if not query:
        raise RecordError(f"{where}: {cells['query'].column} is empty: give the question or delete the row")
    stated = _text(where, cells, "answer_type")
    record: dict[str, Any] = {
        "query": query,
        "reference_answer": reference,
        "level": _level(where, _text(where, cells, "level")),
        "domain": _text(where, cells, "domain", _as_text) or None,
        "answer_type": stated or _guess_type(reference),
        "tolerance": _tolerance(where, _text(where, cells, "tolerance")),
    }
    if known:
        several = "several" in cells and cells["several"].value is True
        record |= _by_rules(known, record, stated, several=several)
    names = ("id", "several", "unit") if "unit" in cells else ("id",)
    kept = {name: cells[name].value for name in names if name in cells and cells[name].value is not None}
    if "unit" in cells:  # OlympiadBench: its instruction speaks of all three
        kept["stated_type"] = stated
    if "id" in kept:
        kept["id"] = str(kept["id"])
    record["metadata"] = json.dumps(kept)
    return record


def _by_rules(known: Source, record: Mapping[str, Any], stated: str, several: bool) -> dict[str, Any]:
    """What the catalogue says about this row's level, answer type and tolerance."""
    level = known.levels.get(text_digest(record["query"], 16)) if record["level"] is None else record["level"]
    kind = known.answer_types.get(stated, "expression") if stated else record["answer_type"]
    tolerance = record["tolerance"]
    if tolerance is None and kind == "number":
        tolerance = known.number_tolerance
    if stated in known.rounded:
        tolerance = _half_of_last_digit(record["reference_answer"])
    return {"level": level, "answer_type": "set" if several else kind, "tolerance": tolerance}


def _reference(where: str, cells: Mapping[str, Cell], known: Source | None) -> str:
    """The reference answer of a row, empty when it has none."""
    stated = _text(where, cells, "reference_answer", *([_as_text] if known else [])).rpartition("####")[2].strip()
    return stated or _boxed(where, cells)[0]


def _boxed(where: str, cells: Mapping[str, Cell]) -> tuple[str, int]:
    """The answer that the row's solution boxes, and how many boxes hold it."""
    return reference_in(_text(where, cells, "solution"), _text(where, cells, "query"))


def _as_text(value: Any) -> Any:
    """Published references that are lists or truth values: ["3"] reads 3, [1, 2] reads [1, 2]."""
    if isinstance(value, list):
        return ", ".join(value) if value and all(isinstance(part, str) for part in value) else json.dumps(value)
    return str(value) if isinstance(value, bool) else value


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


def _text(where: str, cells: Mapping[str, Cell], field: str, read: Callable[[Any], Any] = lambda value: value) -> str:
    return cells[field]._replace(value=read(cells[field].value)).text(where).strip() if field in cells else ""


def _level(where: str, text: str) -> int | None:
    known = text.lower().removeprefix("level").strip()
    if known in ("", "?", "nan", "0", "0.0"):  # a mirror of MATH writes 0 where the original says "Level ?"
        return None
    if (level := read_level(text)) is None:
        fix = "give 1 (easy) to 5 (hard), leave it empty, or read none with columns={'level': ''}"
        raise RecordError(f"{where}: level {text!r} is not 1 to 5: {fix}")
    return level


def _tolerance(where: str, text: str) -> float | None:
    if text in ("", "nan"):
        return None
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise RecordError(f"{where}: tolerance {text!r} is not a number of at least 0")
    return tolerance

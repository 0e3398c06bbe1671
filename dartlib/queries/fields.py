"""Which column of a foreign file is what: the fields that rooms ask for, and where each row has them.

Columns are looked for in every row: of a field's candidates the first that holds a value there counts. A column is
named by its name or by a path: ``reward_model.ground_truth`` is a field of a structure, ``messages.-1.content`` of the
last item of a list.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, NamedTuple

from dartlib.queries.files import read_rows
from dartlib.records import RecordError

Candidates = Mapping[str, Sequence[str]]  # field -> columns looked for, in this order

_QUERY = ("query", "question", "problem", "instruction", "chat_query", "prompt")
QUERY_FIELDS: dict[str, tuple[str, ...]] = {
    "query": _QUERY,
    "reference_answer": (
        "reference_answer", "answer", "final_answer", "expected_answer", "ground_truth", "reward_model.ground_truth",
        "extra_info.answer",
    ),
    "solution": ("solution", "chat_response"),  # its last \boxed{…} is the reference where there is no other
    "level": ("level",),
    "domain": ("domain", "type"),
    "answer_type": ("answer_type",),
    "tolerance": ("tolerance",),
    "id": ("query_id", "id"),
}  # fmt: skip
RESPONSE_FIELDS: dict[str, tuple[str, ...]] = {
    "query": _QUERY,
    "response": ("response", "resp", "chat_response", "output", "completion"),
    "original_query": ("original_question",),  # what a rephrased query was made from
    "correct": ("correct", "is_correct", "ans_correct", "verdict"),
    "level": ("level",),
    "pass_rate": ("pass_rate",),
    "n_tokens": ("n_tokens",),
    "model": ("model",),
}
RIGHT, WRONG = ("true", "1", "1.0", "correct"), ("false", "0", "0.0", "wrong", "incorrect", "no_answer", "timeout")

_ABSENT = object()
_INDEX = re.compile(r"-?\d{1,9}")
_LEVEL = re.compile(r"(?:level )?([1-5])(?:\.0*)?", re.IGNORECASE)


class Cell(NamedTuple):
    """A field of a row: the column it was found in, and its value (None where the column is empty)."""

    column: str
    value: Any

    def text(self, where: str) -> str:
        """The value as text, empty for None; RecordError for anything but a text or a number."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool) or not isinstance(self.value, str | Number):
            kind = type(self.value).__name__
            raise RecordError(f"{where}: {self.column} must be text or a number, not {kind}: convert it")
        return str(self.value)


def candidates(fields: Candidates, columns: Mapping[str, str] | None) -> dict[str, Sequence[str]]:
    """The columns to look for: those a user names instead of the usual ones; ``""`` leaves a field out."""
    if unknown := set(columns or {}) - set(fields):
        field = sorted(unknown)[0]
        raise RecordError(f"columns: unknown field {field!r}: choose among {', '.join(fields)}")
    return {**fields, **{field: (column,) if column else () for field, column in (columns or {}).items()}}


def read_fields(
    path: Path,
    fields: Candidates,
    *,
    required: Sequence[Sequence[str]],
    columns: Mapping[str, str] | None = None,
    somewhere: Sequence[str] = (),
) -> Iterator[tuple[str, dict[str, Cell]]]:
    """Every row with its place ("file, line 3") and its fields; a field is absent where the row has no column for it.

    ``columns`` are those that the user names (None where nobody can). Raises RecordError for a row without any of a
    group of ``required`` fields, a named column or field of ``somewhere`` that no row has, and a number too large for a
    float (JSON's 1e400), which would read as infinity.
    """
    wanted, named = candidates(fields, columns), [field for field, column in (columns or {}).items() if column]
    seen: dict[str, str] = {}
    names: list[str] = []
    for place, row in read_rows(path):
        where, names = f"{path}, {place}", names or column_names(row)
        cells = {field: cell for field in wanted if (cell := _cell(row, wanted[field]))}
        for group in required:
            if not any(field in cells for field in group):
                raise _missing(where, group, wanted, seen, column_names(row), columns is not None)
        for field, cell in cells.items():
            seen[field] = cell.column
            if isinstance(cell.value, float) and math.isinf(cell.value):
                raise RecordError(f"{where}: {cell.column} is too large for a number: write it as text or correct it")
        yield where, cells
    for field in (*named, *somewhere) if names else ():
        if field not in seen:
            raise _missing(str(path), (field,), wanted, seen, names, columns is not None)


def _missing(
    where: str, group: Sequence[str], wanted: Candidates, seen: Mapping[str, str], found: Sequence[str], named: bool
) -> RecordError:
    if before := [seen[field] for field in group if field in seen]:
        what = "holds no single question and answer: name its parts, as in messages.-1.content, or delete the row"
        lack = f"{before[0]} is missing: every row needs it: give it or delete the row"
        return RecordError(f"{where}: {what if before[0].startswith('chat_') else lack}")
    columns = " or ".join(column for field in group for column in wanted[field])
    how = f", or name it or its path (such as messages.-1.content) with columns={{'{group[0]}': '…'}}"
    fix = f"rename one{how if named else ''}"
    return RecordError(f"{where}: no column {columns} for {group[0]} (found: {', '.join(found)}): {fix}")


def _cell(row: Mapping[str, Any], columns: Sequence[str]) -> Cell | None:
    empty = None
    for column in columns:
        value = value_at(row, column)
        if value is not None and value is not _ABSENT:
            return Cell(column, value)
        empty = empty or (Cell(column, None) if value is None else None)
    return empty


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column or path; None for an empty cell and NaN, a mark of its own where there is none."""
    value: Any = row
    for part in [column] if column in row else column.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, _ABSENT)
        elif isinstance(value, list) and _INDEX.fullmatch(part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return None if isinstance(value, float) and math.isnan(value) else value


def column_names(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row, those of structures also as ``a.b``."""
    nested = [f"{name}.{part}" for name, value in row.items() if isinstance(value, Mapping) for part in value]
    return [*row, *nested]


def read_level(value: Any) -> int | None:
    """3 or "Level 3" as 3; None for anything else."""
    found = _LEVEL.fullmatch(str(value).strip())
    return int(found[1]) if found else None


def read_training_rows(
    path: Path, *, columns: Mapping[str, str] | None = None, log: Callable[[str], None] = print
) -> Iterator[dict[str, Any]]:
    """The rows of any set of responses to train on: ``query``, ``response`` and ``level`` (1 to 5 or None), in order.

    ``columns`` maps a field (query, response, correct, level) to the file's column or path. Rows that the file itself
    does not call correct are left out, and told through ``log`` at the end. Raises RecordError naming file, row and
    field; also where some rows have a verdict and others none.
    """
    fields = {field: RESPONSE_FIELDS[field] for field in ("query", "response", "correct", "level")}
    needed = (("query",), ("response",))
    first: dict[bool, str] = {}  # with a verdict, without one -> where first
    rows = kept = 0
    for where, cells in read_fields(path, fields, required=needed, columns=columns or {}):
        verdict = cells["correct"].value if "correct" in cells else None
        first.setdefault(verdict is not None, where)
        if len(first) == 2:
            raise RecordError(f"{first[False]}: no verdict, but {first[True]} has one: judge every row or none")
        texts = {field: cells[field].text(where) for field in ("query", "response")}
        if empty := [cells[field].column for field, text in texts.items() if not text.strip()]:
            raise RecordError(f"{where}: {empty[0]} is empty: give it or delete the row")
        rows += 1
        if verdict is None or str(verdict).lower() in RIGHT:
            kept += 1
            yield {**texts, "level": read_level(cells["level"].value) if "level" in cells else None}
    if kept < rows:
        log(f"{path}: {rows - kept:,} of {rows:,} rows left out: not correct, as the file says itself")

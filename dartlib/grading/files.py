"""A grader for any file: JSON Lines in, the same rows with their verdicts out, in order and in bounded memory."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from dartlib.files import replacing
from dartlib.grading.explanation import RULES, read_form
from dartlib.grading.pool import GradingPool
from dartlib.grading.verdicts import Graded
from dartlib.records import Query, RecordError, Verdict
from dartlib.statistics import wilson_interval

_ROWS = 2000  # held in memory at a time
_TOLD = 10  # bad lines named one by one


def grade_file(
    path: Path,
    out: Path,
    *,
    lenient: bool = False,
    explained: bool = False,
    workers: int = 2,
    log: Callable[[str], None] = print,
) -> Counter[str]:
    """Grade every line of a JSON Lines file into ``out``, whole or absent; returns how many got which verdict.

    A line has ``reference_answer`` and ``response``, and may have ``query``, ``answer_type``, ``tolerance`` (largest
    absolute error) and ``finish_reason`` ("length": no answer). It gains ``verdict``, ``reason`` and ``answer``, and
    with ``explained`` the ``rule`` and how both answers were read. ``lenient``: without an explicit answer the last
    number counts. A line that cannot be graded stays in its place with the verdict ``error`` and the reason; ``log``
    names the first ten. Raises RecordError when there is nothing to read.
    """
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    if out.resolve() == path.resolve():
        raise RecordError(f"{out}: is the file to grade: name another one with --out")
    counts: Counter[str] = Counter()
    with GradingPool(workers, lenient=lenient) as grading, open(path, "rb") as source, replacing(out) as target:
        lines = ((number, line) for number, line in enumerate(source, start=1) if line.strip())
        while chunk := list(islice(lines, _ROWS)):
            read = [_read(line) for _, line in chunk]
            graded = iter(grading.grade_many([item for _, item in read if not isinstance(item, str)]))
            for (number, _), (row, item) in zip(chunk, read, strict=True):
                grade = (None, Verdict.ERROR, item) if isinstance(item, str) else next(graded)
                counts[grade[1]] += 1
                if grade[1] is Verdict.ERROR and counts[Verdict.ERROR] <= _TOLD:
                    log(f"{path}, line {number}: {grade[2]}")
                target.write(json.dumps(row | _result(item, grade, explained)).encode() + b"\n")
        if not counts:
            raise RecordError(f'{path}: holds no lines: write one {{"reference_answer": …, "response": …}} per line')
    log(_summary(counts))
    return counts


def _read(line: bytes) -> tuple[dict[str, Any], tuple[Query, str, str] | str]:
    """The row of a line, and what is graded, or why it cannot."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return {"line": line.decode(errors="replace").rstrip("\r\n")}, f"not a line of JSON: {error}"
    if not isinstance(row, dict):
        return {"line": row}, "not a JSON object with reference_answer and response"
    try:
        return row, _item(row)
    except ValueError as error:
        return row, str(error)


def _item(row: Mapping[str, Any]) -> tuple[Query, str, str]:
    tolerance = row.get("tolerance")
    if tolerance is not None and not (type(tolerance) in (int, float) and 0 <= tolerance < 1e300):
        raise ValueError(f"tolerance is {str(tolerance)[:40]!r}, not a number of at least 0")
    reference, kind = _text(row, "reference_answer"), _text(row, "answer_type", "expression")
    if not reference.strip():
        raise ValueError("reference_answer is empty")
    item = Query("", "", _text(row, "query", ""), reference, kind, tolerance)
    return item, _text(row, "response"), _text(row, "finish_reason", "stop")


def _text(row: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = default if row.get(name) is None else row[name]
    if value is None:
        raise ValueError(f"{name} is missing")
    if type(value) not in (str, int, float) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a text or a number")
    return str(value)


def _result(item: tuple[Query, str, str] | str, grade: Graded, explained: bool) -> dict[str, str | None]:
    """What a row gains."""
    answer, verdict, reason = grade
    result: dict[str, str | None] = {"verdict": verdict.value, "reason": reason, "answer": answer}
    if explained and not isinstance(item, str):
        reference, read = read_form(item[0].reference_answer), read_form(answer or "")
        result |= {"rule": RULES[reason.partition(":")[0]], "reference_read_as": reference, "answer_read_as": read}
    return result


def _summary(counts: Mapping[str, int]) -> str:
    five = ", ".join(f"{verdict.value} {counts[verdict]:,}" for verdict in Verdict)
    graded = sum(counts.values()) - counts[Verdict.ERROR]
    if not graded:
        return f"{five}: no line could be graded"
    low, high = wilson_interval(counts[Verdict.CORRECT], graded)
    rate = counts[Verdict.CORRECT] / graded
    return f"{five}: {rate:.1%} of {graded:,} graded are correct (95 %: {low:.1%} to {high:.1%})"

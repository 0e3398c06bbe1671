"""The grader in this process, SymPy included and without a time limit: for tests of what it decides."""

from __future__ import annotations

from dartlib.grading.equality.comparison import Pair, compare_fast, compare_symbolic
from dartlib.grading.verdicts import Graded, read_response, verdict_of
from dartlib.records import Query


def answers_equal(*, gold: str, pred: str, tolerance: float | None = None, query: str | None = None) -> bool:
    """Whether ``pred`` is the answer ``gold``."""
    pair = Pair(gold, pred, tolerance, query)
    return (compare_fast(pair) or compare_symbolic(pair)).equal


def grade_response(
    *,
    reference_answer: str,
    answer_type: str,
    tolerance: float | None,
    response: str,
    finish_reason: str,
    query: str = "",
) -> Graded:
    """Grade one response completely."""
    asked = Query("", "", query, reference_answer, answer_type, tolerance)
    answer, decided = read_response(asked, response, finish_reason)
    return answer, *(verdict_of(compare_symbolic(decided)) if isinstance(decided, Pair) else decided)

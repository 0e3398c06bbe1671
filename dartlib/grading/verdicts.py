"""From a response to its verdict: extract, compare, and say why in one word."""

from typing import TypeAlias

from dartlib.grading.equality.comparison import Comparison, compare_fast, compare_symbolic
from dartlib.grading.extraction import extract_answer
from dartlib.records import Verdict

# Stored with every grade; a change means "regrade". Raise the number with any change of extraction or equality.
GRADER_VERSION = "4/math-verify-0.9.0"
LENIENT_GRADER_VERSION = GRADER_VERSION + "/lenient"

Graded: TypeAlias = tuple[str | None, Verdict, str]  # extracted answer, verdict, reason


def grade_response(
    *,
    reference_answer: str,
    answer_type: str,
    tolerance: float | None,
    response: str,
    finish_reason: str,
    query: str | None = None,
) -> Graded:
    """Grade one response completely, in this process and without a time limit (``GradingPool`` has one)."""
    answer, decided = read_response(
        reference_answer=reference_answer,
        answer_type=answer_type,
        tolerance=tolerance,
        response=response,
        finish_reason=finish_reason,
        query=query,
    )
    if decided is None:
        assert answer is not None
        decided = verdict_of(
            compare_symbolic(
                gold=reference_answer, pred=answer, tolerance=tolerance, query=query, answer_type=answer_type
            )
        )
    return answer, *decided


def read_response(
    *,
    reference_answer: str,
    answer_type: str,
    tolerance: float | None,
    response: str,
    finish_reason: str,
    lenient: bool = False,
    query: str | None = None,
) -> tuple[str | None, tuple[Verdict, str] | None]:
    """The extracted answer and, where no SymPy is needed, the verdict with its reason.

    A response cut by length has no answer even if it holds a box (the paper counts it wrong). ``answer_type``
    ``text`` is compared as written; every other type as mathematics. ``query``: what was asked; it decides whether
    rounding is accepted and which boxes are quotations.
    """
    if finish_reason == "length":
        return None, (Verdict.NO_ANSWER, "length")
    answer = extract_answer(response, lenient=lenient, query=query)
    if answer is None:
        return None, (Verdict.NO_ANSWER, "no_final_answer")
    comparison = compare_fast(
        gold=reference_answer, pred=answer, tolerance=tolerance, query=query, answer_type=answer_type
    )
    return answer, verdict_of(comparison) if comparison else None


def verdict_of(comparison: Comparison) -> tuple[Verdict, str]:
    """The verdict of a finished comparison, with its reason."""
    return (Verdict.CORRECT if comparison.equal else Verdict.WRONG), comparison.reason

"""From a response to its verdict: extract, compare, and say why in one word."""

from typing import TypeAlias

from dartlib.grading.equality.comparison import Comparison, Pair, compare_fast
from dartlib.grading.extraction import extract_answer
from dartlib.records import Query, Verdict

# Stored with every grade; a change means "regrade". Raise the number with any change of extraction or equality.
GRADER_VERSION = "4/math-verify-0.9.0"
LENIENT_GRADER_VERSION = GRADER_VERSION + "/lenient"

Graded: TypeAlias = tuple[str | None, Verdict, str]  # extracted answer, verdict, reason


def read_response(
    query: Query, response: str, finish_reason: str, *, lenient: bool = False
) -> tuple[str | None, tuple[Verdict, str] | Pair]:
    """The extracted answer with its verdict and reason, or with the pair that needs SymPy.

    A response cut by length has no answer even if it holds a box (the paper counts it wrong). A query of type ``text``
    is compared as written, every other one as mathematics; its words decide whether rounding is accepted and which
    boxes are quotations.
    """
    if finish_reason == "length":
        return None, (Verdict.NO_ANSWER, "length")
    answer = extract_answer(response, lenient=lenient, query=query.query)
    if answer is None:
        return None, (Verdict.NO_ANSWER, "no_final_answer")
    pair = Pair(query.reference_answer, answer, query.tolerance, query.query, query.answer_type)
    comparison = compare_fast(pair)
    return answer, verdict_of(comparison) if comparison else pair


def verdict_of(comparison: Comparison) -> tuple[Verdict, str]:
    """The verdict of a finished comparison, with its reason."""
    return (Verdict.CORRECT if comparison.equal else Verdict.WRONG), comparison.reason

"""When two answers are the same, and above all when they are not: the case table, rules, properties, limits."""

from __future__ import annotations

import csv
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from grading_in_process import answers_equal, grade_response
from hypothesis import assume, given
from hypothesis import strategies as st

from dartlib.grading import explain, extract_answer
from dartlib.grading.equality import algebra
from dartlib.grading.equality.comparison import Pair, compare_fast, exceeded_limit
from dartlib.grading.equality.notation import normalise
from dartlib.grading.equality.parsing import read_answer
from dartlib.grading.equality.parsing_tokens import Unreadable
from dartlib.grading.explanation import RULES
from dartlib.records import Verdict

TABLE = Path(__file__).with_name("grading_cases.tsv")
RESPONSES = Path(__file__).with_name("grading_responses.tsv")


def _cases() -> list[dict[str, str]]:
    """Lines of the table: expected, type, gold, answer, tolerance, query, source (of a public complaint)."""
    with TABLE.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("kind", sorted({case["type"] for case in _cases()}))
def test_case_table(kind: str) -> None:
    failed = []
    for case in _cases():
        if case["type"] == kind:
            tolerance = float(case["tolerance"]) if case["tolerance"] else None
            equal = answers_equal(
                gold=case["gold"], pred=case["answer"], tolerance=tolerance, query=case["query"] or None
            )
            if equal != (case["expected"] == "equal"):
                failed.append((case["expected"], case["gold"], case["answer"]))
    assert failed == []


def _responses() -> list[dict[str, str]]:
    """Lines of the second table: expected, type, gold, response (``\\n`` for a new line), query."""
    with RESPONSES.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))


def _graded(gold: str, response: str, query: str) -> bool:
    _, verdict, _ = grade_response(
        reference_answer=gold,
        answer_type="number",
        tolerance=None,
        response=response,
        finish_reason="stop",
        query=query,
    )
    return verdict is Verdict.CORRECT


@pytest.mark.parametrize("kind", sorted({case["type"] for case in _responses()}))
def test_responses_table(kind: str) -> None:
    cases = [case for case in _responses() if case["type"] == kind]
    failed = [
        (case["expected"], case["gold"], case["response"])
        for case in cases
        if _graded(case["gold"], case["response"].replace("\\n", "\n"), case["query"]) != (case["expected"] == "equal")
    ]
    assert len(cases) >= 4 and failed == []


# Pairs that an outside collection expects to be accepted and that stay refused, with the reason.
REFUSED = {
    ("10879", "-10879,10879"): "the reference lost a root: a list is no answer to one value",
    ("2", "-1,2"): "the reference lost a root",
    ("105^\\circ", "30^\\circ,45^\\circ,105^\\circ"): "the reference lost two of three angles",
    ("\\frac{5\\pi}{4}", "\\frac{\\pi}{4},\\frac{5\\pi}{4}"): "the reference lost a root",
    ("\\begin{pmatrix}6 & 8 \\\\ 10 & 12\\end{pmatrix}",
     "\\begin{pmatrix}1 & 2 \\\\ 3 & 4\\end{pmatrix} + \\begin{pmatrix}5 & 6 \\\\ 7 & 8\\end{pmatrix}"):
        "the response states no final answer in any form",
}  # fmt: skip


def test_collected_pairs(test_data: Path) -> None:
    """Pairs from public bug reports and case tables, beside the test data."""
    path = test_data.parent / "cases" / "grading.jsonl"
    if not path.is_file():
        pytest.skip("needs cases/grading.jsonl beside the test data")
    wrong = []
    for case in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        response = case["text"] if case["form"] == "response" else f"\\boxed{{{case['text']}}}"
        if _graded(case["gold"], response, case["query"]) != (case["expected"] == "correct"):
            wrong.append((case["gold"], case["text"], case["expected"]))
    assert {pair[:2] for pair in wrong} == REFUSED.keys() and {pair[2] for pair in wrong} == {"correct"}


def test_case_table_is_large_and_two_sided() -> None:
    cases = _cases()
    assert len(cases) >= 400 and {case["expected"] for case in cases} == {"equal", "differ"}
    assert min(Counter(case["expected"] for case in cases).values()) > 300
    assert len({tuple(case.values()) for case in cases}) == len(cases)
    assert len({case["source"] for case in cases if "Math-Verify" in case["source"]}) >= 6


def test_two_end_points_are_a_list_only_where_the_item_is_one() -> None:
    for answer_type, equal in (("tuple", True), ("interval", False), ("number", False)):
        decided = compare_fast(Pair(gold="[1, 6]", pred="1, 6", answer_type=answer_type))
        assert decided is not None and decided.equal is equal


def test_decimal_precision_belongs_to_the_reference() -> None:
    assert answers_equal(gold="33.333333", pred="100/3")
    assert not answers_equal(gold="100/3", pred="33.333333")
    assert not answers_equal(gold="33.3333", pred="100/3")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("9^{9^{9^{9}}}", "tower"),
        ("9^{99^{9}}", "exponent"),
        ("2^{1001}", "exponent"),
        ("x^{-99999999}", "exponent"),
        ("(10^8)!", "factorial"),
        ("1/9999999999!", "factorial"),
        ("((9!)!)!", "factorial"),
        ("2^{2^{2^{x}}}", "tower"),
        ("(" * 41 + "1" + ")" * 41, "nesting"),
        ("x " * 150 + "\\int x dx", "length"),
    ],
)
def test_limits_come_before_any_parsing(text: str, limit: str) -> None:
    decided = compare_fast(Pair(gold="x", pred=text))
    assert decided is not None and not decided.equal and decided.reason == f"limit:{limit}"


@pytest.mark.parametrize("text", ["2^{1000}", "e^{x^2}", "x^2+y^2+z^2", "20!", "\\frac{20!}{18!}", "x^{10}", "{{{1}}}"])
def test_ordinary_answers_are_within_limits(text: str) -> None:
    assert exceeded_limit(text) is None


integers = st.integers(min_value=-(10**12), max_value=10**12)


@given(integers)
def test_a_number_equals_itself_in_other_notations(value: int) -> None:
    for text in (
        f"{value:,}",
        f"${value}$",
        f"{value}.0",
        f"{value}.",
        f"\\text{{{value}}}",
        f"{3 * value}/3",
        f"\\${value}",
    ):
        decided = compare_fast(Pair(gold=str(value), pred=text))
        assert decided is not None and decided.equal, text


@given(integers, st.data())
def test_one_changed_digit_is_never_equal(value: int, data: st.DataObject) -> None:
    digits = str(abs(value))
    place = data.draw(st.integers(0, len(digits) - 1))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != digits[place]]))
    changed = f"{'-' if value < 0 else ''}{digits[:place]}{digit}{digits[place + 1 :]}"
    for text in (changed, f"{int(changed):,}", f"{changed}.0"):
        decided = compare_fast(Pair(gold=str(value), pred=text))
        assert decided is not None and not decided.equal


@given(integers, st.integers(1, 10**6))
def test_fractions_are_exact(numerator: int, denominator: int) -> None:
    for text in (f"\\frac{{{numerator}}}{{{denominator}}}", f"{numerator}/{denominator}"):
        _, (item,) = read_answer(normalise(text))
        assert item == ("value", algebra.number(Fraction(numerator, denominator)), "")


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6, places=4), st.data())
def test_one_changed_digit_of_a_decimal_is_never_equal(value: object, data: st.DataObject) -> None:
    text = str(value)
    places = [place for place, character in enumerate(text) if character.isdigit()]
    place = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != text[place]]))
    changed = f"{text[:place]}{digit}{text[place + 1 :]}"
    assume(abs(Fraction(text) - Fraction(changed)) > Fraction(1, 10**6) * abs(Fraction(text)))
    decided = compare_fast(Pair(gold=text, pred=changed))
    assert decided is not None and not decided.equal


wrapping = st.text(alphabet=st.characters(exclude_characters="\\{}$*_`\"'#:", exclude_categories=("Cs",)), max_size=60)


@given(wrapping, wrapping, integers)
def test_extraction_survives_the_text_around_it(before: str, after: str, value: int) -> None:
    assume("answer" not in (before + after).lower() and not before.lower().endswith("a"))
    for form in (f"\\boxed{{{value}}}", f"**\\boxed{{{value}}}**", f'"answer": "{value}"\n', f"\n#### {value}\n"):
        assert extract_answer(f"{before}{form}{after}") == str(value)


@given(st.text(max_size=400))
def test_reading_hostile_text_never_fails(text: str) -> None:
    compare_fast(Pair(gold=text, pred="1"))
    same = compare_fast(Pair(gold=text, pred=text))
    assert same is not None and same.equal == bool(normalise(text))


def test_marks_without_content_are_equal_to_themselves_only() -> None:
    assert answers_equal(gold="×", pred="×")
    assert not answers_equal(gold="×", pred="* *") and not answers_equal(gold="×", pred="()")


@given(st.text(alphabet="0123456789+-*/^()[]{}xi,.|!_\\ =<>", max_size=60))
def test_reading_formulas_never_fails(text: str) -> None:
    try:
        read_answer(normalise(text))
    except Unreadable:
        pass
    compare_fast(Pair(gold="5", pred=text))


def test_long_equal_texts_are_equal_up_to_4000_characters() -> None:
    text = "x+" * 1999 + "y"
    longest = compare_fast(Pair(gold=text + "z", pred=text + "z"))
    assert longest is not None and longest.equal and longest.reason == "string"
    beyond = compare_fast(Pair(gold=text + "zz", pred=text + "zz"))
    assert beyond is not None and (beyond.equal, beyond.reason) == (False, "limit:length")


def test_explain_shows_what_was_read_and_why() -> None:
    found = explain(gold="\\frac{1}{2}", response="So **the answer is** $0.5$.")
    assert (found.verdict, found.reason, found.extracted) == (Verdict.CORRECT, "number", "0.5")
    assert found.gold_form == found.answer_form == "1/2" and found.rule == RULES["number"]
    hidden = explain(gold="(1,2)", response="\\boxed{(2,1)}")
    assert (hidden.verdict, hidden.reason, hidden.answer_form) == (Verdict.WRONG, "collection", "(2, 1)")
    assert "collection" in str(hidden) and "(1, 2)" in str(hidden)
    assert explain(gold="5", response="It is 5.").reason == "no_final_answer"
    assert explain(gold="5", response="\\boxed{9^{9^{9^9}}}").reason == "limit:tower"
    assert explain(gold="\\sqrt{8}", response="\\boxed{2\\sqrt{2}}").reason == "symbolic"

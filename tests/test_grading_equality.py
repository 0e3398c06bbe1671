"""When two answers are the same, and above all when they are not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartlib.grading import answers_equal
from dartlib.grading.equality import compare_fast, exceeded_limit

EQUAL = {
    "numbers": [
        ("1,234", "1234"),
        ("1{,}234", "1234"),
        ("$18", "18"),
        ("18", "18."),
        ("007", "7"),
        ("0.5", ".5"),
        ("1/2", "\\frac{1}{2}"),
        ("3/6", "0.5"),
        ("1e3", "1000"),
        ("\\dfrac{3}{4}", "0.75"),
        ("-\\frac{1}{2}", "-0.5"),
        ("5\\frac{1}{2}", "11/2"),
        ("1.5 \\times 10^3", "1500"),
        ("\\sqrt{8}", "2\\sqrt{2}"),
        ("2^10", "1024"),
        ("−3", "-3"),
    ],
    "percent and units": [("50\\%", "50%"), ("50%", "0.5"), ("18", "18 dollars"), ("90^\\circ", "90 degrees")],
    "plain notation": [
        ("\\frac{\\pi}{2}", "pi/2"),
        ("\\frac{\\sqrt{2}}{2}", "sqrt(2)/2"),
        ("2x", "2*x"),
        ("x^{10}", "x**10"),
        ("\\infty", "infinity"),
    ],
    "expressions": [
        ("x^2+2x+1", "(x+1)^2"),
        ("5", "x = 5"),
        ("y=2x+1", "y = 1+2x"),
        ("2+3i", "3i + 2"),
        ("\\frac{x}{2}", "x/2"),
    ],
    "collections": [
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("3,-3", "\\pm 3"),
        ("(1,2)", "\\left(1, 2\\right)"),
        ("[0,1]", "x\\in[0,1]"),
    ],
    "text": [("\\text{East}", "east"), ("(B)", "B"), ("13", "\\text{13}"), ("June 20", "\\text{June 20}")],
}
DIFFERENT = {
    "numbers": [
        ("50", "0.5"),
        ("5", "0.05"),
        ("10", "1000"),
        ("100/3", "33.3"),
        ("\\frac{100}{3}", "33.333333"),
        ("1e-8", "2e-8"),
        ("10^{-12}", "2 \\cdot 10^{-12}"),
        ("1", "-1"),
        ("12", "1 2"),
        ("4", "4\\sqrt(2)"),
        ("5", "5!"),
        ("3", "3i"),
    ],
    "letters are no units": [("2", "2t"), ("2", "2m"), ("2", "2 million"), ("5 hours", "5 minutes")],
    "order and multiplicity": [
        ("(1,2)", "(2,1)"),
        ("(1,2)", "(1,1,2)"),
        ("[1,2)", "[1,2]"),
        ("3", "3,4"),
        ("3", "\\pm 3"),
        ("12", "1,2"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}"),
    ],
    "text": [("none", "not defined"), ("months", "Monday"), ("stop", "post"), ("10:30", "10:3")],
    "equations": [("\\ln(e^2)=2", "\\ln(e^2)=3"), ("I=e^{-t}\\sin t", "I=e^{-t}\\sin t+1"), ("x = 5", "x = 6")],
    "expressions": [("x+y=3", "x-y=3"), ("1-x", "x-1"), ("x^{12}", "x^{1}2")],
}


def _cases(table: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    return [(gold, pred) for pairs in table.values() for gold, pred in pairs]


@pytest.mark.parametrize(("gold", "pred"), _cases(EQUAL))
def test_must_be_equal(gold: str, pred: str) -> None:
    assert answers_equal(gold=gold, pred=pred)
    assert answers_equal(gold=pred, pred=gold)


@pytest.mark.parametrize(("gold", "pred"), _cases(DIFFERENT))
def test_must_differ(gold: str, pred: str) -> None:
    assert not answers_equal(gold=gold, pred=pred)
    assert not answers_equal(gold=pred, pred=gold)


def test_tolerance_counts_only_when_given() -> None:
    assert not answers_equal(gold="3.14", pred="3.15")
    assert answers_equal(gold="3.14", pred="3.15", tolerance=0.011)
    assert not answers_equal(gold="3.14", pred="3.16", tolerance=0.011)
    assert answers_equal(gold="3.14", pred="\\pi", tolerance=0.01)
    assert not answers_equal(gold="3.14", pred="\\pi", tolerance=0.001)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("9^{9^{9^{9}}}", "tower"),
        ("9**9**9", "tower"),
        ("(9)^(9)^9", "tower"),
        ("2^{1001}", "exponent"),
        ("x^{-99999999}", "exponent"),
        ("(10^8)!", "factorial"),
        ("1/9999999999!", "factorial"),
        ("((9!)!)!", "factorial"),
        ("(" * 21 + "1" + ")" * 21, "nesting"),
        ("1+" * 150 + "1", "length"),
    ],
)
def test_limits_come_before_any_parsing(text: str, limit: str) -> None:
    decided = compare_fast(gold="x", pred=text)
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
        decided = compare_fast(gold=str(value), pred=text)
        assert decided is not None and decided.equal, text


@given(integers, st.data())
def test_one_changed_digit_is_never_equal(value: int, data: st.DataObject) -> None:
    digits = str(abs(value))
    place = data.draw(st.integers(0, len(digits) - 1))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != digits[place]]))
    changed = f"{'-' if value < 0 else ''}{digits[:place]}{digit}{digits[place + 1 :]}"
    for text in (changed, f"{int(changed):,}", f"{changed}.0"):
        decided = compare_fast(gold=str(value), pred=text)
        assert decided is not None and not decided.equal


@given(integers, st.integers(1, 10**6))
def test_fractions_are_exact(numerator: int, denominator: int) -> None:
    assert parse_number(f"\\frac{{{numerator}}}{{{denominator}}}") == Fraction(numerator, denominator)
    assert parse_number(f"{numerator}/{denominator}") == Fraction(numerator, denominator)


@given(st.text(max_size=400))
def test_reading_hostile_text_never_fails(text: str) -> None:
    parse_number(normalise(text))
    compare_fast(gold=text, pred="1")
    same = compare_fast(gold=text, pred=text)
    assert same is not None and same.equal == bool(normalise(text))

"""Are two final answers the same? Strings and plain numbers are decided here at once; the rest goes to SymPy.

Model text is hostile: it is never evaluated as code, limits on size come before any parsing, and whoever calls
``compare_symbolic`` must be able to kill it (``grading.pool`` does). Wrong answers judged equal are worse than
equal answers judged wrong, since they put bad solutions into training data: in doubt, the answers differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from dartlib.grading.extraction import clean_answer

MAX_LENGTH = 300  # characters
MAX_NESTING = 20  # open brackets
MAX_INTEGER = 1000  # largest number as an exponent or beside a factorial
SIGNIFICANT_DECIMALS = 10  # decimals in which a float must agree: 33.3 is not 100/3

_SYMBOLS = str.maketrans(
    {"−": "-", "–": "-", "π": "\\pi ", "°": "^\\circ ", "∞": "\\infty ", "×": "\\times ", "·": "\\cdot ", "≤": "\\le "}
)
_INVISIBLE = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[,!;:]|\\(?:display|text)style(?![a-z])|\\?\$|~")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\{([^{}\\]*)\}")
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(rf"([+-]?)({_INTEGER}(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{{1,3}}))?")
_FRACTION = re.compile(rf"([+-]?)(?:\\frac\{{([+-]?{_INTEGER})\}}\{{({_INTEGER})\}}|({_INTEGER})\s*/\s*({_INTEGER}))")
_UNITS = (
    "dollars? cents? degrees? units? points? legs? cm mm km met(?:er|re)s? feet inches miles "
    "seconds? minutes? hours? days? weeks? months? years?"
)
_UNIT = re.compile(rf"(.*\d)\s+({'|'.join(_UNITS.split())})", re.IGNORECASE)
_WORDS = re.compile(r"[A-Za-z][A-Za-z ,.'-]*")
_LONG_WORD = re.compile(r"[A-Za-z]{3}")
_NAMES_OF_NUMBERS = {"infinity", "-infinity"}
_EQUALS = re.compile(r"\s*(?:=|\\approx)\s*")
_RATIO = re.compile(r"\d\s*:\s*\d")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two answers are equal, and by which rule: ``string``, ``number``, ``text``, ``symbolic``, ``limit:…``."""

    equal: bool
    reason: str


def answers_equal(*, gold: str, pred: str, tolerance: float | None = None) -> bool:
    """Whether ``pred`` is the answer ``gold``. Runs SymPy in this process: for trusted text and for tests."""
    decided = compare_fast(gold=gold, pred=pred, tolerance=tolerance)
    return (decided or compare_symbolic(gold=gold, pred=pred, tolerance=tolerance)).equal


def compare_fast(*, gold: str, pred: str, tolerance: float | None = None) -> Comparison | None:
    """Decide by strings, plain numbers and limits; None when only symbolic comparison can tell."""
    if max(len(gold), len(pred)) > 10 * MAX_LENGTH:
        return Comparison(False, "limit:length")
    left, right = _prepare(gold, pred)
    if not left or not right:
        return Comparison(False, "empty")
    if left == right:
        return Comparison(True, "string")
    if (gold_number := parse_number(left)) is not None and (pred_number := parse_number(right)) is not None:
        error = abs(gold_number - pred_number)
        return Comparison(error == 0 or (tolerance is not None and error <= Fraction(tolerance)), "number")
    if _is_text(left) or _is_text(right):
        return Comparison(left.casefold() == right.casefold(), "text")
    for text in (left, right):
        if name := exceeded_limit(text):
            return Comparison(False, f"limit:{name}")
    return None


def compare_symbolic(*, gold: str, pred: str, tolerance: float | None = None) -> Comparison:
    """Compare with math-verify, its own timeouts off: may run for ever, so call it where it can be killed."""
    from math_verify import verify

    left, right = (_parse(text) for text in _prepare(gold, pred))
    if not left or not right:
        return Comparison(False, "unparsed")
    if verify(left, right, timeout_seconds=None, float_rounding=SIGNIFICANT_DECIMALS):
        return Comparison(True, "symbolic")
    return Comparison(tolerance is not None and _within(left[0], right[0], tolerance), "symbolic")


def normalise(answer: str) -> str:
    """One spelling for what looks the same on paper: wrapping, spacing commands, text commands, dollar signs."""
    text = clean_answer(answer).translate(_SYMBOLS)
    text = _TEXT_COMMAND.sub(r" \1 ", _INVISIBLE.sub("", text))
    text = re.sub(r"\\[dt]frac(?![a-z])", r"\\frac", text).replace("{,}", ",").replace("\\ ", " ")
    text = re.sub(r"\s+", " ", text).strip().removesuffix(".")
    return re.sub(r"^\(([A-Za-z])\)$", r"\1", text)  # the letter of a choice


def parse_number(text: str) -> Fraction | None:
    """An integer, decimal or simple fraction, with thousands commas, exactly; else None."""
    if match := _NUMBER.fullmatch(text):
        sign, digits, exponent = match.groups()
        return Fraction(f"{sign}{digits.replace(',', '')}e{exponent or 0}")
    if match := _FRACTION.fullmatch(text):
        sign, *parts = match.groups()
        numerator, denominator = (int(part.replace(",", "")) for part in parts if part is not None)
        if denominator:
            return Fraction(-numerator if sign == "-" else numerator, denominator)
    return None


def exceeded_limit(text: str) -> str | None:
    """The first limit that ``text`` breaks, by name, or None. These keep SymPy from most endless computations."""
    if len(text) > MAX_LENGTH:
        return "length"
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_NESTING:
            return "nesting"
    if re.search(r"\d[)}]*\s*(?:\^|\*\*)\s*[{(]*\s*-?\s*\d+[)}]*\s*(?:\^|\*\*)", text):
        return "tower"
    exponents = re.findall(r"(?:\^|\*\*)\s*[{(]*\s*[+-]?\s*(\d+)", text)
    if any(len(digits) > 4 or int(digits) > MAX_INTEGER for digits in exponents):
        return "exponent"
    if "!" in text:
        numbers = re.findall(r"\d+", text)
        large = any(len(digits) > 4 or int(digits) > MAX_INTEGER for digits in numbers)
        if large or "^" in text or re.search(r"![\s)}\]]*!", text):
            return "factorial"
    return None


def _is_text(text: str) -> bool:
    """Words are compared as words, ratios and times of day as written: as products of letters they mean nothing."""
    if text.casefold() in _NAMES_OF_NUMBERS:
        return False
    words = _WORDS.fullmatch(text) is not None and _LONG_WORD.search(text) is not None
    return words or _RATIO.search(text) is not None


def _prepare(gold: str, pred: str) -> tuple[str, str]:
    """Both normalised, without what they share: the unit, and the left side of an equation.

    Left in, ``f = 2`` and ``f = 3`` would be compared as equations, where SymPy drops constant factors.
    """
    left, right = normalise(gold), normalise(pred)
    left_parts, right_parts = (_EQUALS.split(text) for text in (left, right))
    if left != right and len(left_parts) == len(right_parts) > 1 and left_parts[:-1] == right_parts[:-1]:
        left, right = left_parts[-1], right_parts[-1]
    return _without_common_unit(left, right)


def _without_common_unit(gold: str, pred: str) -> tuple[str, str]:
    """Drop a unit that only one side names, or both alike; different units stay, and so differ."""
    parts = [_UNIT.fullmatch(text) for text in (gold, pred)]
    units = {match.group(2).casefold().removesuffix("s") for match in parts if match}
    if len(units) != 1:
        return gold, pred
    left, right = (match.group(1) if match else text for match, text in zip(parts, (gold, pred), strict=True))
    return left, right


def _as_latex(text: str) -> str:
    """Plain notation (``sqrt(2)``, ``x**10``, ``2*pi``) as LaTeX."""
    text = text.replace("**", "^").replace("*", "\\cdot ").replace("<=", "\\le ").replace(">=", "\\ge ")
    text = re.sub(r"\\?\bsqrt\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", re.sub(r"\^([+-]?\d{2,})", r"^{\1}", text))
    text = re.sub(r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi ", text)
    text = re.sub(r"(?i)(?<![\\a-z])infinity(?![a-z])", r"\\infty ", text)
    return re.sub(r"(?<!\\)%", r"\\%", text)


def _parse(text: str) -> list[object]:
    """SymPy reading of a normalised answer. Units stay letters: ``2t`` is not 2."""
    from math_verify import LatexExtractionConfig, parse
    from math_verify.parser import NormalizationConfig

    spelling = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    config = LatexExtractionConfig(normalization_config=spelling)
    wrapped = f"${_as_latex(text)}$"
    return parse(wrapped, extraction_config=[config], fallback_mode="no_fallback", parsing_timeout=None)


def _within(gold: object, pred: object, tolerance: float) -> bool:
    """Whether two SymPy numbers lie within ``tolerance`` of each other."""
    try:
        return abs(float(gold) - float(pred)) <= tolerance  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False

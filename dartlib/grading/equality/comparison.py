"""Are two final answers the same? One stated rule per type of answer; SymPy only for formulas that remain.

A wrong answer judged equal is worse than an equal one judged wrong, since it puts a bad solution into training
data: in doubt, the answers differ. The rules, in the order in which they are tried (the reason code in brackets):

* the same text in one spelling [``string``]: what looks the same on paper is the same;
* choices [``choice``]: the letter counts; ``True`` and ``yes`` are one word [``text``];
* numbers [``number``]: exact rational arithmetic. A decimal reference is met within 1e-6 relative, since nobody
  writes more digits; a rounded answer to an exact reference (33.3 for 100/3) is another number, unless the query
  asks for rounding; an absolute error bound counts where the item carries one (OlympiadBench, TheoremQA);
* percent: ``50%`` is 0.5 and, as a question for a percentage wants, 50; 50 is not 0.5;
* units: may be left out on one side; two different ones differ; letters are no units (2t is not 2); "million" is a
  factor, not a unit;
* tuples, intervals and lists in square brackets keep their order, sets and enumerations do not; ``x < 2 or x > 3`` is
  a union of intervals, a column of a matrix may be written as a tuple [``collection``];
* relations [``relation``]: both sides must agree, or the equations be multiples; ``x = 5`` answers for 5, and
  ``5/6 ≈ 0.833`` for either number, since it states both;
* words [``text``]: compared as words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import Undefined
from dartlib.grading.equality.formulas import Rules, quick_leaf
from dartlib.grading.equality.notation import MAX_LENGTH, normalise, skeleton, tokenise
from dartlib.grading.equality.parsing import Item, read_answer
from dartlib.grading.equality.parsing_tokens import Meaningless, Unreadable
from dartlib.grading.equality.structures import compare_answers, nodes_of

MAX_FORMULA = 300  # characters of an answer that may reach SymPy
_ROUNDING = re.compile(
    r"\bround|\bnearest\b|decimal (?:place|digit|point)|significant (?:figure|digit)|approximat|\bestimate",
    re.IGNORECASE,
)
_FOR_SYMPY = re.compile(r"\\(?:int|iint|sum|prod|lim|partial|max|min|gcd)(?![a-z])")
_COMMA = re.compile(r"\s*,\s*")
_BASE = re.compile(r"\bbase\b|\b(?:binary|octal|hexadecimal|ternary)\b", re.IGNORECASE)
_CHOICE = re.compile(
    r"(?:(?i:(?:the )?(?:correct )?(?:option|choice|answer)\s*(?:is|:)?)\s*)?"
    r"\(?\s*([A-Ja-j])\s*\)?(?:[.:]\s.*|(?<=\))\s+[\w$\\].*)?",
    re.DOTALL,
)
_REFERENCE_CHOICE = re.compile(r"\(\s*[A-Za-z]\s*\)|[A-J]")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_SAYINGS = {
    "no solution": "no solution|no solutions|there is no solution|there are no solutions|\\emptyset|\\{ \\}",
    "no real solution": "no real solution|no real solutions|there is no real solution|there are no real solutions",
    "undefined": "undefined|not defined|it is undefined",
    "does not exist": "does not exist|dne|the limit does not exist|doesn't exist",
    "diverges": "diverges|divergent|the series diverges|the integral diverges|it diverges",
    "converges": "converges|convergent|the series converges|the integral converges|it converges",
    "all real numbers": "all real numbers|all reals|any real number|\\mathbb r|\\mathbb ( r )|x \\in \\mathbb ( r )"
    "|( - \\infty , \\infty )|- \\infty < x < \\infty|r",
}
_ARTICLE = re.compile(r"^(?:the|an?) (?=[a-z]{3})")
_CANONICAL_SAYING = {text: name for name, texts in _SAYINGS.items() for text in texts.split("|")}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two answers are equal, and by which rule (a reason code; ``limit:<name>`` where a limit decided)."""

    equal: bool
    reason: str


def answers_equal(*, gold: str, pred: str, tolerance: float | None = None, query: str | None = None) -> bool:
    """Whether ``pred`` is the answer ``gold``. Runs SymPy in this process: for trusted text and for tests."""
    decided = compare_fast(gold=gold, pred=pred, tolerance=tolerance, query=query)
    return (decided or compare_symbolic(gold=gold, pred=pred, tolerance=tolerance, query=query)).equal


def compare_fast(
    *, gold: str, pred: str, tolerance: float | None = None, query: str | None = None, as_text: bool = False
) -> Comparison | None:
    """Decide without SymPy; None when only it can tell. ``as_text``: the reference is words, whatever it looks like."""
    if max(len(gold), len(pred)) > MAX_LENGTH:
        return Comparison(False, "limit:length")
    left, right = normalise(gold), normalise(pred)
    if not left or not right:
        return Comparison(False, "empty")
    if left == right or _COMMA.sub(",", left) == _COMMA.sub(",", right) or skeleton(left) == skeleton(right) != "":
        return Comparison(True, "string")
    if decided := _compare_words(left, right):
        return decided
    if as_text:
        return Comparison(False, "text")
    rules = _rules(left, tolerance, query)
    try:
        answers = read_answer(left), read_answer(right)
        equal = compare_answers(*answers, rules, quick_leaf)
    except (Meaningless, Undefined):
        return Comparison(False, "undefined")
    except Unreadable:
        return _compare_unread(left, right)
    items = answers[0][1] + answers[1][1]
    if equal is not None:
        return Comparison(equal, _kind(items))
    if max(len(left), len(right)) > MAX_FORMULA:
        return Comparison(False, "limit:length")
    return _beyond_limits(items)


def compare_symbolic(*, gold: str, pred: str, tolerance: float | None = None, query: str | None = None) -> Comparison:
    """Compare with SymPy what ``compare_fast`` left open: may run for ever, so call it where it can be killed."""
    from dartlib.grading.equality import symbolic

    left, right = normalise(gold), normalise(pred)
    rules = _rules(left, tolerance, query)
    try:
        answers = read_answer(left), read_answer(right)
    except Unreadable:
        return Comparison(symbolic.equal_texts(left, right), "math-verify")
    return Comparison(bool(compare_answers(*answers, rules, symbolic.equal_formulas)), "symbolic")


def _rules(gold: str, tolerance: float | None, query: str | None) -> Rules:
    return Rules(
        tolerance=Fraction(tolerance) if tolerance is not None else None,
        decimal=re.search(r"\.\d|\d[eE]-?\d", gold) is not None,
        rounding=query is not None and _ROUNDING.search(query) is not None,
        base=query is not None and _BASE.search(query) is not None,
    )


def _compare_words(gold: str, pred: str) -> Comparison | None:
    """Choices, truth values and standing expressions; None when the answers are something else."""
    plain_gold, plain_pred = (text.replace("⟦", " ").replace("⟧", " ").strip() for text in (gold, pred))
    if _REFERENCE_CHOICE.fullmatch(plain_gold) and (choice := _CHOICE.fullmatch(plain_pred)):
        return Comparison(plain_gold.strip("() ").casefold() == choice.group(1).casefold(), "choice")
    truth = [_TRUTH.get(text.casefold()) for text in (plain_gold, plain_pred)]
    if None not in truth:
        return Comparison(truth[0] == truth[1], "text")
    words = [_ARTICLE.sub("", skeleton(text).casefold()) for text in (gold, pred)]
    if words[0] == words[1] and _is_prose(gold):
        return Comparison(True, "text")
    sayings = [_CANONICAL_SAYING.get(text) for text in words]
    if sayings[0] and sayings[1]:
        return Comparison(sayings[0] == sayings[1], "text")
    if all(_only_words(text) for text in (gold, pred)):
        return Comparison(False, "text")
    return None


def _only_words(text: str) -> bool:
    words = re.findall(r"[A-Za-z]+", text)
    return bool(words) and any(len(word) > 2 for word in words) and not re.search(r"[\d\\=+*/^_<>|]", text)


def _is_prose(text: str) -> bool:
    """Whether a word that belongs to no formula occurs."""
    return any(re.fullmatch(r"⟦.*⟧|[A-Za-z]{3,}|[AaPp][Mm]", token, re.DOTALL) for token in tokenise(text))


def _compare_unread(gold: str, pred: str) -> Comparison | None:
    """Answers that are no formula: the conclusion of a sentence, equal parts around equal words, else math-verify."""
    if (end := conclusion(pred)) and not _is_prose(gold):
        return compare_fast(gold=gold, pred=end) if end != pred else None
    if _is_prose(gold) or _is_prose(pred):
        return Comparison(False, "text")
    for text in (gold, pred):
        if name := exceeded_limit(text):
            return Comparison(False, f"limit:{name}")
    return None if _FOR_SYMPY.search(gold + pred) else Comparison(False, "unread")


_CONCLUSION = re.compile(r"(?:.*\b(?:is|are|equals|be|was|were|has|have|had)|.*:)\s+(.*)", re.DOTALL | re.IGNORECASE)
_DOUBTFUL = re.compile(
    r"\b(?:not|no|or|if|than|least|most|either|cannot|can't|depends|example|between|approximately|about)\b",
    re.IGNORECASE,
)


def conclusion(text: str) -> str | None:
    """What a sentence says at its end (``12 ways`` of ``There are 12 ways``), None when it hedges."""
    plain = re.sub(r"[⟦⟧]", " ", text)
    if _DOUBTFUL.search(plain) or (match := _CONCLUSION.fullmatch(plain)) is None:
        return None
    end = match.group(1).strip()
    return end if re.search(r"\d|\\pi", end) else None


def exceeded_limit(text: str) -> str | None:
    """The first limit that a text for SymPy breaks, by name, or None."""
    if len(text) > MAX_FORMULA:
        return "length"
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > 20:
            return "nesting"
    if re.search(r"\d[)}\s]*(?:\^|\*\*)\s*[{(\s]*-?\s*\d+[)}\s]*(?:\^|\*\*)", text):
        return "tower"
    if re.search(r"\^\s*\{[^{}]*\^\s*\{[^{}]*\^", text):
        return "tower"
    exponents = re.findall(r"(?:\^|\*\*)\s*[{(\s]*[+-]?\s*(\d+)", text)
    if any(len(digits) > 4 or int(digits) > algebra.MAX_INTEGER for digits in exponents):
        return "exponent"
    if re.search(r"!|\\binom|\\sqrt\s*\[", text):
        numbers = re.findall(r"\d+", text)
        large = any(len(digits) > 4 or int(digits) > algebra.MAX_INTEGER for digits in numbers)
        if large or "^" in text or re.search(r"![\s)}\]]*!", text):
            return "factorial"
    return None


def _beyond_limits(items: tuple[Item, ...]) -> Comparison | None:
    """Formulas that SymPy must not see; they have been compared by structure already."""
    names = (algebra.exceeded_limit(node) for item in items for node in nodes_of(item))
    name = next(filter(None, names), None)
    return Comparison(False, f"limit:{name}") if name else None


def _kind(items: tuple[Item, ...]) -> str:
    """The rule that decided, by what both answers hold together."""
    kinds = {item[0] for item in items}
    if len(items) != 2 or kinds & {"tuple", "set", "union", "matrix", "ratio"}:
        return "collection"
    if "relation" in kinds:
        return "relation"
    return "number" if all(item[1][0] == "num" for item in items) else "formula"

"""Are two final answers the same? One stated rule per type of answer; SymPy only for formulas that remain.

A wrong answer judged equal is worse than an equal one judged wrong, since it puts a bad solution into training
data: in doubt, the answers differ. The rules, in the order in which they are tried (the reason code in brackets):

* the same text in one spelling [``string``]: what looks the same on paper is the same;
* choices, truth values, times and words [``choice``, ``text``]: ``equality.words``;
* the form that the query asks for [``form``]: ``equality.asked``;
* numbers [``number``]: exact rational arithmetic. A decimal reference is met within 1e-6 relative and one unit of its
  last place; a rounded answer to an exact reference (33.3 for 100/3) is another number, unless the query asks for that
  place; an absolute error bound counts where the item carries one (OlympiadBench, TheoremQA);
* percent: ``50%`` is 0.5 and, where the query does not ask for a ratio, 50; 50 is not 0.5;
* units: may be left out on one side; two different ones differ; letters are no units (2t is not 2); "million" is a
  factor, not a unit, and so is what turns a number into another (5 halves, 12 squared);
* tuples, intervals and lists in square brackets keep their order, sets and enumerations do not; named values keep
  their names or their order; sets of reals are compared as such, however they are written [``collection``];
* relations [``relation``]: both sides must agree, or the equations be multiples; ``x = 5`` answers for 5, since a name
  stands before it, ``2x = 10`` does not answer for 10; ``5/6 ≈ 0.833`` for either number, since it states both;
* sentences: the number that one states (``equality.sentences``).
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import Undefined
from dartlib.grading.equality.asked import asked_of, lacks_form, without_question
from dartlib.grading.equality.formulas import Rules, quick_leaf
from dartlib.grading.equality.lists import nodes_of
from dartlib.grading.equality.notation import MAX_LENGTH, normalise, skeleton
from dartlib.grading.equality.parsing import Item, read_answer
from dartlib.grading.equality.parsing_tokens import Meaningless, Unreadable
from dartlib.grading.equality.sentences import conclusion, without_afterthought, without_index
from dartlib.grading.equality.structures import compare_answers
from dartlib.grading.equality.words import compare_words, is_prose

MAX_FORMULA = 300  # characters of an answer that may reach SymPy
_FOR_SYMPY = re.compile(r"\\(?:int|iint|sum|prod|lim|partial|max|min|gcd)(?![a-z])")
_COMMA = re.compile(r"\s*,\s*")
_LISTED = re.compile(r"[+-]?\d+(?: [+-]?\d+)+")
_CONSTANT = re.compile(r"(?<![A-Za-z\\])[Cc](?![A-Za-z])")
_BOUND = re.compile(r"\\(?:sum|prod) ?_ ?\{? ?([a-z]) ?=")
_NAMED = re.compile(r"^[^=\\]{1,12}= ?(?=.*\\(?:sum|prod))")


class Pair(NamedTuple):
    """What is compared: reference, answer, largest absolute error, the query, and the reference's type.

    The query may ask for a form. ``answer_type``: ``text`` for references that are words, whatever they look like,
    ``tuple`` for lists.
    """

    gold: str
    pred: str
    tolerance: float | None = None
    query: str | None = None
    answer_type: str = "number"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two answers are equal, and by which rule (a reason code; ``limit:<name>`` where a limit decided)."""

    equal: bool
    reason: str


def compare_fast(pair: Pair) -> Comparison | None:
    """Decide without SymPy; None when only it can tell."""
    if max(len(pair.gold), len(pair.pred)) > MAX_LENGTH:
        return Comparison(False, "limit:length")
    left, right = _prepared(pair)
    if not left or not right:
        return Comparison(False, "empty")
    if left == right or _COMMA.sub(",", left) == _COMMA.sub(",", right):
        return Comparison(True, "string")
    if skeleton(left) == skeleton(right) != "" and not (_LISTED.fullmatch(left) or _LISTED.fullmatch(right)):
        return Comparison(True, "string")
    if decided := compare_words(left, right):
        return Comparison(*decided)
    if pair.answer_type == "text":
        return Comparison(False, "text")
    if pair.query and lacks_form(left, right, pair.query):
        return Comparison(False, "form")
    rules = _rules(left, pair)
    decision = _compare_read(left, right, rules)
    if (decision is None or not decision.equal) and (stated := _stated(left, right)):
        return _compare_read(left, stated, rules)
    return decision


def compare_symbolic(pair: Pair) -> Comparison:
    """Compare with SymPy what ``compare_fast`` left open: may run for ever, so call it where it can be killed."""
    from dartlib.grading.equality import symbolic

    left, right = _prepared(pair)
    right = _stated(left, right) or right
    try:
        answers = read_answer(left), read_answer(right)
    except Unreadable:
        return Comparison(symbolic.equal_texts(left, right), "math-verify")
    return Comparison(bool(compare_answers(*answers, _rules(left, pair), symbolic.equal_formulas)), "symbolic")


def _prepared(pair: Pair) -> tuple[str, str]:
    """Both answers in one spelling, the answer without what is only said about it; letters that are free to choose
    (an integer n, a constant C, the index of a sum) are the same in both."""
    left, right = (normalise(without_afterthought(answer)) for answer in (pair.gold, pair.pred))
    if pair.query and "=" in right and "=" not in left:
        right = without_question(right, pair.query)
    if left == right:
        return left, right
    (left, first), (right, second) = without_index(left), without_index(right)
    if first or second:
        left, right = _renamed(left, first), _renamed(right, second)
    if left[-1:] != right[-1:] and left[-1:].casefold() == right[-1:].casefold() == "c":
        if len(_CONSTANT.findall(left)) == len(_CONSTANT.findall(right)) == 1 and left[:-1].rstrip()[-1:] == "+":
            right = right[:-1] + left[-1]
    if (one := _BOUND.search(left)) and (other := _BOUND.search(right)):
        left, right = (
            _renamed(_NAMED.sub("", text), bound.group(1), "\\iota ") for text, bound in ((left, one), (right, other))
        )
    return left, right


def _renamed(text: str, letter: str | None, to: str = "n") -> str:
    """The text with its index under another name."""
    found = [name for name in ("k", "m", "l", "n") if re.search(rf"(?<![A-Za-z\\]){name}(?![A-Za-z])", text)]
    letter = letter or (found[0] if len(found) == 1 else None)
    if letter is None or letter != to and to in found:
        return text
    return re.sub(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", lambda _: to, text)


def _stated(gold: str, pred: str) -> str | None:
    """What the answer states in a sentence, where the reference is no sentence."""
    end = None if is_prose(gold) else conclusion(pred)
    return normalise(end) if end else None


def _rules(gold: str, pair: Pair) -> Rules:
    asked = asked_of(pair.query or "")
    return Rules(
        tolerance=Fraction(pair.tolerance) if pair.tolerance is not None else None,
        decimals=max(map(len, re.findall(r"\.(\d+)", gold)), default=20 * bool(re.search(r"\d[eE]-\d", gold))),
        asked=asked,
        listed=pair.answer_type == "tuple" or asked.listed,
    )


def _compare_read(left: str, right: str, rules: Rules) -> Comparison | None:
    """Two prepared answers as formulas and collections."""
    try:
        answers = read_answer(left), read_answer(right)
        equal = compare_answers(*answers, rules, quick_leaf)
    except (Meaningless, Undefined):
        return Comparison(False, "undefined")
    except (Unreadable, RecursionError):
        return _compare_unread(left, right)
    items = answers[0][1] + answers[1][1]
    if equal is not None:
        return Comparison(equal, _kind(items))
    if max(len(left), len(right)) > MAX_FORMULA:
        return Comparison(False, "limit:length")
    return _beyond_limits(items)


def _compare_unread(gold: str, pred: str) -> Comparison | None:
    """Answers that are no formula: equal words, else math-verify within the limits."""
    if is_prose(gold) or is_prose(pred):
        return Comparison(False, "text")
    for text in (gold, pred):
        if name := exceeded_limit(text):
            return Comparison(False, f"limit:{name}")
    return None if _FOR_SYMPY.search(gold + pred) else Comparison(False, "unread")


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
    if len(items) != 2 or kinds & {"tuple", "set", "union", "meet", "minus", "matrix", "ratio", "cases"}:
        return "collection"
    if "relation" in kinds:
        return "relation"
    return "number" if all(item[1][0] == "num" for item in items) else "formula"

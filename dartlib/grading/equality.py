"""Are two final answers the same? One stated rule per type of answer; SymPy only for formulas that remain.

A wrong answer judged equal is worse than an equal one judged wrong, since it puts a bad solution into training
data: in doubt, the answers differ. The rules, in the order in which they are tried (the reason code in brackets):

* the same text in one spelling [``string``]: what looks the same on paper is the same;
* choices [``choice``]: the letter counts; ``True`` and ``yes`` are one word [``text``];
* numbers [``number``]: exact rational arithmetic. A decimal reference is met within 1e-6 relative, since nobody
  writes more digits; a rounded answer to an exact reference (33.3 for 100/3) is another number, unless the query
  asks for rounding; an absolute error bound counts where the item carries one (OlympiadBench, TheoremQA);
* percent: ``50%`` is 0.5 and, as a question for a percentage wants, 50; 50 is not 0.5;
* units: may be left out on one side; two different ones differ; letters are no units (2t is not 2);
* tuples, intervals and lists in square brackets keep their order, sets and enumerations do not [``collection``];
* relations [``relation``]: both sides must agree, or the equations be multiples; ``x = 5`` answers for 5;
* words [``text``]: compared as words.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from dartlib.grading import algebra
from dartlib.grading.algebra import MINUS_ONE, Node, Undefined
from dartlib.grading.notation import FUNCTIONS, MAX_LENGTH, normalise, skeleton, tokenise
from dartlib.grading.reading import Item, Meaningless, Unreadable, read_answer
from dartlib.grading.units import same_unit

MAX_FORMULA = 300  # characters of an answer that may reach SymPy
DECIMAL_PRECISION = Fraction(1, 10**6)  # relative, of a reference that is written as a decimal
FLOAT_NOISE = 1e-8  # relative: formulas whose values differ by more are different
_ROUNDING = re.compile(
    r"\bround|\bnearest\b|decimal (?:place|digit|point)|significant (?:figure|digit)|approximat|\bestimate", re.IGNORECASE
)
_FOR_SYMPY = re.compile(r"\\(?:int|iint|sum|prod|lim|partial|max|min|gcd)(?![a-z])")
_COMMA = re.compile(r"\s*,\s*")
_BASE = re.compile(r"\bbase\b|\b(?:binary|octal|hexadecimal|ternary)\b", re.IGNORECASE)
_CHOICE = re.compile(r"(?:(?:option|choice|answer)\s*:?\s*)?\(?\s*([A-Ja-j])\s*\)?(?:[.:]\s.*|(?<=\))\s+[\w$\\].*)?", re.DOTALL)
_REFERENCE_CHOICE = re.compile(r"\(\s*[A-Za-z]\s*\)|[A-J]")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_SAYINGS = {
    "no solution": "no solution|no solutions|there is no solution|there are no solutions|\\emptyset|\\{ \\}",
    "does not exist": "does not exist|dne|the limit does not exist|doesn't exist",
    "diverges": "diverges|divergent|the series diverges|the integral diverges|it diverges",
    "converges": "converges|convergent|the series converges|the integral converges|it converges",
    "all real numbers": "all real numbers|all reals|\\mathbb R|\\mathbb ( R )|( - \\infty , \\infty )|r",
}
_CANONICAL_SAYING = {text: name for name, texts in _SAYINGS.items() for text in texts.split("|")}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two answers are equal, and by which rule (a reason code; ``limit:<name>`` where a limit decided)."""

    equal: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the item says about equality. ``tolerance``: largest absolute error; ``decimal``: the reference is one."""

    tolerance: Fraction | None = None
    decimal: bool = False
    rounding: bool = False
    base: bool = False


Leaf = Callable[[Node, Node, Rules], "bool | None"]


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
    if left == right or _COMMA.sub(",", left) == _COMMA.sub(",", right) or skeleton(left) == skeleton(right):
        return Comparison(True, "string")
    if decided := _compare_words(left, right):
        return decided
    if as_text:
        return Comparison(False, "text")
    rules = _rules(left, tolerance, query)
    try:
        equal = _compare_answers(read_answer(left), read_answer(right), rules, quick_leaf)
    except Meaningless:
        return Comparison(False, "undefined")
    except Unreadable:
        return _compare_unread(left, right)
    if equal is not None:
        return Comparison(equal, _kind(left, right))
    return _beyond_limits(left, right)


def compare_symbolic(
    *, gold: str, pred: str, tolerance: float | None = None, query: str | None = None
) -> Comparison:
    """Compare with SymPy what ``compare_fast`` left open: may run for ever, so call it where it can be killed."""
    from dartlib.grading import symbolic

    left, right = normalise(gold), normalise(pred)
    rules = _rules(left, tolerance, query)
    try:
        answers = read_answer(left), read_answer(right)
    except Unreadable:
        return Comparison(symbolic.equal_texts(left, right), "math-verify")
    return Comparison(bool(_compare_answers(*answers, rules, symbolic.equal_formulas)), "symbolic")


def quick_leaf(gold: Node, pred: Node, rules: Rules) -> bool | None:
    """Two formulas by structure, exact numbers and floating-point values; None when they look equal."""
    if gold == pred:
        return True
    difference = algebra.add([gold, algebra.multiply([MINUS_ONE, pred])])
    if difference[0] == "num" and not algebra.symbols_of(gold):
        if gold[0] == pred[0] == "num":
            return close_enough(gold[1], pred[1], rules)
        return difference[1] == 0
    if _is_based(gold, pred, rules):
        return True
    if algebra.exceeded_limit(gold) or algebra.exceeded_limit(pred):
        return None
    return _by_values(gold, pred, rules)


def close_enough(gold: Fraction, pred: Fraction, rules: Rules) -> bool:
    """The rule for plain numbers."""
    error = abs(gold - pred)
    if error == 0 or rules.tolerance is not None and error <= rules.tolerance:
        return True
    if rules.decimal and error <= DECIMAL_PRECISION * abs(gold):
        return True
    return rules.rounding and _rounded(gold, pred)


def _rounded(gold: Fraction, pred: Fraction) -> bool:
    """Whether one is the other rounded to its own last digit, neither to fewer than two digits."""
    coarse, fine = (gold, pred) if _decimals(gold) < _decimals(pred) else (pred, gold)
    places = _decimals(coarse)
    digits = len(str(abs(coarse.numerator * 10**places // coarse.denominator))) if places < 30 else 0
    return digits >= 2 and _decimals(fine) > places and 2 * abs(coarse - fine) * 10**places <= 1


def _decimals(value: Fraction) -> int:
    """Digits after the point; 30 stands for endless or too many."""
    return next((places for places in range(30) if (10**places) % value.denominator == 0), 30)


def _is_based(gold: Node, pred: Node, rules: Rules) -> bool:
    """``2516_8`` may be answered as 2516 when the query says which base."""
    if not rules.base or {gold[0], pred[0]} != {"sym", "num"}:
        return False
    named, plain = (gold, pred) if gold[0] == "sym" else (pred, gold)
    return plain[1].denominator == 1 and re.fullmatch(rf"{plain[1]}_(?:\d+)", named[1], re.ASCII) is not None


_POINTS = [random.Random(seed) for seed in range(4)]
_VALUES: dict[tuple[str, int], float] = {}


def _by_values(gold: Node, pred: Node, rules: Rules) -> bool | None:
    """False when the values differ somewhere; constants are also held against the tolerance of the item."""
    names = algebra.symbols_of(gold) | algebra.symbols_of(pred)
    signed = any(part[:2] == ("fun", "abs") for node in (gold, pred) for part in algebra.parts_of(node))
    seen = False
    for point in range(6 if names else 1):
        sign = -1.0 if signed and point % 2 else 1.0
        values = {name: complex(sign * _value_of(name, point)) for name in names}
        try:
            first, second = algebra.evaluate(gold, values), algebra.evaluate(pred, values)
        except Undefined:
            continue
        if not (math.isfinite(abs(first)) and math.isfinite(abs(second))):
            if not names and first == second:
                return None
            if not names:
                return False
            continue
        seen = True
        error, scale = abs(first - second), max(abs(first), abs(second))
        if error > FLOAT_NOISE * scale:
            return not names and _within_bounds(first, second, rules)
    return None if seen or not names else None


def _within_bounds(gold: complex, pred: complex, rules: Rules) -> bool:
    if abs(gold.imag) > 1e-12 or abs(pred.imag) > 1e-12:
        return False
    return close_enough(Fraction(gold.real), Fraction(pred.real), Rules(rules.tolerance, rules.decimal)) or (
        rules.rounding and _rounded_float(gold.real, pred.real)
    )


def _rounded_float(gold: float, pred: float) -> bool:
    """One of the two is a short decimal and the other rounds to it."""
    return any(
        _rounded(Fraction(repr(short)), Fraction(long)) for short, long in ((gold, pred), (pred, gold)) if len(repr(short)) < 12
    )


def _value_of(name: str, point: int) -> float:
    """A value in (0.3, 2.3) that depends on the name and the point alone."""
    if (name, point) not in _VALUES:
        if len(_VALUES) > 100_000:
            _VALUES.clear()
        _VALUES[name, point] = 0.3 + 2 * random.Random(f"{name}:{point}").random()
    return _VALUES[name, point]


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
    words = [skeleton(text).casefold() for text in (gold, pred)]
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
    return any(re.fullmatch(r"⟦.*⟧|[A-Za-z]{3,}", token, re.DOTALL) for token in tokenise(text))


def _compare_unread(gold: str, pred: str) -> Comparison | None:
    """Answers that are no formula: the conclusion of a sentence, equal parts around equal words, else math-verify."""
    if (end := conclusion(pred)) and not _is_prose(gold):
        return compare_fast(gold=gold, pred=end) if end != pred else None
    if _is_prose(gold) or _is_prose(pred):
        return Comparison(False, "text")
    if not _FOR_SYMPY.search(gold + pred):
        return Comparison(False, "unread")
    for text in (gold, pred):
        if name := exceeded_limit(text):
            return Comparison(False, f"limit:{name}")
    return None


_CONCLUSION = re.compile(r"(?:.*\b(?:is|are|equals|be|was|were|has|have|had)|.*:)\s+(.*)", re.DOTALL | re.IGNORECASE)
_DOUBTFUL = re.compile(r"\b(?:not|no|or|if|than|least|most|either|cannot|can't|depends|example|between|approximately|about)\b", re.IGNORECASE)


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
    exponents = re.findall(r"(?:\^|\*\*)\s*[{(\s]*[+-]?\s*(\d+)", text)
    if any(len(digits) > 4 or int(digits) > algebra.MAX_INTEGER for digits in exponents):
        return "exponent"
    if "!" in text:
        numbers = re.findall(r"\d+", text)
        large = any(len(digits) > 4 or int(digits) > algebra.MAX_INTEGER for digits in numbers)
        if large or "^" in text or re.search(r"![\s)}\]]*!", text):
            return "factorial"
    return None


def _beyond_limits(left: str, right: str) -> Comparison | None:
    """Formulas that SymPy must not see; they have been compared by structure already."""
    for text in (left, right):
        if len(text) > MAX_FORMULA:
            return Comparison(False, "limit:length")
        for item in read_answer(text)[1]:
            for node in _nodes(item):
                if name := algebra.exceeded_limit(node):
                    return Comparison(False, f"limit:{name}")
    return None


def _nodes(item: Item) -> list[Node]:
    """All formulas of an item."""
    if item[0] == "value":
        return [item[1]]
    if item[0] == "matrix":
        return [node for row in item[1] for part in row for node in _nodes(part)]
    return [node for part in item[-1] for node in _nodes(part)]


def _kind(left: str, right: str) -> str:
    kinds = {item[0] for item in (*read_answer(left)[1], *read_answer(right)[1])}
    if len(read_answer(left)[1]) != 1 or len(read_answer(right)[1]) != 1 or kinds & {"tuple", "set", "union", "matrix", "ratio"}:
        return "collection"
    if "relation" in kinds:
        return "relation"
    nodes = [node for text in (left, right) for item in read_answer(text)[1] for node in _nodes(item)]
    return "number" if all(node[0] == "num" for node in nodes) else "formula"


# --- items -----------------------------------------------------------------------------------------------------


def _compare_answers(
    gold: tuple[bool, tuple[Item, ...]], pred: tuple[bool, tuple[Item, ...]], rules: Rules, leaf: Leaf
) -> bool | None:
    """Whole answers: an enumeration is unordered, a list in square brackets or by spaces is not."""
    (gold_ordered, golds), (pred_ordered, preds) = gold, pred
    if len(golds) == 1 and len(preds) == 1:
        return _compare_items(golds[0], preds[0], rules, leaf)
    golds, gold_ordered = _opened(golds, gold_ordered, len(preds) > 1)
    preds, pred_ordered = _opened(preds, pred_ordered, len(golds) > 1)
    if len(golds) != len(preds):
        return False
    golds, preds = _unnamed(golds, preds)
    if gold_ordered or pred_ordered:
        return _all(_compare_items(g, p, rules, leaf) for g, p in zip(golds, preds, strict=True))
    return _matched(golds, preds, rules, leaf)


def _opened(items: tuple[Item, ...], ordered: bool, other_is_bare: bool) -> tuple[tuple[Item, ...], bool]:
    """The members of a collection that the other answer enumerates without brackets."""
    if len(items) == 1 and other_is_bare:
        if items[0][0] == "set":
            return items[0][1], False
        if items[0][0] == "tuple" and items[0][1:3] == ("[", "]"):
            return items[0][3], True
    return items, ordered


def _unnamed(golds: tuple[Item, ...], preds: tuple[Item, ...]) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """``x = 1, 2`` names once what it enumerates."""
    return _spread(golds), _spread(preds)


def _spread(items: tuple[Item, ...]) -> tuple[Item, ...]:
    first = items[0]
    if first[0] == "relation" and first[1] in (("=",), ("in",)) and all(item[0] != "relation" for item in items[1:]):
        return (first[2][-1], *items[1:])
    return items


def _compare_items(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Two items of whatever kinds."""
    gold, pred = _simplified(gold, pred), _simplified(pred, gold)
    if gold == pred:
        return True
    if gold[0] != pred[0]:
        return _compare_kinds(gold, pred, rules, leaf)
    if gold[0] == "value":
        return _compare_values(gold, pred, rules, leaf)
    if gold[0] == "relation":
        return _compare_relations(gold, pred, rules, leaf)
    if gold[0] == "matrix":
        if [len(row) for row in gold[1]] != [len(row) for row in pred[1]]:
            return False
        pairs = zip(sum(gold[1], ()), sum(pred[1], ()), strict=True)
        return _all(_compare_items(g, p, rules, leaf) for g, p in pairs)
    if len(gold[-1]) != len(pred[-1]) and gold[0] != "set":
        return False
    if gold[0] == "set":
        return _compare_sets(gold[1], pred[1], rules, leaf)
    if gold[0] == "union":
        return _matched(gold[1], pred[1], rules, leaf)
    if gold[0] == "tuple" and gold[1:3] != pred[1:3]:
        return False
    return _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[-1], pred[-1], strict=True))


def _simplified(item: Item, other: Item) -> Item:
    """An inequality as an interval beside an interval; the named value beside a value."""
    if item[0] == "relation" and other[0] != "relation":
        operators, sides = item[1], item[2]
        if operators[-1] in ("=", "~", "in") and set(operators) <= {"=", "~", "in"}:
            return sides[-1] if len(sides) > 2 or _is_name(sides[0]) or not _has_symbols(sides[-1]) else item
        if other[0] in ("tuple", "union") and (interval := _interval(operators, sides)):
            return interval
    if item[0] == "set" and len(item[1]) == 1 and other[0] == "value":
        return item[1][0]  # type: ignore[no-any-return]
    return item


def _has_symbols(item: Item) -> bool:
    return any(algebra.symbols_of(node) for node in _nodes(item))


def _is_name(item: Item) -> bool:
    """``x``, ``f(x)``, ``y'``, ``E(W)``, ``x + y`` ...: a side that only names what the other side gives."""
    if item[0] == "value" and not item[2]:
        node = item[1]
        return node[0] == "sym" or (
            node[0] == "mul" and all(part[0] == "sym" or part[0] == "pow" and part[1][0] == "sym" for part in node[1])
        )
    return item[0] == "tuple" and all(_is_name(part) for part in item[3])


def _interval(operators: Sequence[str], sides: Sequence[Item]) -> Item | None:
    """``a < x <= b`` as ``(a, b]``."""
    infinity = algebra.symbol("∞")
    minus = algebra.multiply([MINUS_ONE, infinity])
    if set(operators) - {"<", "<="}:
        return None
    if len(sides) == 3 and _is_name(sides[1]):
        return ("tuple", "[" if operators[0] == "<=" else "(", "]" if operators[1] == "<=" else ")", (sides[0], sides[2]))
    if len(sides) == 2 and _is_name(sides[0]):
        return ("tuple", "(", "]" if operators[0] == "<=" else ")", (("value", minus, ""), sides[1]))
    if len(sides) == 2 and _is_name(sides[1]):
        return ("tuple", "[" if operators[0] == "<=" else "(", ")", (sides[0], ("value", infinity, "")))
    return None


def _compare_kinds(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Different kinds are different answers, but for sets that are intervals or lists in square brackets."""
    if {gold[0], pred[0]} == {"matrix", "tuple"}:
        matrix, row = (gold, pred) if gold[0] == "matrix" else (pred, gold)
        if len(matrix[1]) == 1 and row[1:3] == ("[", "]"):
            return _compare_items(("tuple", "[", "]", matrix[1][0]), row, rules, leaf)
    return False


def _compare_values(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Formulas with units; the percent sign is a factor of 1/100 or, as a question for percent wants, a unit."""
    (_, left, left_unit), (_, right, right_unit) = gold, pred
    if (left_unit == "%") == (right_unit == "%"):
        return leaf(left, right, rules) if same_unit(left_unit, right_unit) else False
    if left_unit not in ("", "%") or right_unit not in ("", "%"):
        return False
    hundredth = algebra.number(Fraction(1, 100))
    bare, signed = (right, left) if left_unit == "%" else (left, right)
    as_unit = leaf(left, right, rules) if not (bare[0] == "num" and abs(bare[1]) < 1) else False
    if as_unit:
        return True
    scaled = algebra.multiply([hundredth, signed])
    as_factor = leaf(scaled, right, rules) if left_unit == "%" else leaf(left, scaled, rules)
    return as_factor if as_factor or as_unit is False else None


def _compare_relations(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Sides pairwise; an equation may be turned round or multiplied."""
    if len(gold[2]) != len(pred[2]):
        shorter = min(len(gold[2]), len(pred[2]))
        if shorter == 2 and _all_equal_signs(gold) and _all_equal_signs(pred):
            ends = [(item[2][0], item[2][-1]) for item in (gold, pred)]
            return _all(_compare_items(g, p, rules, leaf) for g, p in zip(*ends, strict=True))
        return False
    if gold[1] != pred[1]:
        return False
    straight = _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[2], pred[2], strict=True))
    if straight or len(gold[2]) != 2 or gold[1] not in (("=",), ("!=",)):
        return straight
    turned = _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[2], pred[2][::-1], strict=True))
    if turned or any(side[0] != "value" or side[2] for side in (*gold[2], *pred[2])):
        return turned
    proportional = _proportional(*(_difference(item[2]) for item in (gold, pred)), rules, leaf)
    return proportional if proportional is not False else (None if None in (straight, turned) else False)


def _all_equal_signs(item: Item) -> bool:
    return set(item[1]) <= {"=", "~"}


def _difference(sides: Sequence[Item]) -> Node:
    return algebra.add([sides[0][1], algebra.multiply([MINUS_ONE, sides[1][1]])])


def _proportional(gold: Node, pred: Node, rules: Rules, leaf: Leaf) -> bool | None:
    """Whether one formula is a constant multiple of the other (both with variables)."""
    names = algebra.symbols_of(gold)
    if not names or names != algebra.symbols_of(pred):
        return False
    values = {name: complex(_value_of(name, 7)) for name in names}
    try:
        ratio = algebra.evaluate(gold, values) / algebra.evaluate(pred, values)
    except (Undefined, ZeroDivisionError):
        return False
    factor = Fraction(ratio.real).limit_denominator(10**4) if math.isfinite(abs(ratio)) else Fraction(0)
    if not factor or abs(ratio - float(factor)) > 1e-9 * abs(ratio):
        return False
    return leaf(gold, algebra.multiply([algebra.number(factor), pred]), Rules())


def _compare_sets(gold: Sequence[Item], pred: Sequence[Item], rules: Rules, leaf: Leaf) -> bool | None:
    """Each member of one is in the other; how often it is written does not matter."""
    one_way = _all(_any(_compare_items(g, p, rules, leaf) for p in pred) for g in gold)
    return _all([one_way, _all(_any(_compare_items(g, p, rules, leaf) for g in gold) for p in pred)])


def _matched(golds: Sequence[Item], preds: Sequence[Item], rules: Rules, leaf: Leaf) -> bool | None:
    """Whether the items can be paired off in some order. Equality is taken to be transitive."""
    remaining, undecided = list(preds), False
    for gold in golds:
        verdicts = [_compare_items(gold, pred, rules, leaf) for pred in remaining]
        if True in verdicts:
            remaining.pop(verdicts.index(True))
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _all(verdicts: object) -> bool | None:
    """Three-valued "and"."""
    result: bool | None = True
    for verdict in verdicts:  # type: ignore[attr-defined]
        if verdict is False:
            return False
        if verdict is None:
            result = None
    return result


def _any(verdicts: object) -> bool | None:
    """Three-valued "or"."""
    result: bool | None = False
    for verdict in verdicts:  # type: ignore[attr-defined]
        if verdict:
            return True
        if verdict is None:
            result = None
    return result

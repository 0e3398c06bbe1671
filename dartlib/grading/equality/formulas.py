"""Two formulas: exact numbers, the rules for decimals and error bounds, values in floating point. No SymPy."""

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import MINUS_ONE, Node, Undefined
from dartlib.grading.equality.asked import Asked

DECIMAL_PRECISION = Fraction(1, 10**6)  # relative, of a reference that is written as a decimal
FLOAT_NOISE = 1e-8  # relative: formulas whose values differ by more are different
POINTS = 6  # at which formulas with variables are evaluated


@dataclass(frozen=True, slots=True)
class Rules:
    """What the item says about equality. ``tolerance``: largest absolute error; ``decimals``: most digits after a
    point in the reference; ``asked``: the form that its query wants; ``listed``: the answer is a list, no interval."""

    tolerance: Fraction | None = None
    decimals: int = 0
    asked: Asked = Asked()
    listed: bool = False


Leaf = Callable[[Node, Node, Rules], "bool | None"]


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
    """The rule for plain numbers.

    A decimal is met within 1e-6 relative and within one unit of the last place written anywhere in the reference; an
    integer or exact fraction beside a decimal stays exact.
    """
    error = abs(gold - pred)
    if error == 0 or rules.tolerance is not None and error <= rules.tolerance:
        return True
    if rules.decimals and 0 < _decimals(gold) < 30:
        unit = max(Fraction(1, 10**rules.decimals), Fraction(1, 10**9) * abs(gold))
        if error <= DECIMAL_PRECISION * abs(gold) and error < unit:
            return True
    return _rounded(gold, pred, rules.asked)


def _rounded(gold: Fraction, pred: Fraction, asked: Asked) -> bool:
    """Whether the answer is the reference at the place asked for, or a finer value that rounds to the reference.

    An answer that is coarser than both the reference and what was asked for is never right (4.1 for 4.14).
    """
    if not asked.rounded or not gold:
        return False
    places = asked.places
    if places is None and asked.digits is not None:
        places = asked.digits - 1 - math.floor(math.log10(abs(gold)))
    if places is not None:
        unit = Fraction(10) ** -places
        if pred and not pred % unit and gold % unit and abs(gold - pred) <= unit / 2:
            return True
    written = max(_decimals(gold), places or 0)
    if written == 30 or places is not None and places < 0:
        return False
    digits = len(str(abs(gold.numerator * 10**written // gold.denominator)))
    if digits < (3 if places is None else 2) or not written and places is None:
        return False
    return _decimals(pred) > written and 2 * abs(gold - pred) * 10**written <= 1


def _decimals(value: Fraction) -> int:
    """Digits after the point; 30 stands for endless or too many."""
    return next((places for places in range(30) if (10**places) % value.denominator == 0), 30)


def _is_based(gold: Node, pred: Node, rules: Rules) -> bool:
    """``2516_8`` may be answered as 2516 when the query says which base."""
    minus = [node[0] == "mul" and node[1][0] == MINUS_ONE and len(node[1]) == 2 for node in (gold, pred)]
    gold, pred = (node[1][1] if turned else node for node, turned in zip((gold, pred), minus, strict=True))
    if {gold[0], pred[0]} != {"sym", "num"}:
        return False
    named, plain, sign = (gold, pred, minus[0]) if gold[0] == "sym" else (pred, gold, minus[1])
    base = r"(?:\d+|[a-z])" if rules.asked.base else "[a-z]"  # 100100_b leaves open which base
    digits = -plain[1] if sign else plain[1]
    return digits.denominator == 1 and re.fullmatch(rf"{digits}_{base}", named[1], re.ASCII) is not None


def _by_values(gold: Node, pred: Node, rules: Rules) -> bool | None:
    """False when the values differ somewhere; constants are also held against the tolerance of the item.

    Formulas are held against each other at positive and at mixed points, steps (floor, ceiling) at large ones too. A
    point with a negative value counts only where all parts of both are real there (``2\\ln x`` is ``\\ln x^2`` where it
    is defined, ``\\sqrt{x^2}`` is not ``x``), and not at all where the query says that its variables are positive.
    """
    names = algebra.symbols_of(gold) | algebra.symbols_of(pred)
    if not names:
        return _constants(gold, pred, rules)
    functions = {part[1] for node in (gold, pred) for part in algebra.parts_of(node) if part[0] == "fun"}
    mixed = 0 if rules.asked.positive else POINTS
    for point in range(POINTS + mixed):
        scale = 10.0 ** (point % 4) if functions & {"floor", "ceil"} else 1.0
        values = {name: complex(scale * value_of(name, point, signed=point >= POINTS)) for name in names}
        try:
            first, second = algebra.evaluate(gold, values), algebra.evaluate(pred, values)
        except Undefined:
            continue
        if not (math.isfinite(abs(first)) and math.isfinite(abs(second))):
            continue
        if abs(first - second) <= FLOAT_NOISE * max(abs(first), abs(second)):
            continue
        if point < POINTS or "abs" in functions or _is_real(gold, values) and _is_real(pred, values):
            return False
    return None


def _is_real(node: Node, values: Mapping[str, complex]) -> bool:
    """Whether every part of the formula is a real number there: no root or logarithm of a negative one."""
    parts = [algebra.evaluate(part, values) for part in algebra.parts_of(node)]
    return all(abs(part.imag) <= FLOAT_NOISE * abs(part) for part in parts)


def _constants(gold: Node, pred: Node, rules: Rules) -> bool | None:
    try:
        first, second = algebra.evaluate(gold, {}), algebra.evaluate(pred, {})
    except Undefined:
        return None
    if not (math.isfinite(abs(first)) and math.isfinite(abs(second))):
        return None if first == second else False
    if _within_bounds(gold, pred, first, second, rules):
        return True
    return None if abs(first - second) <= FLOAT_NOISE * max(abs(first), abs(second)) else False


def _within_bounds(gold: Node, pred: Node, first: complex, second: complex, rules: Rules) -> bool:
    is_decimal = rules.decimals and gold[0] == "num" and 0 < _decimals(gold[1]) < 30
    if first == second and not is_decimal or max(abs(first.imag), abs(second.imag)) > 1e-12:
        return False
    exact = [node[1] if node[0] == "num" else Fraction(value.real) for node, value in ((gold, first), (pred, second))]
    return close_enough(exact[0], exact[1], rules)


@lru_cache(maxsize=1 << 14)
def value_of(name: str, point: int, *, signed: bool = False) -> float:
    """A value in (0.3, 2.3), ``signed``: or its negative, that depends on the name and the point alone."""
    drawn = random.Random(f"{name}:{point}")
    value = 0.3 + 2 * drawn.random()
    return -value if signed and drawn.random() < 0.6 else value

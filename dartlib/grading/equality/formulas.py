"""Two formulas: exact numbers, the rules for decimals and error bounds, values in floating point. No SymPy."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import MINUS_ONE, Node, Undefined

DECIMAL_PRECISION = Fraction(1, 10**6)  # relative, of a reference that is written as a decimal
FLOAT_NOISE = 1e-8  # relative: formulas whose values differ by more are different
POINTS = 6  # at which formulas with variables are evaluated


@dataclass(frozen=True, slots=True)
class Rules:
    """What the item says about equality. ``tolerance``: largest absolute error; ``decimal``: the reference is one."""

    tolerance: Fraction | None = None
    decimal: bool = False
    rounding: bool = False
    base: bool = False


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


def _by_values(gold: Node, pred: Node, rules: Rules) -> bool | None:
    """False when the values differ somewhere; constants are also held against the tolerance of the item."""
    names = algebra.symbols_of(gold) | algebra.symbols_of(pred)
    signed = any(part[:2] == ("fun", "abs") for node in (gold, pred) for part in algebra.parts_of(node))
    seen = False
    for point in range(POINTS if names else 1):
        sign = -1.0 if signed and point % 2 else 1.0
        values = {name: complex(sign * value_of(name, point)) for name in names}
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
        _rounded(Fraction(repr(short)), Fraction(long))
        for short, long in ((gold, pred), (pred, gold))
        if len(repr(short)) < 12
    )


@lru_cache(maxsize=1 << 14)
def value_of(name: str, point: int) -> float:
    """A value in (0.3, 2.3) that depends on the name and the point alone."""
    return 0.3 + 2 * random.Random(f"{name}:{point}").random()

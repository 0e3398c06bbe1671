"""The part of equality that needs SymPy. Only workers that can be killed call it.

Formulas that our reader understood are built from SymPy's constructors, so no text is parsed. What it could not
read goes to math-verify's LaTeX parser, after the limits of ``equality.exceeded_limit``.
"""

from fractions import Fraction
from typing import Any

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import Node
from dartlib.grading.equality.formulas import Rules, quick_leaf

DIGITS = 30  # to which two formulas must agree
EXTRA_DIGITS = 400  # spent on telling a tiny difference from none
POINTS = 3  # rational points at which formulas with variables must agree


def equal_formulas(gold: Node, pred: Node, rules: Rules) -> bool:
    """Whether two formulas have the same value, everywhere if they hold variables."""
    decided = quick_leaf(gold, pred, rules)
    if decided is not None:
        return decided
    if algebra.exceeded_limit(gold) or algebra.exceeded_limit(pred):
        return False
    names = sorted(algebra.symbols_of(gold) | algebra.symbols_of(pred))
    if not names:
        return _is_zero(_build(gold, {}) - _build(pred, {}))
    import sympy

    seen = 0
    for point in range(2 * POINTS):
        values = {
            name: sympy.Rational(37 * (place + 3) + 11 * point, 29 + 7 * ((place * point) % 5) + place)
            for place, name in enumerate(names)
        }
        difference = _build(gold, values) - _build(pred, values)
        if difference.has(sympy.zoo, sympy.nan, sympy.oo):
            continue
        if not _is_zero(difference):
            return False
        seen += 1
        if seen == POINTS:
            return True
    return False


def equal_texts(gold: str, pred: str) -> bool:
    """math-verify's judgement of two LaTeX texts in both directions, its own time limits off."""
    from math_verify import LatexExtractionConfig, parse, verify
    from math_verify.parser import NormalizationConfig

    spelling = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    config = LatexExtractionConfig(normalization_config=spelling)
    sides = [
        parse(f"${text}$", extraction_config=[config], fallback_mode="no_fallback", parsing_timeout=None)
        for text in (gold, pred)
    ]
    if not all(sides):
        return False
    return all(verify(*pair, timeout_seconds=None, float_rounding=12, strict=True) for pair in (sides, sides[::-1]))


def _is_zero(value: Any) -> bool:
    import sympy

    if value == 0:
        return True
    number = sympy.N(value, DIGITS, maxn=EXTRA_DIGITS)
    if not number.is_number or number.has(sympy.nan, sympy.zoo, sympy.oo):
        return False
    parts = number.as_real_imag()
    # evalf returns a digit or two, of no significance, when all its extra digits cancelled.
    return all(
        part == 0 or (part.is_Float and part._prec <= 4) or abs(part) < sympy.Float(10) ** -EXTRA_DIGITS
        for part in parts
    )


def _build(node: Node, values: dict[str, Any]) -> Any:
    """The SymPy object of a formula with its variables replaced by ``values``."""
    import sympy

    kind = node[0]
    if kind == "num":
        value: Fraction = node[1]
        return sympy.Rational(value.numerator, value.denominator)
    if kind == "sym":
        constants = {"π": sympy.pi, "e": sympy.E, "i": sympy.I, "∞": sympy.oo, "degree": sympy.pi / 180}
        return constants[node[1]] if node[1] in constants else values[node[1]]
    if kind == "add":
        return sympy.Add(*(_build(part, values) for part in node[1]))
    if kind == "mul":
        return sympy.Mul(*(_build(part, values) for part in node[1]))
    if kind == "pow":
        return sympy.Pow(_build(node[1], values), _build(node[2], values))
    arguments = [_build(part, values) for part in node[2]]
    names = {
        "arcsin": "asin", "arccos": "acos", "arctan": "atan", "ln": "log", "abs": "Abs", "ceil": "ceiling",
        "binom": "binomial",
    }  # fmt: skip
    if node[1] == "log":
        return sympy.log(arguments[0], 10)
    if node[1] == "logbase":
        return sympy.log(arguments[1], arguments[0])
    name: str = node[1]
    return getattr(sympy, names.get(name, name))(*arguments)

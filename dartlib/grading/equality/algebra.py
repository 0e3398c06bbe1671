"""Formulas as nested tuples in a canonical form that costs no computer algebra.

Nodes: ``("num", Fraction)``, ``("sym", name)``, ``("add", terms)``, ``("mul", factors)``, ``("pow", base, exponent)``,
``("fun", name, arguments)``. The constructors collect equal terms and factors and fold exact rational arithmetic, so
that many equal answers become the same tuple. They never build a number of more than MAX_BITS bits: larger powers
and factorials stay as written and can only be compared by structure.
"""

import cmath
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

Node: TypeAlias = tuple[Any, ...]

MAX_INTEGER = 1000  # powers and factorials beyond are never evaluated
MAX_BITS = 12_000  # Python writes integers of up to 14,000 bits
ONE: Node = ("num", Fraction(1))
MINUS_ONE: Node = ("num", Fraction(-1))
HALF: Node = ("num", Fraction(1, 2))
_EXACT: Mapping[str, Any] = {"abs": abs, "floor": math.floor, "ceil": math.ceil}  # of a fraction


class Undefined(ValueError):
    """The formula has no value: a division by zero, or a number too large for a float."""


def number(value: int | Fraction) -> Node:
    """A rational number."""
    return ("num", Fraction(value))


def symbol(name: str) -> Node:
    """A variable or a named constant (``π``, ``e``, ``i``, ``∞``)."""
    return ("sym", name)


def add(terms: Iterable[Node]) -> Node:
    """The sum with equal terms collected."""
    constant, collected = Fraction(0), dict[Node, Fraction]()
    pending = list(terms)
    while pending:
        term = pending.pop()
        if term[0] == "add":
            pending.extend(term[1])
            continue
        coefficient, rest = _split(term)
        if rest is None:
            constant = _bounded(constant + coefficient)
        else:
            collected[rest] = collected.get(rest, Fraction(0)) + coefficient
    parts = [multiply([number(c), rest]) if c != 1 else rest for rest, c in collected.items() if c]
    if constant or not parts:
        parts.append(number(constant))
    return parts[0] if len(parts) == 1 else ("add", tuple(sorted(parts, key=repr)))


def multiply(factors: Iterable[Node]) -> Node:
    """The product with powers of equal bases collected; a number is multiplied into a sum."""
    coefficient, powers = Fraction(1), dict[Node, list[Node]]()
    pending = list(factors)
    while pending:
        factor = pending.pop()
        if factor[0] == "mul":
            pending.extend(factor[1])
        elif factor[0] == "num":
            coefficient = _bounded(coefficient * factor[1])
        else:
            base, exponent = (factor[1], factor[2]) if factor[0] == "pow" else (factor, ONE)
            powers.setdefault(base, []).append(exponent)
    parts: list[Node] = []
    for base, exponents in powers.items():
        part = power(base, add(exponents)) if len(exponents) > 1 or exponents[0] != ONE else base
        inner, rest = _split(part)
        coefficient = _bounded(coefficient * inner)
        if rest is not None:
            parts += rest[1] if rest[0] == "mul" else [rest]
    if not coefficient or not parts:
        return number(coefficient)
    if len(parts) == 1:
        if coefficient == 1:
            return parts[0]
        if parts[0][0] == "add":
            return add([multiply([number(coefficient), term]) for term in parts[0][1]])
    parts.sort(key=repr)
    return ("mul", tuple(parts) if coefficient == 1 else (number(coefficient), *parts))


def power(base: Node, exponent: Node) -> Node:
    """``base ** exponent``, evaluated for rational numbers within the limits. Raises Undefined for 0 ** -1."""
    if exponent == ONE or base == ONE:
        return base
    if base[0] == "num" and not base[1]:
        if exponent[0] == "num" and exponent[1] <= 0:
            raise Undefined("division by zero")
        return base
    if exponent[0] != "num":
        return ("pow", base, exponent)
    value: Fraction = exponent[1]
    if not value:
        return ONE
    if base[0] == "num" and (folded := _rational_power(base[1], value)) is not None:
        return number(folded)
    if value.denominator == 1:
        if base == ("sym", "i") and abs(value) <= MAX_INTEGER:
            return (ONE, base, MINUS_ONE, multiply([MINUS_ONE, base]))[int(value) % 4]
        if base[0] == "pow" and base[2][0] == "num":
            return power(base[1], number(base[2][1] * value))
        if base[0] == "mul" and abs(value) <= MAX_INTEGER:
            return multiply([power(factor, exponent) for factor in base[1]])
    return ("pow", base, exponent)


def function(name: str, *arguments: Node) -> Node:
    """A named function; a factorial of at most 100 and functions of small integers are evaluated."""
    value = arguments[0][1] if len(arguments) == 1 and arguments[0][0] == "num" else None
    if name == "factorial" and value is not None and value.denominator == 1 and 0 <= value <= 100:
        return number(math.factorial(int(value)))
    if name in _EXACT and value is not None:
        return number(_EXACT[name](value))
    if name == "binom" and all(a[0] == "num" and a[1].denominator == 1 and 0 <= a[1] <= 100 for a in arguments):
        return number(math.comb(int(arguments[0][1]), int(arguments[1][1])))
    return ("fun", name, arguments)


def substitute(node: Node, name: str, value: Node) -> Node:
    """The formula with a symbol replaced."""
    kind = node[0]
    if kind == "sym":
        return value if node[1] == name else node
    if kind in ("add", "mul"):
        return (add if kind == "add" else multiply)([substitute(part, name, value) for part in node[1]])
    if kind == "pow":
        return power(substitute(node[1], name, value), substitute(node[2], name, value))
    if kind == "fun":
        return function(node[1], *(substitute(part, name, value) for part in node[2]))
    return node


def parts_of(node: Node) -> Iterable[Node]:
    """The node and everything below it."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        if current[0] in ("add", "mul"):
            pending.extend(current[1])
        elif current[0] == "pow":
            pending.extend(current[1:])
        elif current[0] == "fun":
            pending.extend(current[2])


def symbols_of(node: Node) -> frozenset[str]:
    """Names of the variables, without the constants."""
    return frozenset(part[1] for part in parts_of(node) if part[0] == "sym") - CONSTANTS.keys()


def exceeded_limit(node: Node) -> str | None:
    """``exponent`` or ``factorial`` if the formula holds one that must not be evaluated, else None."""
    for part in parts_of(node):
        if part[0] == "pow":
            bases, exponents = (list(parts_of(side)) for side in part[1:])
            if any(inner[0] == "pow" and any(p[0] == "pow" for p in parts_of(inner[2])) for inner in exponents):
                return "tower"
            if any(p[0] == "fun" and p[1] in ("factorial", "binom") for p in exponents):
                return "tower"
            if part[1][0] == "num" and any(p[0] == "pow" and p[1][0] == "num" for p in exponents):
                return "tower"
            if any(p[0] == "num" and abs(p[1]) > MAX_INTEGER for p in exponents):
                return "exponent"
            if part[2][0] == "num" and any(p[0] == "pow" and _is_large(p, part[2]) for p in bases):
                return "exponent"
            if part[1][0] == "num" and part[2][0] == "num" and _bits(part[1][1]) * abs(part[2][1]) > MAX_BITS:
                return "exponent"
        if part[0] == "fun" and part[1] in ("factorial", "binom"):
            inside = [p for argument in part[2] for p in parts_of(argument)]
            if any(p[0] == "num" and abs(p[1]) > MAX_INTEGER or p[0] in ("pow", "fun") for p in inside):
                return "factorial"
    return None


def _is_large(inner: Node, outer: Node) -> bool:
    return inner[2][0] == "num" and abs(inner[2][1] * outer[1]) > MAX_INTEGER


CONSTANTS: Mapping[str, complex] = {
    "π": cmath.pi,
    "e": cmath.e,
    "i": 1j,
    "∞": complex(math.inf),
    "degree": cmath.pi / 180,
}


def evaluate(node: Node, values: Mapping[str, complex]) -> complex:
    """The value in floating point, principal branches. Raises Undefined where there is none."""
    try:
        return _evaluate(node, {**CONSTANTS, **values})
    except (ArithmeticError, ValueError, KeyError, TypeError) as error:
        raise Undefined(str(error)) from None


def _evaluate(node: Node, values: Mapping[str, complex]) -> complex:
    kind = node[0]
    if kind == "num":
        return complex(node[1])
    if kind == "sym":
        return values[node[1]]
    if kind == "add":
        return sum((_evaluate(part, values) for part in node[1]), 0j)
    if kind == "mul":
        return math.prod((_evaluate(part, values) for part in node[1]), start=1 + 0j)
    if kind == "pow":
        return _evaluate(node[1], values) ** _evaluate(node[2], values)
    return complex(_FUNCTIONS[node[1]](*(_evaluate(part, values) for part in node[2])))


def _real(value: complex) -> float:
    if abs(value.imag) > 1e-9 * (1 + abs(value.real)):
        raise ValueError("not a real number")
    return value.real


_FUNCTIONS: Mapping[str, Any] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "cot": lambda x: 1 / cmath.tan(x), "sec": lambda x: 1 / cmath.cos(x), "csc": lambda x: 1 / cmath.sin(x),
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan, "ln": cmath.log, "log": cmath.log10,
    "exp": cmath.exp, "logbase": lambda b, x: cmath.log(x) / cmath.log(b), "abs": abs,
    "floor": lambda x: math.floor(_real(x)), "ceil": lambda x: math.ceil(_real(x)),
    "factorial": lambda x: math.gamma(_real(x) + 1),
    "binom": lambda n, k: math.gamma(_real(n) + 1) / math.gamma(_real(k) + 1) / math.gamma(_real(n - k) + 1),
}  # fmt: skip


def _split(node: Node) -> tuple[Fraction, Node | None]:
    """Numeric coefficient and the rest (None for a plain number)."""
    if node[0] == "num":
        return node[1], None
    if node[0] == "mul" and node[1][0][0] == "num":
        rest = node[1][1:]
        return node[1][0][1], rest[0] if len(rest) == 1 else ("mul", rest)
    return Fraction(1), node


def _rational_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if _bits(base) * abs(exponent) > MAX_BITS or abs(exponent) > MAX_INTEGER or exponent.denominator > 64:
        return None
    if exponent.denominator == 1:
        return base ** int(exponent)
    if base < 0:
        return None
    roots = [_integer_root(part, exponent.denominator) for part in (base.numerator, base.denominator)]
    return Fraction(*roots) ** exponent.numerator if None not in roots else None  # type: ignore[arg-type]


def _integer_root(value: int, degree: int) -> int | None:
    """The exact root of a natural number, or None."""
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**degree < value:
            low = middle + 1
        else:
            high = middle
    return low if low**degree == value else None


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > 14_000:
        raise Undefined("a number too large to be written")
    return value

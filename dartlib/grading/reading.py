"""From the tokens of an answer to what it says: numbers and formulas, tuples, sets, intervals, relations, units.

A small recursive-descent reader for the notation of final answers, plain or LaTeX. It builds our own tuples
(``algebra``), so nothing of a model's text ever reaches a parser that evaluates. What it cannot read raises
``Unreadable``; such answers are compared as text.

An answer is a list of items; an item is one of
``("value", node, unit)``, ``("relation", (operators), (items))``, ``("tuple", "(" or "[", closing, items)``,
``("set", items)``, ``("union", items)``, ``("matrix", rows)``, ``("ratio", items)``.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

from dartlib.grading import algebra
from dartlib.grading.algebra import HALF, MINUS_ONE, ONE, Node, Undefined
from dartlib.grading.notation import CACHED, FUNCTIONS, GREEK, tokenise
from dartlib.grading.units import MEANINGFUL, is_unit_word, unit_name

Item: TypeAlias = tuple[Any, ...]

MAX_NESTING = 40  # open brackets
MAX_ITEMS = 64  # of a list, so that matching stays cheap
_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\approx": "~", "\\in": "in",
              "\\equiv": "=", ":=": "=", "\\to": "->", "\\sim": "~"}  # fmt: skip
_SEPARATORS = {",", ";", "and", "or", "⟦and⟧", "⟦or⟧", "⟦, and⟧", "⟦,and⟧", "&"}
_CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "{": "}", "\\langle": "\\rangle"}
_FENCES = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
_SPACED = re.compile(r"[+-]?\d+(?: [+-]?\d+)+")


class Unreadable(ValueError):
    """The text is no formula that this reader knows."""


class Meaningless(Unreadable):
    """A formula without a value, such as a division by zero."""


@lru_cache(maxsize=CACHED)
def read_answer(text: str) -> tuple[bool, tuple[Item, ...]]:
    """(order matters, items) of a normalised answer. Raises Unreadable.

    Order matters for numbers listed with spaces only (``4 3 -1``); commas, "and" and "or" make unordered lists.
    """
    if not text:
        raise Unreadable("empty")
    if _SPACED.fullmatch(text):
        return True, tuple(("value", algebra.number(int(part)), "") for part in text.split())
    tokens = list(tokenise(text))
    depth = 0
    for token in tokens:
        depth += (token in _CLOSING) - (token in _CLOSING.values())
        if depth > MAX_NESTING:
            raise Unreadable("nesting")
    try:
        reader = _Reader(tokens)
        items = reader.items(stop=None)
        if reader.token is not None:
            raise Unreadable(f"unexpected {reader.token}")
        return False, _expanded(items)
    except Undefined as error:
        raise Meaningless(str(error)) from None
    except RecursionError:
        raise Unreadable("nesting") from None


def _expanded(items: list[Item]) -> tuple[Item, ...]:
    """``a ± b`` as the two items ``a + b`` and ``a - b``."""
    result: list[Item] = []
    for item in items:
        both = [_substituted(item, sign) for sign in (ONE, MINUS_ONE)]
        result += both if both[0] != both[1] else both[:1]
    if len(result) > MAX_ITEMS:
        raise Unreadable("items")
    return tuple(result)


def _substituted(item: Item, sign: Node) -> Item:
    if item[0] == "value":
        return ("value", algebra.substitute(item[1], "±", sign), item[2])
    if item[0] in ("union", "matrix"):
        return item
    return (*item[:-1], tuple(_substituted(part, sign) for part in item[-1]))


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0  # open brackets: a unit stands at the end of an item, never inside a formula
        self.bars = 0  # open absolute values

    @property
    def token(self) -> str | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.token
        if token is None or (expected is not None and token != expected):
            raise Unreadable(f"expected {expected or 'more'}, found {token or 'the end'}")
        self.place += 1
        return token

    def items(self, stop: str | None) -> list[Item]:
        """Items between separators, until a closing bracket or the end."""
        items = [self.item()]
        while self.token in _SEPARATORS:
            while self.token in _SEPARATORS:  # ", and"
                self.place += 1
            if self.token is None or self.token in _CLOSING.values():
                break
            items.append(self.item())
            if len(items) > MAX_ITEMS:
                raise Unreadable("items")
        return items

    def item(self) -> Item:
        """A relation chain, or the one side there is."""
        operators: list[str] = []
        if self.token in ("\\approx", "="):  # "≈ 6.76 miles"
            self.place += 1
        sides = [self.union()]
        while self.token in _RELATIONS or self.token == ":":
            operators.append(_RELATIONS.get(self.take(), ":"))
            if operators[-1] == ":" and self.token == "=":
                self.place += 1
                operators[-1] = "="
            sides.append(self.union())
        if not operators:
            return sides[0]
        if ":" in operators:
            if set(operators) != {":"}:
                raise Unreadable("mixed relation")
            return ("ratio", tuple(sides))
        return _relation(operators, sides)

    def union(self) -> Item:
        """Intervals and sets joined by ∪, or one quantity."""
        first = self.quantity()
        parts = [first]
        while self.token in ("\\cup", "U") and parts[-1][0] in ("tuple", "set"):
            self.place += 1
            parts.append(self.quantity())
        return first if len(parts) == 1 else ("union", tuple(sorted(parts, key=repr)))

    def quantity(self) -> Item:
        """A sum with its unit, or a bracketed collection."""
        value = self.sum()
        if value[0] == "item":
            return value[1]
        return ("value", value, self.unit())

    def unit(self) -> str:
        """The unit words at the reader's place, in one spelling; empty when there are none."""
        start = self.place
        while (token := self.token) is not None:
            if token in _SEPARATORS:
                break
            if token.startswith("⟦") or token == "%" or is_unit_word(token):
                self.place += 1
            elif token == "/" and self.place > start or token == "-" and self.place > start:
                self.place += 1
            elif token in ("^", "'") and self.place > start:
                self.place += 1
                if token == "^":
                    self._unit_exponent()
            else:
                break
        words = [part.strip("⟦⟧") for part in self.tokens[start : self.place]]
        return unit_name(words) if words else ""

    def _unit_exponent(self) -> None:
        if self.token == "{":
            self.place += 1
            if self.token == "-":
                self.place += 1
            self._digits()
            self.take("}")
        else:
            self._digits()

    def _digits(self) -> None:
        if not _is_integer(self.take()):
            raise Unreadable("unit")

    def sum(self) -> Node:
        """Terms joined by + - ±. A collection or a matrix alone comes back as ("item", item)."""
        terms: list[Node] = []
        sign = ONE
        signs = {"+": ONE, "-": MINUS_ONE, "\\pm": ("sym", "±"), "\\mp": algebra.multiply([MINUS_ONE, ("sym", "±")])}
        while self.token in signs:
            sign = algebra.multiply([sign, signs[self.take()]])
        while True:
            term = self.product()
            if term[0] == "item":
                if terms or sign != ONE or self.token in signs:
                    raise Unreadable("a collection in a sum")
                return term
            terms.append(algebra.multiply([sign, term]))
            if self.token not in signs:
                return algebra.add(terms)
            sign = signs[self.take()]
            while self.token in signs:
                sign = algebra.multiply([sign, signs[self.take()]])

    def product(self) -> Node:
        """Factors joined by ``*``, ``/`` or nothing, from left to right."""
        factors: list[Node] = []
        divide = False
        while True:
            before = self.tokens[self.place - 1] if self.place else ""
            start = self.token
            factor = self.factor()
            if factor[0] == "item":
                if factors or self._continues():
                    raise Unreadable("a collection in a product")
                return factor
            if factors and _is_number(before) and _is_number(start):
                factors = self._mixed_number(factors, factor, before)
            elif factors and before not in ("*", "/") and start == "\\frac" and _is_integer(before):
                factors = self._mixed_fraction(factors, factor)
            else:
                factors.append(algebra.power(factor, MINUS_ONE) if divide else factor)
            if self.token in ("*", "/"):
                divide = self.take() == "/"
                if self.token in ("+", "-"):  # 3 * -2
                    factors.append(ONE if self.take() == "+" else MINUS_ONE)
            elif self._continues():
                divide = False
            else:
                return algebra.multiply(factors)

    def _mixed_number(self, factors: list[Node], numerator: Node, before: str) -> list[Node]:
        """``1 3/4`` is one and three quarters; any other number beside a number is unreadable."""
        if len(factors) == 1 and _is_integer(before) and numerator[0] == "num" and self.token == "/":
            self.take()
            denominator = self.factor()
            fraction = algebra.multiply([numerator, algebra.power(denominator, MINUS_ONE)])
            if fraction[0] == "num" and 0 < fraction[1] < 1:
                return [algebra.add([factors[0], fraction])]
        raise Unreadable("two numbers side by side")

    def _mixed_fraction(self, factors: list[Node], fraction: Node) -> list[Node]:
        whole = factors[-1]
        if whole[0] == "num" and fraction[0] == "num" and 0 < fraction[1] < 1:
            return [*factors[:-1], algebra.add([whole, fraction])]
        if whole[0] == "num" and fraction[0] == "num":
            raise Unreadable("a whole number beside an improper fraction")
        return [*factors, fraction]

    def _continues(self) -> bool:
        """Whether a factor may follow without a sign."""
        token = self.token
        if token is None or token in _SEPARATORS or token in _RELATIONS or token in ("\\cup", "%"):
            return False
        if token.startswith("⟦") or is_unit_word(token):
            return False
        if token in ("|", "\\|"):
            return not self.bars  # inside bars the next one closes
        if token == "U" and self.place + 1 < len(self.tokens) and self.tokens[self.place + 1] in ("(", "[", "\\{"):
            return False
        if re.match(r"[A-Za-z\d.(]", token) or token in ("{", "[", "\\frac", "\\sqrt", "\\binom", "\\cbrt"):
            return True
        return token[0] == "\\" and (token[1:] in FUNCTIONS | GREEK | {"pi", "infty", "ldots"} or token in _FENCES)

    def factor(self) -> Node:
        """An atom with its powers, factorials and primes."""
        base = self.atom()
        while (token := self.token) is not None:
            if token == "^":
                if base[0] == "item":
                    raise Unreadable("a power of a collection")
                self.take()
                base = algebra.power(base, self.exponent())
            elif token == "!":
                self.take()
                base = algebra.function("factorial", _formula(base))
            elif token == "⟦degree⟧" and base[0] != "item" and self._more_after_degree():
                self.take()
                base = algebra.multiply([base, algebra.symbol("degree")])
            else:
                return base
        return base

    def _more_after_degree(self) -> bool:
        after = self.tokens[self.place + 1] if self.place + 1 < len(self.tokens) else None
        return after not in (None, ",", ";", "=", "and", "or", "⟦and⟧", "⟦or⟧") and self.depth > 0

    def exponent(self) -> Node:
        """A power's argument; towers without braces are read from the right."""
        exponent = self.argument()
        if self.token != "^":
            return exponent
        self.take()
        return algebra.power(exponent, self.exponent())

    def argument(self) -> Node:
        """What ``^``, ``\\sqrt`` and ``\\frac`` take: a group or one signed atom."""
        if self.token in ("+", "-"):
            sign = self.take()
            inner = _formula(self.atom())
            return inner if sign == "+" else algebra.multiply([MINUS_ONE, inner])
        return _formula(self.atom())

    def atom(self) -> Node:
        token = self.take()
        if _is_number(token):
            value = algebra.number(Fraction(token)) if self.token != "_" else algebra.symbol(token)
            return self._subscripted(value) if self.token == "_" else value
        if token in _CLOSING:
            return self._bracketed(token)
        if token in ("|", "\\|"):
            return self._absolute(token)
        if token in _FENCES:
            closing, name = _FENCES[token]
            inner = self._inner()
            self.take(closing)
            return algebra.function(name, inner)
        if token.startswith("\\begin{"):
            return ("item", self._matrix(token))
        if token.startswith("\\"):
            return self._command(token[1:])
        if token.isalpha() and token.isascii():
            return self._letters(token)
        raise Unreadable(f"cannot read {token}")

    def _inner(self) -> Node:
        self.depth += 1
        inner = _formula(self.sum())
        self.depth -= 1
        return inner

    def _bracketed(self, opening: str) -> Node:
        self.depth += 1
        items = self.items(stop=None) if self.token not in _CLOSING.values() else []
        closing = self.take()
        self.depth -= 1
        if closing not in (_CLOSING[opening], *((")", "]") if opening in "([" else ())):
            raise Unreadable("brackets")
        if opening == "\\{":
            return ("item", ("set", _expanded(items) if items else ()))
        if len(items) == 1:
            if closing != _CLOSING[opening]:
                raise Unreadable("half-open interval of one end")
            if items[0][0] == "value" and not items[0][2]:
                return items[0][1]
            if items[0][0] == "value" and self.depth:
                raise Unreadable("a unit inside a formula")
            return ("item", items[0])
        if not items or opening == "{":
            raise Unreadable("empty brackets")
        if opening == "[" and all(item[0] == "tuple" and item[1] == "[" for item in items):
            if len({len(item[3]) for item in items}) == 1:
                return ("item", ("matrix", tuple(item[3] for item in items)))
        return (
            "item",
            ("tuple", "(" if opening == "\\langle" else opening, closing.replace("\\rangle", ")"), tuple(items)),
        )

    def _absolute(self, bar: str) -> Node:
        self.bars += 1
        inner = self._inner()
        self.take(bar)
        self.bars -= 1
        return algebra.function("abs", inner)

    def _matrix(self, opening: str) -> Item:
        if not re.match(r"\\begin\{([pbvVB]?matrix|smallmatrix|array)\*?\}", opening):
            raise Unreadable("environment")
        rows: list[tuple[Item, ...]] = []
        row: list[Item] = []
        while True:
            if self.token in ("\\\\", "&") or (self.token or "").startswith("\\end{"):
                raise Unreadable("empty cell") if self.token == "&" or row else None or Unreadable("empty matrix")
            row.append(self._cell())
            token = self.take()
            if token == "&":
                continue
            rows.append(tuple(row))
            row = []
            if token == "\\\\" and (self.token or "").startswith("\\end{"):
                token = self.take()
            if token.startswith("\\end{"):
                if len({len(line) for line in rows}) != 1 or "v" in opening[:9].lower():
                    raise Unreadable("matrix")
                return ("matrix", tuple(rows))
            if token != "\\\\":
                raise Unreadable("matrix")

    def _cell(self) -> Item:
        self.depth += 1
        value = self.sum()
        self.depth -= 1
        return ("value", _formula(value), "")

    def _command(self, name: str) -> Node:
        if name == "frac":
            above, below = self.argument(), self.argument()
            return algebra.multiply([above, algebra.power(below, MINUS_ONE)])
        if name == "binom":
            return algebra.function("binom", self.argument(), self.argument())
        if name in ("sqrt", "cbrt"):
            return self._root(ONE if name == "sqrt" else algebra.number(3))
        if name in ("pi", "infty"):
            return algebra.symbol("π" if name == "pi" else "∞")
        if name in FUNCTIONS:
            return self._function(name)
        if name in GREEK or name in ("mathbb", "emptyset", "ldots"):
            if name == "mathbb":
                return algebra.symbol("bb" + repr(self.argument()))
            return self._subscripted(algebra.symbol(name))
        raise Unreadable(f"cannot read \\{name}")

    def _root(self, degree: Node) -> Node:
        exponent = HALF if degree == ONE else algebra.power(degree, MINUS_ONE)
        if degree == ONE and self.token == "[":
            self.take()
            exponent = algebra.power(self._inner(), MINUS_ONE)
            self.take("]")
        return algebra.power(self.argument(), exponent)

    def _function(self, name: str) -> Node:
        exponent, base = None, None
        for _ in range(2):
            if self.token == "^" and exponent is None:
                self.take()
                exponent = self.argument()
            elif self.token == "_" and base is None:
                self.take()
                base = self.argument()
        inner = self._function_argument()
        if base is not None:
            if name != "log":
                raise Unreadable("subscript of a function")
            result = (
                algebra.function("logbase", base, inner)
                if base != algebra.number(10)
                else algebra.function("log", inner)
            )
        elif exponent == MINUS_ONE and "arc" + name in FUNCTIONS:
            return algebra.function("arc" + name, inner)
        elif name == "exp":
            result = algebra.power(algebra.symbol("e"), inner)
        else:
            result = algebra.function(name, inner)
        return result if exponent is None else algebra.power(result, exponent)

    def _function_argument(self) -> Node:
        """One bracket, or the factors that follow up to the next function or sign: ``\\sin 2x \\cos x``."""
        if self.token in ("(", "{", "[", "|"):
            return _formula(self.atom())
        if self.token in ("+", "-"):
            return self.argument()
        factors = [_formula(self.factor())]
        self.depth += 1
        while self.token not in ("*", "(", "[", "|") and self._continues() and not self._is_function():
            factors.append(_formula(self.factor()))
        self.depth -= 1
        if self.token == "⟦degree⟧":
            self.take()
            factors.append(algebra.symbol("degree"))
        return algebra.multiply(factors)

    def _is_function(self) -> bool:
        return self.token is not None and self.token[0] == "\\" and self.token[1:] in FUNCTIONS - {"sqrt"}

    def _letters(self, word: str) -> Node:
        """Letters side by side are a product; longer words are no formula."""
        if len(word) > 3 or word.lower() in MEANINGFUL:
            raise Unreadable(f"the word {word}")
        factors = [algebra.symbol(letter) for letter in word]
        factors[-1] = self._subscripted(factors[-1])
        if len(factors) > 1 and self.token == "^":  # the power of the last letter only
            self.take()
            factors[-1] = algebra.power(factors[-1], self.argument())
        return algebra.multiply(factors) if len(factors) > 1 else factors[0]

    def _subscripted(self, base: Node) -> Node:
        """Subscripts and primes belong to the name."""
        name = base[1]
        while self.token in ("_", "'"):
            if self.take() == "'":
                name += "'"
                continue
            if self.token == "{":
                depth, start = 0, self.place
                while True:
                    token = self.take()
                    depth += (token == "{") - (token == "}")
                    if not depth:
                        break
                inside = "".join(part.strip("⟦⟧") for part in self.tokens[start + 1 : self.place - 1])
            else:
                inside = self.take().strip("⟦⟧")
            name += "_" + inside.replace(" ", "")
        return algebra.symbol(name) if name != base[1] else base


def _is_number(token: str | None) -> bool:
    """Python's own test would let other scripts' digits pass."""
    return token is not None and re.fullmatch(r"[\d.]*\d.*", token, re.ASCII) is not None and token[0] in ".0123456789"


def _is_integer(token: str) -> bool:
    return token.isascii() and token.isdecimal()


def _formula(node: Node) -> Node:
    if node[0] == "item":
        raise Unreadable("a collection inside a formula")
    return node


def _relation(operators: list[str], sides: list[Item]) -> Item:
    """A chain that reads from small to large; a single ``=`` keeps its sides in order."""
    if all(operator in (">", ">=") for operator in operators):
        operators = [operator.replace(">", "<") for operator in reversed(operators)]
        sides = sides[::-1]
    return ("relation", tuple(operators), tuple(sides))

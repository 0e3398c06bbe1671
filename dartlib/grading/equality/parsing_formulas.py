"""The reader of formulas: sums, products, powers, roots, functions and names, as the nodes of ``algebra``.

Juxtaposition multiplies, as on paper; a whole number before a fraction makes a mixed number; a function without
brackets takes the factors that follow.
"""

import re
from abc import ABC, abstractmethod
from fractions import Fraction

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import HALF, MINUS_ONE, ONE, Node
from dartlib.grading.equality.notation import FUNCTIONS, GREEK
from dartlib.grading.equality.parsing_tokens import (
    CLOSING,
    RELATIONS,
    SEPARATORS,
    TokenReader,
    Unreadable,
    is_integer,
    is_number,
    matrix_sum,
    scaled,
)
from dartlib.grading.equality.units import MEANINGFUL, is_unit_word

_SIGNS = {"+": ONE, "-": MINUS_ONE}
_ADDING = {*_SIGNS, "\\pm", "\\mp"}
_FENCES = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
_FACTORS = {"\\frac", "\\sqrt", "\\binom", "\\cbrt", "\\pi", "\\infty", "\\ldots", *_FENCES}
_FACTORS |= {f"\\{name}" for name in FUNCTIONS | GREEK}


class FormulaReader(TokenReader, ABC):
    """Reads one formula at its place. A collection alone comes back as ``("item", item)``."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        super().__init__(tokens)
        self.depth = 0  # open brackets: a unit stands at the end of an item, never inside a formula
        self.bars = 0  # open absolute values

    @abstractmethod
    def collection(self, opening: str) -> Node:
        """What an opening bracket or environment holds: a formula or an item."""

    def sum(self) -> Node:
        """Terms joined by + - ±."""
        terms: list[Node] = []
        while True:
            sign = ONE
            while self.token in _ADDING:
                sign = algebra.multiply([sign, self._sign()])
            term = self.product()
            if term[0] == "item":
                term = term if sign == ONE else scaled(term, sign)
                if not terms and self.token not in _ADDING:
                    return term
                if term[1][0] != "matrix":
                    raise Unreadable("a collection in a sum")
                terms.append(term)
            else:
                terms.append(algebra.multiply([sign, term]))
            if self.token not in _ADDING:
                return matrix_sum(terms) if any(part[0] == "item" for part in terms) else algebra.add(terms)

    def _sign(self) -> Node:
        """``+``, ``-``, or a symbol of its own for each ``±``; beside ``∓`` all of them are one sign."""
        token = self.take()
        if token in _SIGNS:
            return _SIGNS[token]
        both = algebra.symbol("±" if "\\mp" in self.tokens else f"±{self.place}")
        return both if token == "\\pm" else algebra.multiply([MINUS_ONE, both])

    def product(self) -> Node:
        """Factors joined by ``*``, ``/`` or nothing, from left to right."""
        factors: list[Node] = []
        divide = False
        while True:
            before = self.tokens[self.place - 1] if self.place else ""
            start = self.token
            factor = self.factor()
            if factor[0] == "item":
                if self._continues() or divide or self.token in ("*", "/"):
                    raise Unreadable("a collection in a product")
                return scaled(factor, algebra.multiply(factors)) if factors else factor
            if factors and is_number(before) and is_number(start):
                factors = self._mixed_number(factors, factor, before)
            elif factors and start == "\\frac" and is_integer(before):
                factors = _mixed_fraction(factors, factor)
            else:
                factors.append(algebra.power(factor, MINUS_ONE) if divide else factor)
            if self.token in ("*", "/") and not self.at_rate():
                divide = self.take() == "/"
                if self.token in _SIGNS:  # 3 * -2
                    factors.append(_SIGNS[self.take()])
            elif self._continues():
                divide = False
            else:
                return algebra.multiply(factors)

    def at_rate(self) -> bool:
        """Whether a unit goes on with "/day"."""
        return self.token == "/" and self.next_token is not None and is_unit_word(self.next_token.strip("⟦⟧"))

    def _mixed_number(self, factors: list[Node], numerator: Node, before: str) -> list[Node]:
        """``1 3/4`` is one and three quarters; any other number beside a number is unreadable."""
        if len(factors) == 1 and is_integer(before) and numerator[0] == "num" and self.token == "/":
            self.take()
            fraction = algebra.multiply([numerator, algebra.power(self.factor(), MINUS_ONE)])
            if fraction[0] == "num" and 0 < fraction[1] < 1:
                return [algebra.add([factors[0], fraction])]
        raise Unreadable("two numbers side by side")

    def _continues(self) -> bool:
        """Whether a factor may follow without a sign."""
        token = self.token
        if token is None or token in SEPARATORS or token in RELATIONS or is_unit_word(token):
            return False
        if token in ("|", "\\|"):
            return not self.bars  # inside bars the next one closes
        if token == "U" and self.next_token in ("(", "[", "\\{"):  # a union
            return False
        return token in _FACTORS or re.match(r"[A-Za-z\d.({[]|\\begin\{", token) is not None

    def factor(self) -> Node:
        """An atom with its powers, factorials and primes."""
        base = self.atom()
        while (token := self.token) is not None:
            if token == "^":
                self.take()
                base = algebra.power(_formula(base), self.exponent())
            elif token == "!":
                self.take()
                base = algebra.function("factorial", _formula(base))
            elif token == "⟦degree⟧" and base[0] != "item" and self._more_after_degree():
                self.take()
                base = algebra.multiply([base, algebra.symbol("degree")])
            else:
                break
        return base

    def _more_after_degree(self) -> bool:
        """Inside a formula degrees are a factor, at its end a unit."""
        return self.depth > 0 and self.next_token not in {None, "="} | SEPARATORS - {"&"}

    def exponent(self) -> Node:
        """A power's argument; towers without braces are read from the right."""
        exponent = self.argument()
        if self.token != "^":
            return exponent
        self.take()
        return algebra.power(exponent, self.exponent())

    def argument(self) -> Node:
        """What ``^``, ``\\sqrt`` and ``\\frac`` take: a group or one signed atom."""
        sign = self.take() if self.token in _SIGNS else "+"
        inner = _formula(self.atom())
        return inner if sign == "+" else algebra.multiply([MINUS_ONE, inner])

    def atom(self) -> Node:
        """A number, name, function, root or fraction, or what stands in brackets."""
        token = self.take()
        if is_number(token):
            return self._subscripted(token) if self.token == "_" else algebra.number(Fraction(token))
        if token in CLOSING or token.startswith("\\begin{"):
            return self.collection(token)
        if token in ("|", "\\|"):
            self.bars += 1
            inner = self._inside(token)
            self.bars -= 1
            return algebra.function("abs", inner)
        if token in _FENCES:
            closing, name = _FENCES[token]
            return algebra.function(name, self._inside(closing))
        if token.startswith("\\"):
            return self._command(token[1:])
        if token.isalpha() and token.isascii():
            return self._letters(token)
        raise Unreadable(f"cannot read {token}")

    def _inside(self, closing: str) -> Node:
        self.depth += 1
        inner = _formula(self.sum())
        self.take(closing)
        self.depth -= 1
        return inner

    def _command(self, name: str) -> Node:
        if name == "frac":
            return algebra.multiply([self.argument(), algebra.power(self.argument(), MINUS_ONE)])
        if name == "binom":
            return algebra.function("binom", self.argument(), self.argument())
        if name in ("sqrt", "cbrt"):
            return self._root(HALF if name == "sqrt" else algebra.number(Fraction(1, 3)))
        if name in ("pi", "infty"):
            return algebra.symbol("π" if name == "pi" else "∞")
        if name in FUNCTIONS:
            return self._function(name)
        if name == "mathbb":
            return algebra.symbol("bb" + repr(self.argument()))
        if name in GREEK or name in ("emptyset", "ldots"):
            return self._subscripted(name)
        raise Unreadable(f"cannot read \\{name}")

    def _root(self, exponent: Node) -> Node:
        if exponent == HALF and self.token == "[":
            self.take()
            exponent = algebra.power(self._inside("]"), MINUS_ONE)
        return algebra.power(self.argument(), exponent)

    def _function(self, name: str) -> Node:
        """``\\log_2 8``, ``\\sin^2 x`` and ``\\sin^{-1} x``, the inverse."""
        exponent, base = ONE, None
        for _ in range(2):
            if self.token == "^" and exponent == ONE:
                self.take()
                exponent = self.argument()
            elif self.token == "_" and base is None:
                self.take()
                base = self.argument()
        if base is not None and name != "log":
            raise Unreadable("subscript of a function")
        inner = self._function_argument()
        if exponent == MINUS_ONE and "arc" + name in FUNCTIONS:
            return algebra.function("arc" + name, inner)
        if name == "cis":  # of an angle: cos + i sin
            turned = algebra.multiply([algebra.symbol("i"), algebra.function("sin", inner)])
            value = algebra.add([algebra.function("cos", inner), turned])
        elif name == "exp":
            value = algebra.power(algebra.symbol("e"), inner)
        elif base in (None, algebra.number(10)):
            value = algebra.function(name, inner)
        else:
            value = algebra.function("logbase", base, inner)
        return algebra.power(value, exponent)

    def _function_argument(self) -> Node:
        """One bracket, or the factors that follow up to the next function or sign: ``\\sin 2x \\cos x``."""
        if self.token in ("(", "{", "[", "|"):
            return _formula(self.atom())
        if self.token in _SIGNS:
            return self.argument()
        factors = [_formula(self.factor())]
        self.depth += 1
        while self.token not in ("(", "[", "|") and self._continues() and not self._is_function():
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
        last = self._subscripted(word[-1])
        if len(word) > 1 and self.token == "^":  # the power of the last letter only
            self.take()
            last = algebra.power(last, self.argument())
        return algebra.multiply([*map(algebra.symbol, word[:-1]), last])

    def _subscripted(self, name: str) -> Node:
        """A symbol; subscripts and primes belong to its name."""
        while self.token in ("_", "'"):
            if self.take() == "'":
                name += "'"
            else:
                name += "_" + self._subscript()
        return algebra.symbol(name)

    def _subscript(self) -> str:
        start = self.place
        depth = 0
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if depth <= 0:
                break
        inside = self.tokens[start + 1 : self.place - 1] if self.tokens[start] == "{" else (token,)
        return "".join(part.strip("⟦⟧") for part in inside).replace(" ", "")


def _mixed_fraction(factors: list[Node], fraction: Node) -> list[Node]:
    """``3\\frac{1}{4}`` is three and a quarter; ``3\\frac{x}{4}`` is a product."""
    whole = factors[-1]
    if whole[0] != "num" or fraction[0] != "num":
        return [*factors, fraction]
    if not 0 < fraction[1] < 1:
        raise Unreadable("a whole number beside an improper fraction")
    return [*factors[:-1], algebra.add([whole, fraction])]


def _formula(node: Node) -> Node:
    if node[0] == "item":
        raise Unreadable("a collection inside a formula")
    return node

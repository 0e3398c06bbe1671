"""From the tokens of an answer to what it says: numbers and formulas, tuples, sets, intervals, relations, units.

A small recursive-descent reader for the notation of final answers, plain or LaTeX. It builds our own tuples
(``algebra``), so nothing of a model's text ever reaches a parser that evaluates. What it cannot read raises
``Unreadable``; such answers are compared as text.

An answer is a list of items; an item is one of
``("value", node, unit)``, ``("relation", (operators), (items))``, ``("tuple", "(" or "[", closing, items)``,
``("set", items)``, ``("union", items)``, ``("meet", items)``, ``("minus", items)``, ``("matrix", rows)``,
``("ratio", items)``, ``("cases", rows)``.

A side that names what the other side gives (``f(2) =``, ``\\angle ABC =``, ``\\frac{NO}{BO} =``) is read as one symbol:
nothing is computed with it.
"""

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import MINUS_ONE, ONE, Node, Undefined
from dartlib.grading.equality.notation import CACHED, tokenise
from dartlib.grading.equality.parsing_formulas import FormulaReader
from dartlib.grading.equality.parsing_tokens import (
    CLOSERS,
    CLOSING,
    NAME,
    NAME_ENDS,
    RELATIONS,
    SEPARATORS,
    Meaningless,
    Unreadable,
    is_integer,
)
from dartlib.grading.equality.units import is_unit_word, unit_name

Item: TypeAlias = tuple[Any, ...]

MAX_ITEMS = 64  # of a list, so that matching stays cheap
_SPACED = re.compile(r"[+-]?\d+(?: [+-]?\d+)+")
_JOINING = {"and": "meet", "⟦and⟧": "meet", "⟦, and⟧": "meet", "or": "union", "⟦or⟧": "union"}
_MONEY = ("⟦$⟧", "⟦€⟧", "⟦£⟧")
_SET_SIGNS = {"\\cup": "union", "U": "union", "\\cap": "meet", "\\setminus": "minus"}
_INEQUALITIES = {"<", "<=", "!=", "in"}
_MATRIX = re.compile(r"\\begin\{(?:[pbB]?matrix|smallmatrix|array)\*?\}")  # those with bars are determinants


@lru_cache(maxsize=CACHED)
def read_answer(text: str) -> tuple[bool, tuple[Item, ...]]:
    """(order matters, items) of a normalised answer. Raises Unreadable.

    Order matters for numbers listed with spaces only (``4 3 -1``); commas, "and" and "or" make unordered lists.
    """
    if not text:
        raise Unreadable("empty")
    if _SPACED.fullmatch(text):
        return True, tuple(("value", algebra.number(int(part)), "") for part in text.split())
    try:
        reader = AnswerReader(tokenise(text))
        items = reader.items()
        if reader.token is not None:
            raise Unreadable(f"unexpected {reader.token}")
        return False, _expanded(items)
    except Undefined as error:
        raise Meaningless(str(error)) from None
    except RecursionError:
        raise Unreadable("nesting") from None


class AnswerReader(FormulaReader):
    """Reads the items of an answer: what stands around, between and beside formulas."""

    def items(self) -> list[Item]:
        """Items between separators, until a closing bracket or the end."""
        items, count = [self.item()], 1
        while self.token in SEPARATORS:
            words = {self.take()}
            while self.token in SEPARATORS:  # ", and"
                words.add(self.take())
            if self.token is None or self.token in CLOSERS:
                break
            items.append(self.item())
            joined = next(filter(None, map(_JOINING.get, words)), None)
            if joined and all(_is_inequality(item) for item in items[-2:]):
                items[-2:] = [(joined, (*(items[-2][1] if items[-2][0] == joined else items[-2:-1]), items[-1]))]
            count += 1
            if count > MAX_ITEMS:
                raise Unreadable("items")
        return items

    def item(self) -> Item:
        """A relation chain, or the one side there is."""
        operators: list[str] = []
        if self.token in ("\\approx", "="):  # "≈ 6.76 miles"
            self.take()
        sides = [self.name() or self.union()]
        while self.token in RELATIONS or self.token == ":":
            operators.append(RELATIONS.get(self.take(), ":"))
            if operators[-1] == ":" and self.token == "=":
                self.take()
                operators[-1] = "="
            sides.append(self.name() or self.union())
        if not operators:
            return sides[0]
        if ":" not in operators:
            return _relation(operators, sides)
        if set(operators) == {":"}:
            return ("ratio", tuple(sides))
        if operators.count("=") != 1 or set(operators) != {":", "="}:
            raise Unreadable("mixed relation")
        equals = operators.index("=") + 1
        return _relation(["="], [("ratio", tuple(part)) for part in (sides[:equals], sides[equals:])])

    def name(self) -> Item | None:
        """The name of what stands on the other side of the next sign of equality, as one symbol."""
        end, depth = self.place, 0
        while end < len(self.tokens) and (depth or self.tokens[end] not in NAME_ENDS):
            depth += (self.tokens[end] in CLOSING) - (self.tokens[end] in CLOSERS)
            end += 1
        text = " ".join(self.tokens[self.place : end])
        if end in (self.place, len(self.tokens)) or self.depth or not NAME.fullmatch(text):
            return None
        self.place = end
        plain = re.sub(r"_ \{ (\w+) \}", r"_ \1", text).replace("{", "(").replace("}", ")")
        return ("value", algebra.symbol(plain.replace(" ", "")), "")

    def union(self) -> Item:
        """Intervals and sets joined by ∪, ∩ and \\, or one quantity."""
        found, count = self.quantity(), 1
        while self.token in _SET_SIGNS and (found[0] not in ("value", "relation") or found[1][1][:2] == "bb"):
            kind = _SET_SIGNS[self.take()]
            parts = [*(found[1] if kind == found[0] == "union" else (found,)), self.quantity()]
            found = (kind, tuple(sorted(parts, key=repr) if kind == "union" else parts))
            count += 1
            if count > MAX_ITEMS:
                raise Unreadable("items")
        return found

    def quantity(self) -> Item:
        """A sum with its unit, or a bracketed collection."""
        money = self.take() if self.token in _MONEY else ""
        value = self.sum()
        return value[1] if value[0] == "item" else ("value", value, self.unit(money))

    def unit(self, money: str) -> str:
        """The unit words at the reader's place, in one spelling, after the sign of ``money`` that stood before."""
        start = self.place
        while (token := self.token) is not None and token not in SEPARATORS:
            if token.startswith("⟦") or token == "%" or is_unit_word(token) or self.at_rate():
                self.take()
            elif token in "/-'" and self.place > start:
                self.take()
            elif token == "^" and self.place > start:
                self.take()
                self._unit_exponent()
            else:
                break
        words = [part.strip("⟦⟧") for part in self.tokens[start : self.place]]
        if money and unit_name(words[:1]) != unit_name([money]):  # "$5 dollars"
            words.insert(0, money)
        return unit_name(words) if words else ""

    def _unit_exponent(self) -> None:
        token = self.take()
        if grouped := token == "{":
            token = self.take()
            if token == "-":
                token = self.take()
        if not is_integer(token):
            raise Unreadable("unit")
        if grouped:
            self.take("}")

    def collection(self, opening: str) -> Node:
        """A group's formula, or the set, tuple, interval or matrix as ``("item", item)``."""
        self.depth += 1
        if opening.startswith("\\begin{"):
            is_cases = opening.startswith("\\begin{cases}")
            found: Item = ("cases", self._branches()) if is_cases else ("matrix", self._rows(opening))
            self.depth -= 1
            return ("item", found)
        items = self.items() if self.token not in CLOSERS else []
        closing = self.take()
        self.depth -= 1
        if closing != CLOSING[opening] and not (opening in "([" and closing in ")]" and len(items) > 1):
            raise Unreadable("brackets")
        if opening == "\\{":
            return ("item", ("set", _expanded(items)))
        if len(items) == 1:
            if items[0][0] != "value":
                return ("item", items[0])
            if not items[0][2]:
                return items[0][1]
            if self.depth:
                raise Unreadable("a unit inside a formula")
            return ("item", items[0])
        if not items or opening == "{":
            raise Unreadable("empty brackets")
        if opening == "[" and all(item[:2] == ("tuple", "[") for item in items):
            if len({len(item[3]) for item in items}) == 1:
                return ("item", ("matrix", tuple(item[3] for item in items)))
        if opening == "\\langle":
            opening, closing = "(", ")"
        return ("item", ("tuple", opening, closing, tuple(items)))

    def _rows(self, opening: str) -> tuple[tuple[Item, ...], ...]:
        if not _MATRIX.match(opening):
            raise Unreadable("environment")
        rows: list[tuple[Item, ...]] = []
        row: list[Item] = []
        while True:
            row.append(self._cell())
            token = self.take()
            if token == "&":
                continue
            rows.append(tuple(row))
            row = []
            if token == "\\\\" and (self.token or "").startswith("\\end{"):
                token = self.take()
            if token.startswith("\\end{") and len({len(line) for line in rows}) == 1:
                return tuple(rows)
            if token != "\\\\":
                raise Unreadable("matrix")

    def _branches(self) -> tuple[Item, ...]:
        """The rows of ``cases``: equations, or a value with its condition as ``("meet", (value, condition))``."""
        branches: list[Item] = []
        while not (self.token or "").startswith("\\end{"):
            parts = [self.item()]
            while self.token not in (None, "\\\\") and not (self.token or "").startswith("\\end{"):
                if self.token in SEPARATORS or re.sub("[⟦⟧ ]", "", self.token or "") in ("if", "for", "when", "where"):
                    self.take()
                elif re.sub("[⟦⟧ ]", "", self.token or "") in ("otherwise", "else"):
                    self.take()
                    parts.append(("value", algebra.symbol("otherwise"), ""))
                else:
                    parts.append(self.item())
            if self.token == "\\\\":
                self.take()
            branches.append(parts[0] if len(parts) == 1 else ("meet", tuple(parts)))
            if len(branches) > MAX_ITEMS:
                raise Unreadable("items")
        self.take()
        return tuple(branches)

    def _cell(self) -> Item:
        value = self.sum()
        if value[0] == "item":
            raise Unreadable("a collection in a matrix")
        return ("value", value, "")


def _is_inequality(item: Item) -> bool:
    return item[0] in ("meet", "union") or item[0] == "relation" and bool(_INEQUALITIES & set(item[1]))


def _expanded(items: list[Item]) -> tuple[Item, ...]:
    """``a ± b`` as the two items ``a + b`` and ``a - b``; two signs of one formula are independent."""
    result: list[Item] = []
    for item in items:
        signs = sorted({name for node in _formulas(item) for name in algebra.symbols_of(node) if name[0] == "±"})
        if len(signs) > 4:
            raise Unreadable("signs")
        choices = itertools.product((ONE, MINUS_ONE), repeat=len(signs) if item[0] != "tuple" else min(1, len(signs)))
        both = (
            [_substituted(item, dict(zip(signs, itertools.cycle(choice), strict=False))) for choice in choices]
            if signs
            else [item]
        )
        result += dict.fromkeys(both)
    if len(result) > MAX_ITEMS:
        raise Unreadable("items")
    return tuple(result)


def _formulas(item: Item) -> Iterator[Node]:
    if item[0] == "value":
        yield item[1]
    elif item[0] not in ("union", "meet", "minus", "matrix", "cases"):
        for part in item[-1]:
            yield from _formulas(part)


def _substituted(item: Item, signs: dict[str, Node]) -> Item:
    if item[0] == "value":
        node = item[1]
        for name, sign in signs.items():
            node = algebra.substitute(node, name, sign)
        return ("value", node, item[2])
    return (*item[:-1], tuple(_substituted(part, signs) for part in item[-1]))


def _relation(operators: list[str], sides: list[Item]) -> Item:
    """A chain that reads from small to large; a single ``=`` keeps its sides in order."""
    if all(operator in (">", ">=") for operator in operators):
        operators = [operator.replace(">", "<") for operator in reversed(operators)]
        sides = sides[::-1]
    return ("relation", tuple(operators), tuple(sides))

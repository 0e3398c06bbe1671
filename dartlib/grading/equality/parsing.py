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
from functools import lru_cache
from typing import Any, TypeAlias

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import MINUS_ONE, ONE, Node, Undefined
from dartlib.grading.equality.notation import CACHED, tokenise
from dartlib.grading.equality.parsing_formulas import PLUS_MINUS, FormulaReader
from dartlib.grading.equality.parsing_tokens import (
    CLOSERS,
    CLOSING,
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
        items = [self.item()]
        while self.token in SEPARATORS:
            while self.token in SEPARATORS:  # ", and"
                self.take()
            if self.token is None or self.token in CLOSERS:
                break
            items.append(self.item())
            if len(items) > MAX_ITEMS:
                raise Unreadable("items")
        return items

    def item(self) -> Item:
        """A relation chain, or the one side there is."""
        operators: list[str] = []
        if self.token in ("\\approx", "="):  # "≈ 6.76 miles"
            self.take()
        sides = [self.union()]
        while self.token in RELATIONS or self.token == ":":
            operators.append(RELATIONS.get(self.take(), ":"))
            if operators[-1] == ":" and self.token == "=":
                self.take()
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
            self.take()
            parts.append(self.quantity())
        return first if len(parts) == 1 else ("union", tuple(sorted(parts, key=repr)))

    def quantity(self) -> Item:
        """A sum with its unit, or a bracketed collection."""
        value = self.sum()
        return value[1] if value[0] == "item" else ("value", value, self.unit())

    def unit(self) -> str:
        """The unit words at the reader's place, in one spelling; empty when there are none."""
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
            found: Item = ("matrix", self._rows(opening))
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

    def _cell(self) -> Item:
        value = self.sum()
        if value[0] == "item":
            raise Unreadable("a collection in a matrix")
        return ("value", value, "")


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
        return ("value", algebra.substitute(item[1], PLUS_MINUS[1], sign), item[2])
    if item[0] in ("union", "matrix"):
        return item
    return (*item[:-1], tuple(_substituted(part, sign) for part in item[-1]))


def _relation(operators: list[str], sides: list[Item]) -> Item:
    """A chain that reads from small to large; a single ``=`` keeps its sides in order."""
    if all(operator in (">", ">=") for operator in operators):
        operators = [operator.replace(">", "<") for operator in reversed(operators)]
        sides = sides[::-1]
    return ("relation", tuple(operators), tuple(sides))

"""Sets of real numbers in whatever form: intervals, unions, inequalities, ``\\setminus``, ``|x| \\ge 1``, ``x \\ne 2``.

Every form becomes the same pieces in order, so that the forms need no rules against each other. "Or" and ∪ unite;
"and" between inequalities is both at once (x<2 and x>3 is nothing), between intervals it lists them; a comma is read
as whichever of the two leaves a set that is neither empty nor everything. An inequality must be linear in its one
variable, or in the absolute value of such a side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import MINUS_ONE, Node, Undefined
from dartlib.grading.equality.parsing import Item

# (lower end, whether it belongs to it, upper end, whether it belongs to it), the ends as formulas
Piece = tuple[Node, bool, Node, bool]

_INFINITY = algebra.symbol("∞")
_MINUS_INFINITY = algebra.multiply([MINUS_ONE, _INFINITY])
_EVERYTHING: tuple[Piece, ...] = ((_MINUS_INFINITY, False, _INFINITY, False),)
_SPECIAL = {"union", "meet", "minus"}


class _NoRegion(ValueError):
    """The answer is no set of reals that can be written as intervals."""


def as_regions(gold: Sequence[Item], pred: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """Both answers as ordered intervals, where one holds an inequality or a set operation and both are sets of reals.

    Otherwise both as they are; inequalities joined by "and" are then a list.
    """
    if any(_is_special(item) for item in (*gold, *pred)) and _variables(gold, pred) <= 1:
        try:
            return [_written(_together(items)) for items in (gold, pred)]  # type: ignore[return-value]
        except (_NoRegion, Undefined):
            pass
    return [[part for item in items for part in _conditions(item)] for items in (gold, pred)]  # type: ignore[return-value]


def _conditions(item: Item) -> Sequence[Item]:
    """Inequalities joined by "and" or "or", one by one."""
    is_joined = item[0] in ("meet", "union") and all(part[0] in ("meet", "union", "relation") for part in item[1])
    return [each for part in item[1] for each in _conditions(part)] if is_joined else [item]


def _is_special(item: Item) -> bool:
    return item[0] in _SPECIAL or item[0] == "relation" and bool({"<", "<=", "!=", "in"} & set(item[1]))


def _variables(*answers: Sequence[Item]) -> int:
    """How many variables the inequalities of both answers speak of (``x>5`` is not ``y>5``)."""
    names: set[str] = set()
    pending = [item for items in answers for item in items]
    while pending:
        item = pending.pop()
        if item[0] in _SPECIAL:
            pending += item[1]
        elif item[0] == "relation":
            names |= {_variable([side for side in item[2] if side[0] == "value"])}
    return len(names)


def _variable(sides: Sequence[Item]) -> str:
    """What is compared: the middle, else the side that is one symbol (x before a), else the only symbol."""
    middle = sides[1:2] if len(sides) == 3 else sides
    alone = {side[1][1] for side in middle if side[1][0] == "sym"} - algebra.CONSTANTS.keys()
    found = {name for side in sides for name in algebra.symbols_of(side[1])}
    return (
        str(max(alone, key=lambda name: (name in "mnrtuvwxyz", name)))
        if alone
        else found.pop()
        if len(found) == 1
        else "?"
    )


def _together(items: Sequence[Item]) -> tuple[Piece, ...]:
    parts = [_pieces(item) for item in items]
    united = _merge([piece for part in parts for piece in part])
    if len(parts) == 1 or not any(item[0] == "relation" for item in items):
        return united
    common = parts[0]
    for part in parts[1:]:
        common = _intersection(common, part)
    if united == _EVERYTHING:
        return common
    if common and len(parts) > 1 and any(item[0] == "relation" and "!=" in item[1] for item in items):
        return common
    if common and common != united:
        raise _NoRegion
    return united


def _pieces(item: Item) -> tuple[Piece, ...]:
    """One item as disjoint pieces in order."""
    kind = item[0]
    if kind == "tuple" and len(item[3]) == 2 and all(part[0] == "value" for part in item[3]):
        (_, low, _), (_, high, _) = item[3]
        return ((low, item[1] == "[", high, item[2] == "]"),)
    if kind == "set" and all(part[0] == "value" for part in item[1]):
        return _merge([(part[1], True, part[1], True) for part in item[1]])
    if kind == "union":
        return _merge([piece for part in item[1] for piece in _pieces(part)])
    if kind == "minus":
        return _intersection(_pieces(item[1][0]), _complement(_pieces(item[1][1])))
    if kind == "meet":
        found = _pieces(item[1][0])
        for part in item[1][1:]:
            found = _intersection(found, _pieces(part))
        return found
    if kind == "relation":
        return _solutions(item)
    if kind == "value" and item[1][0] == "sym" and item[1][1].startswith("bb") and "'R'" in item[1][1]:
        return _EVERYTHING
    raise _NoRegion


def _solutions(item: Item) -> tuple[Piece, ...]:
    """The solutions of ``a < x <= b``, ``x in [a, b]``, ``x != a`` and ``|x - a| < b``."""
    _, operators, sides = item
    if operators == ("in",) and sides[0][0] == "value":
        return _pieces(sides[1])
    if any(side[0] != "value" for side in sides):
        raise _NoRegion
    name = _variable(sides)
    found = _EVERYTHING
    for operator, left, right in zip(operators, sides, sides[1:], strict=False):
        found = _intersection(found, _half_line(operator, left[1], right[1], name))
    return found


def _half_line(operator: str, left: Node, right: Node, name: str) -> tuple[Piece, ...]:
    """The solutions of one comparison of two formulas."""
    if operator not in ("<", "<=", "!=", "="):
        raise _NoRegion
    for side, other, turned in ((left, right, False), (right, left, True)):
        if side[:2] == ("fun", "abs") and name not in algebra.symbols_of(other):
            return _absolute(operator, side[2][0], other, turned, name)
    if _INFINITY in (left, right) or _MINUS_INFINITY in (left, right):
        return _EVERYTHING
    difference = algebra.add([left, algebra.multiply([MINUS_ONE, right])])
    constant = algebra.substitute(difference, name, algebra.number(0))
    slope = algebra.add([algebra.substitute(difference, name, algebra.ONE), algebra.multiply([MINUS_ONE, constant])])
    line = algebra.add([algebra.multiply([slope, algebra.symbol(name)]), constant])
    if slope[0] != "num" or not slope[1] or line != difference:
        raise _NoRegion
    point = algebra.multiply([algebra.number(-1 / slope[1]), constant])
    below: Piece = (_MINUS_INFINITY, False, point, operator == "<=")
    above: Piece = (point, operator == "<=", _INFINITY, False)
    if operator == "=":
        return ((point, True, point, True),)
    return (below, above) if operator == "!=" else (below,) if slope[1] > 0 else (above,)


def _absolute(operator: str, inner: Node, bound: Node, turned: bool, name: str) -> tuple[Piece, ...]:
    """``|inner|`` compared with a bound (``turned``: the bound stands first)."""
    negative = algebra.multiply([MINUS_ONE, bound])
    if _number(bound) < 0 or operator == "=":
        raise _NoRegion
    if operator == "!=":
        return _intersection(_half_line("!=", inner, bound, name), _half_line("!=", inner, negative, name))
    if turned:  # bound < |inner|
        return _merge([*_half_line(operator, bound, inner, name), *_half_line(operator, inner, negative, name)])
    return _intersection(_half_line(operator, inner, bound, name), _half_line(operator, negative, inner, name))


def _number(node: Node) -> float:
    if node in (_INFINITY, _MINUS_INFINITY):
        return math.inf if node == _INFINITY else -math.inf
    value = algebra.evaluate(node, {})
    if abs(value.imag) > 1e-9:
        raise _NoRegion
    return value.real


def _merge(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """The union: pieces in order that neither overlap nor touch. One piece alone may have letters for its ends."""
    given = list(pieces)
    if len(given) < 2:
        return tuple(given)
    merged: list[Piece] = []
    for low, has_low, high, has_high in sorted(given, key=lambda piece: (_number(piece[0]), not piece[1])):
        if _number(low) > _number(high) or low == high and not (has_low and has_high):
            continue
        if merged:
            start, has_start, end, has_end = merged[-1]
            gap = _number(low) - _number(end)
            if gap < 0 or low == end and (has_low or has_end):
                further = _number(high) > _number(end)
                has_last = has_high if further else has_end or high == end and has_high
                merged[-1] = (start, has_start, high if further else end, has_last)
                continue
        merged.append((low, has_low, high, has_high))
    return tuple(merged)


def _complement(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    ends = [(_MINUS_INFINITY, True), *((high, has_high) for _, _, high, has_high in pieces)]
    starts = [*((low, has_low) for low, has_low, _, _ in pieces), (_INFINITY, True)]
    gaps = [
        (end, not has_end, start, not has_start)
        for (end, has_end), (start, has_start) in zip(ends, starts, strict=True)
    ]
    return tuple(gap for gap in gaps if gap[0] != gap[2] or gap[1] and gap[3])


def _intersection(first: tuple[Piece, ...], second: tuple[Piece, ...]) -> tuple[Piece, ...]:
    if first == _EVERYTHING or second == _EVERYTHING:
        return second if first == _EVERYTHING else first
    found: list[Piece] = []
    for low, has_low, high, has_high in first:
        for start, has_start, end, has_end in second:
            low_now, has_low_now = _tighter((low, has_low), (start, has_start), _MINUS_INFINITY, 1)
            high_now, has_high_now = _tighter((high, has_high), (end, has_end), _INFINITY, -1)
            if (
                low_now == high_now
                and has_low_now
                and has_high_now
                or low_now != high_now
                and _ordered(low_now, high_now)
            ):
                found.append((low_now, has_low_now, high_now, has_high_now))
    return tuple(found)


def _tighter(first: tuple[Node, bool], second: tuple[Node, bool], none: Node, sign: int) -> tuple[Node, bool]:
    """Of two lower (or upper, ``sign`` -1) ends the one that leaves less; ``none`` bounds nothing."""
    if first[0] == second[0]:
        return first[0], first[1] and second[1]
    if none in (first[0], second[0]):
        return second if first[0] == none else first
    return first if sign * (_number(first[0]) - _number(second[0])) > 0 else second


def _ordered(low: Node, high: Node) -> bool:
    """Whether the ends are in order; ends with letters are taken to be so (``a < x < b``)."""
    if algebra.symbols_of(low) or algebra.symbols_of(high):
        return True
    return _number(low) < _number(high)


def _written(pieces: tuple[Piece, ...]) -> list[Item]:
    """Pieces as intervals and points again; nothing is the empty set."""
    found: list[Item] = []
    for low, has_low, high, has_high in pieces:
        ends = (("value", low, ""), ("value", high, ""))
        point = low == high and has_low and has_high
        found.append(("set", ends[:1]) if point else ("tuple", "[" if has_low else "(", "]" if has_high else ")", ends))
    return found or [("set", ())]

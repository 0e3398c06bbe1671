"""Sets of real numbers in whatever form: intervals, unions, inequalities, ``\\setminus``, ``|x| \\ge 1``, ``x \\ne 2``.

Two sets are equal if they hold the same points: every end that either of them states, what lies close to it on both
sides, the middles between ends and points far out are tried. So the forms need no rules against each other. "Or" and ∪
unite; "and" between inequalities is both at once (x<2 and x>3 is nothing), between intervals it lists them; a comma
between inequalities is "and" where they have points in common and all of them together are everything, else "or".
"""

import math
from collections.abc import Iterator, Sequence

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import Node, Undefined
from dartlib.grading.equality.formulas import FLOAT_NOISE, value_of
from dartlib.grading.equality.parsing import Item

_JOINED = ("union", "meet", "minus")
_ORDERS = {"<": (-1,), "<=": (-1, 0), "!=": (-1, 1), "=": (0,)}  # of two sides
_NEAR = 1e-6  # relative distance from an end at which a set is tried
_FAR = (-1e7, -1e3, 1e3, 1e7)


def same_region(gold: Sequence[Item], pred: Sequence[Item]) -> bool | None:
    """Whether both answers hold the same real numbers; None if no inequality or set operation occurs, or one is no set
    of reals in one variable."""
    if not any(_is_special(item) for item in (*gold, *pred)):
        return None
    names = {
        _variable(item) for items in (gold, pred) for each in items for item in _parts(each) if item[0] == "relation"
    }
    if len(names) > 1 or "" in names:  # x>5 is not y>5
        return None
    name = names.pop() if names else "x"
    try:
        ends = sorted(
            {end for items in (gold, pred) for item in items for end in _ends(item, name) if math.isfinite(end)}
        )
        points = [*ends, *((left + right) / 2 for left, right in zip(ends, ends[1:], strict=False)), *_FAR]
        points += [end + side * _NEAR * max(1.0, abs(end)) for end in ends for side in (-1, 1)]
        held = [[[_holds(item, point, name) for item in items] for point in points] for items in (gold, pred)]
    except (Undefined, ValueError):
        return None
    first, second = _together(gold, held[0]), _together(pred, held[1])
    return first == second and any(first)


def _is_special(item: Item) -> bool:
    return item[0] in _JOINED or item[0] == "relation" and bool({"<", "<=", "!=", "in"} & set(item[1]))


def _parts(item: Item) -> Iterator[Item]:
    if item[0] in _JOINED:
        for part in item[1]:
            yield from _parts(part)
    else:
        yield item


def _variable(item: Item) -> str:
    """What is compared: the middle, else the side that is one symbol (x before a), else the only symbol."""
    sides = [side[1] for side in (item[2][1:2] if len(item[2]) == 3 else item[2]) if side[0] == "value"]
    alone = {side[1] for side in sides if side[0] == "sym"} - algebra.CONSTANTS.keys()
    found = {name for side in sides for name in algebra.symbols_of(side)}
    return str(max(alone or found or {""}, key=lambda name: (name in "mnrtuvwxyz", name)))


def _together(items: Sequence[Item], held: list[list[bool]]) -> list[bool]:
    either, both = [any(point) for point in held], [all(point) for point in held]
    if any(item[0] == "relation" for item in items) and any(both) and (all(either) or "!=" in str(items)):
        return both
    unsure = any(both) and both != either and len(items) > 1 and all(item[0] == "relation" for item in items)
    return [] if unsure else either


def _number(node: Node, name: str, point: float = math.nan) -> float:
    """The value of a formula, ``name`` at ``point`` and other letters at values of their own."""
    others = {letter: complex(value_of(letter, 0)) for letter in algebra.symbols_of(node) - {name}}
    value = algebra.evaluate(node, {**others, name: complex(point)})
    if abs(value.imag) > FLOAT_NOISE * (1 + abs(value.real)):
        raise Undefined("not a real number")
    return value.real


def _ends(item: Item, name: str) -> Iterator[float]:
    """Where the set may begin or end: what it states, and the zeros of a linear difference or of ``|a x + b| - c``."""
    if item[0] in _JOINED:
        for part in item[1]:
            yield from _ends(part, name)
    elif item[0] in ("tuple", "set") and all(part[0] == "value" for part in item[-1]):
        yield from (_number(part[1], name) for part in item[-1])
    elif item[0] == "relation" and item[1] == ("in",):
        yield from _ends(item[2][1], name)
    elif item[0] == "relation" and _ORDERS.keys() >= set(item[1]) and all(side[0] == "value" for side in item[2]):
        for left, right in zip(item[2], item[2][1:], strict=False):
            for sign in (1, -1):
                yield from _zero(left[1], right[1], sign, name)
    elif not _is_reals(item):
        raise Undefined("no set of reals")


def _zero(left: Node, right: Node, sign: int, name: str) -> Iterator[float]:
    sides = [side[2][0] if side[:2] == ("fun", "abs") else side for side in (left, right)]
    difference = algebra.add([sides[0], algebra.multiply([algebra.number(-sign), sides[1]])])
    start, slope = _number(difference, name, 0.0), _number(difference, name, 1.0) - _number(difference, name, 0.0)
    if math.isfinite(start) and slope and math.isfinite(slope):
        yield -start / slope


def _is_reals(item: Item) -> bool:
    return item[0] == "value" and item[1][0] == "sym" and item[1][1].startswith("bb") and "'R'" in item[1][1]


def _holds(item: Item, point: float, name: str) -> bool:
    """Whether the number belongs to the set."""
    if item[0] in _JOINED:
        parts = [_holds(part, point, name) for part in item[1]]
        return (
            any(parts) if item[0] == "union" else all(parts) if item[0] == "meet" else parts[0] and not any(parts[1:])
        )
    if item[0] == "set":
        return any(_order(point, _number(part[1], name)) == 0 for part in item[1])
    if item[0] == "tuple" and len(item[3]) == 2:
        low, high = (_order(point, _number(part[1], name)) for part in item[3])
        return (low > 0 or item[1] == "[" and low == 0) and (high < 0 or item[2] == "]" and high == 0)
    if item[0] == "relation" and item[1] == ("in",):
        return _holds(item[2][1], point, name)
    if item[0] == "relation":
        values = [_number(side[1], name, point) for side in item[2]]
        pairs = zip(item[1], values, values[1:], strict=False)
        return all(_order(left, right) in _ORDERS[operator] for operator, left, right in pairs)
    if _is_reals(item):
        return True
    raise Undefined("no set of reals")


def _order(first: float, second: float) -> int:
    """-1, 0 or 1; equal within the noise of floating point."""
    near = math.isfinite(first) and math.isfinite(second)
    if first == second or near and abs(first - second) <= FLOAT_NOISE * 1e-2 * max(1.0, abs(first), abs(second)):
        return 0
    return 1 if first > second else -1

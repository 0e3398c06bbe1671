"""Lists of named and bare items: which members of two answers belong together, and whether their order matters."""

from collections.abc import Sequence

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import Node, Undefined
from dartlib.grading.equality.formulas import Rules
from dartlib.grading.equality.parsing import Item


def conditions(items: Sequence[Item]) -> Sequence[Item]:
    """The items with inequalities joined by "and" or "or" one by one."""
    found: list[Item] = []
    for item in items:
        joined = item[0] in ("meet", "union") and all(part[0] in ("meet", "union", "relation") for part in item[1])
        found += conditions(item[1]) if joined else [item]
    return found


def aligned(items: Sequence[Item], other: Sequence[Item]) -> Sequence[Item]:
    """``(x, y) = (1, 2)`` as ``x=1, y=2``; ``p=5, q=2; p=7, q=2`` as tuples where the other answer is made of them.

    A tuple has its values in the order of the letters that name them.
    """
    if len(items) == 1 and len(other) > 1 and items[0][0] == "relation" and items[0][1] == ("=",):
        names, values = items[0][2]
        if names[0] == values[0] == "tuple" and len(names[3]) == len(values[3]) > 1:
            return [("relation", ("=",), sides) for sides in zip(names[3], values[3], strict=True)]
    if len(items) > 1 and {_value(item)[0] for item in other} == {"tuple"} and (names := names_of(items)) is not None:
        rows = [items[start : start + len(names)] for start in range(0, len(items), len(names))]
        if len(rows) == len(other) and len(names) > 1 and all(names_of(row) == names for row in rows):
            rows = [sorted(row, key=lambda item: str(item[2][0])) for row in rows]
            return [("tuple", "(", ")", tuple(values_of(row))) for row in rows]
    return items


def names_of(items: Sequence[Item]) -> frozenset[str] | None:
    """The names of items that all read ``name = value``; None for others."""
    named = all(item[0] == "relation" and item[1] in (("=",), ("~",)) and item[2][0][0] == "value" for item in items)
    if not named or not all(is_name(item[2][0]) for item in items):
        return None
    return frozenset(str(item[2][0][1][1]) for item in items)


def values_of(items: Sequence[Item]) -> Sequence[Item]:
    return [_value(item) for item in items]


def _value(item: Item) -> Item:
    """What ``name = value`` says; other items as they are."""
    return item[2][-1] if item[0] == "relation" and item[1] in (("=",), ("~",)) and is_name(item[2][0]) else item


def opened(items: Sequence[Item], ordered: bool, other_is_bare: bool, rules: Rules) -> tuple[Sequence[Item], bool]:
    """The members of a collection that the other answer enumerates without brackets.

    ``[a, b]`` in order is a closed interval, which its two end points do not give, unless the query asks for a list.
    """
    if len(items) == 1 and other_is_bare:
        if items[0][0] in ("set", "cases"):
            return items[0][1], False
        if items[0][0] == "tuple" and items[0][1:3] == ("[", "]") and (rules.listed or not _may_be_interval(items[0])):
            return items[0][3], True
    return items, ordered


def _may_be_interval(item: Item) -> bool:
    if len(item[3]) != 2 or any(end[0] != "value" for end in item[3]):
        return False
    try:
        low, high = (algebra.evaluate(end[1], {}) for end in item[3])
    except Undefined:
        return True
    return low.real < high.real


def spread(items: Sequence[Item]) -> Sequence[Item]:
    """``x = 1, 2`` names once what it enumerates: the items are the values."""
    first = items[0]
    if first[0] == "relation" and first[1] in (("=",), ("in",)) and all(item[0] != "relation" for item in items[1:]):
        return (first[2][-1], *items[1:])
    return items


def is_name(item: Item) -> bool:
    """``x``, ``f(x)``, ``y'``, ``\\angle ABC``, ``(x, y)``, ``AB : CD`` ...: a side that only names the other side."""
    if item[0] == "value":
        return item[1][0] == "sym" and item[1][1] not in algebra.CONSTANTS and not item[2]
    return item[0] in ("tuple", "ratio") and all(is_name(part) for part in item[-1])


def has_symbols(item: Item) -> bool:
    return any(algebra.symbols_of(node) for node in nodes_of(item))


def nodes_of(item: Item) -> list[Node]:
    """All formulas of an item."""
    if item[0] == "value":
        return [item[1]]
    if item[0] == "matrix":
        return [node for row in item[1] for part in row for node in nodes_of(part)]
    return [node for part in item[-1] for node in nodes_of(part)]

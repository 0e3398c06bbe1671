"""Answers of every structure: lists, tuples, intervals, sets, matrices, relations, values with units.

Every comparison takes the function that compares two formulas (``leaf``) and is three-valued: None means that only
a better ``leaf`` can tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from dartlib.grading.equality import algebra
from dartlib.grading.equality.algebra import MINUS_ONE, Node, Undefined
from dartlib.grading.equality.formulas import Leaf, Rules, value_of
from dartlib.grading.equality.parsing import Item
from dartlib.grading.equality.units import same_unit

_ZERO: Item = ("value", algebra.number(0), "")


def compare_answers(
    gold: tuple[bool, tuple[Item, ...]], pred: tuple[bool, tuple[Item, ...]], rules: Rules, leaf: Leaf
) -> bool | None:
    """Whole answers: an enumeration is unordered, a list in square brackets or by spaces is not."""
    (gold_ordered, golds), (pred_ordered, preds) = gold, pred
    golds, preds = _united(golds, preds), _united(preds, golds)
    if len(golds) == 1 and len(preds) == 1:
        return _compare_items(golds[0], preds[0], rules, leaf)
    golds, gold_ordered = _opened(golds, gold_ordered, len(preds) > 1)
    preds, pred_ordered = _opened(preds, pred_ordered, len(golds) > 1)
    if len(golds) != len(preds):
        return False
    golds, preds = _spread(golds), _spread(preds)
    if gold_ordered or pred_ordered:
        return _all(_compare_items(g, p, rules, leaf) for g, p in zip(golds, preds, strict=True))
    return _matched(golds, preds, rules, leaf)


def _united(items: tuple[Item, ...], other: tuple[Item, ...]) -> tuple[Item, ...]:
    """``x < 2 or x > 3`` and several intervals as their union, where the other answer is one."""
    if len(items) > 1 and len(other) == 1 and (union := _simplified(other[0], items[0]))[0] == "union":
        parts = [_simplified(item, union) for item in items]
        if all(part[0] in ("tuple", "set") for part in parts):
            return (("union", tuple(sorted(parts, key=repr))),)
    return items


def _opened(items: tuple[Item, ...], ordered: bool, other_is_bare: bool) -> tuple[tuple[Item, ...], bool]:
    """The members of a collection that the other answer enumerates without brackets."""
    if len(items) == 1 and other_is_bare:
        if items[0][0] == "set":
            return items[0][1], False
        if items[0][0] == "tuple" and items[0][1:3] == ("[", "]"):
            return items[0][3], True
    return items, ordered


def _spread(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """``x = 1, 2`` names once what it enumerates: the items are the values."""
    first = items[0]
    if first[0] == "relation" and first[1] in (("=",), ("in",)) and all(item[0] != "relation" for item in items[1:]):
        return (first[2][-1], *items[1:])
    return items


def _compare_items(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Two items of whatever kinds."""
    if _is_approximated(gold) != _is_approximated(pred):  # of two, both sides must agree
        readings = [(g, p) for g in _readings(gold) for p in _readings(pred)]
        return _any(_compare_items(g, p, rules, leaf) for g, p in readings)
    gold, pred = _simplified(gold, pred), _simplified(pred, gold)
    if gold == pred:
        return True
    if gold[0] != pred[0]:
        return _compare_kinds(gold, pred, rules, leaf)
    if gold[0] == "value":
        return _compare_values(gold, pred, rules, leaf)
    if gold[0] == "relation":
        return _compare_relations(gold, pred, rules, leaf)
    if gold[0] == "matrix":
        if [len(row) for row in gold[1]] != [len(row) for row in pred[1]]:
            return False
        pairs = zip(sum(gold[1], ()), sum(pred[1], ()), strict=True)
        return _all(_compare_items(g, p, rules, leaf) for g, p in pairs)
    if len(gold[-1]) != len(pred[-1]) and gold[0] != "set":
        return False
    if gold[0] == "set":
        return _compare_sets(gold[1], pred[1], rules, leaf)
    if gold[0] == "union":
        return _matched(gold[1], pred[1], rules, leaf)
    if gold[0] == "tuple" and gold[1:3] != pred[1:3]:
        return False
    return _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[-1], pred[-1], strict=True))


def _is_approximated(item: Item) -> bool:
    """``5/6 ≈ 0.833``, but not ``x ≈ 0.833``."""
    if item[0] != "relation" or item[1][-1] != "~" or item[1].count("~") > 1:
        return False
    return not any(map(_has_symbols, item[2][-2:]))


def _readings(item: Item) -> list[Item]:
    """A value with its approximation stands for either."""
    if not _is_approximated(item):
        return [item]
    _, operators, (*named, exact, rounded) = item
    sides = [(*named, value) for value in (exact, rounded)]
    return [("relation", operators[:-1], each) for each in sides] if named else [exact, rounded]


def _simplified(item: Item, other: Item) -> Item:
    """An inequality as an interval beside an interval; the named value beside a value."""
    if item[0] == "relation" and other[0] != "relation":
        operators, sides = item[1], item[2]
        if operators[-1] in ("=", "~", "in") and set(operators) <= {"=", "~", "in"}:
            named = len(sides) > 2 or _is_name(sides[0]) or not _has_symbols(sides[0])
            return sides[-1] if named or not _has_symbols(sides[-1]) and sides[-1] != _ZERO else item
        if other[0] in ("tuple", "union") and (interval := _interval(operators, sides)):
            return interval
    if item[0] == "set" and len(item[1]) == 1 and other[0] == "value":
        return item[1][0]
    return item


def _has_symbols(item: Item) -> bool:
    return any(algebra.symbols_of(node) for node in nodes_of(item))


def _is_name(item: Item) -> bool:
    """``x``, ``f(x)``, ``y'``, ``E(W)``, ``x + y`` ...: a side that only names what the other side gives."""
    if item[0] == "value" and not item[2]:
        node = item[1]
        return node[0] == "sym" or (
            node[0] == "mul" and all(part[0] == "sym" or part[0] == "pow" and part[1][0] == "sym" for part in node[1])
        )
    return item[0] == "tuple" and all(_is_name(part) for part in item[3])


def _interval(operators: Sequence[str], sides: Sequence[Item]) -> Item | None:
    """``a < x <= b`` as ``(a, b]``."""
    infinity = algebra.symbol("∞")
    minus = algebra.multiply([MINUS_ONE, infinity])
    if set(operators) - {"<", "<="}:
        return None
    if len(sides) == 3 and _is_name(sides[1]):
        return (
            "tuple",
            "[" if operators[0] == "<=" else "(",
            "]" if operators[1] == "<=" else ")",
            (sides[0], sides[2]),
        )
    if len(sides) == 2 and _is_name(sides[0]):
        return ("tuple", "(", "]" if operators[0] == "<=" else ")", (("value", minus, ""), sides[1]))
    if len(sides) == 2 and _is_name(sides[1]):
        return ("tuple", "[" if operators[0] == "<=" else "(", ")", (sides[0], ("value", infinity, "")))
    return None


def _compare_kinds(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Different kinds are different answers, but for a column written as a tuple and a row as a list."""
    if {gold[0], pred[0]} == {"matrix", "tuple"}:
        matrix, listed = (gold, pred) if gold[0] == "matrix" else (pred, gold)
        column = all(len(row) == 1 for row in matrix[1])
        if listed[1:3] == ("(", ")") if column else listed[1:3] == ("[", "]") and len(matrix[1]) == 1:
            return _compare_items((*listed[:3], sum(matrix[1], ())), listed, rules, leaf)
    return False


def _compare_values(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Formulas with units; the percent sign is a factor of 1/100 or, as a question for percent wants, a unit."""
    (_, left, left_unit), (_, right, right_unit) = gold, pred
    if (left_unit == "%") == (right_unit == "%"):
        return leaf(left, right, rules) if same_unit(left_unit, right_unit) else False
    if left_unit not in ("", "%") or right_unit not in ("", "%"):
        return False
    hundredth = algebra.number(Fraction(1, 100))
    bare, signed = (right, left) if left_unit == "%" else (left, right)
    as_unit = leaf(left, right, rules) if not (bare[0] == "num" and abs(bare[1]) < 1) else False
    if as_unit:
        return True
    scaled = algebra.multiply([hundredth, signed])
    as_factor = leaf(scaled, right, rules) if left_unit == "%" else leaf(left, scaled, rules)
    return as_factor if as_factor or as_unit is False else None


def _compare_relations(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Sides pairwise; an equation may be turned round or multiplied."""
    if len(gold[2]) != len(pred[2]):
        shorter = min(len(gold[2]), len(pred[2]))
        if shorter == 2 and _all_equal_signs(gold) and _all_equal_signs(pred):
            ends = [(item[2][0], item[2][-1]) for item in (gold, pred)]
            return _all(_compare_items(g, p, rules, leaf) for g, p in zip(*ends, strict=True))
        return False
    if gold[1] != pred[1]:
        return False
    straight = _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[2], pred[2], strict=True))
    if straight or len(gold[2]) != 2 or gold[1] not in (("=",), ("!=",)):
        return straight
    turned = _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[2], pred[2][::-1], strict=True))
    if turned or any(side[0] != "value" or side[2] for side in (*gold[2], *pred[2])):
        return turned
    proportional = _proportional(_difference(gold[2]), _difference(pred[2]), leaf)
    return proportional if proportional is not False else (None if None in (straight, turned) else False)


def _all_equal_signs(item: Item) -> bool:
    return set(item[1]) <= {"=", "~"}


def _difference(sides: Sequence[Item]) -> Node:
    return algebra.add([sides[0][1], algebra.multiply([MINUS_ONE, sides[1][1]])])


def _proportional(gold: Node, pred: Node, leaf: Leaf) -> bool | None:
    """Whether one formula is a constant multiple of the other (both with variables)."""
    names = algebra.symbols_of(gold)
    if not names or names != algebra.symbols_of(pred):
        return False
    values = {name: complex(value_of(name, 7)) for name in names}
    try:
        ratio = algebra.evaluate(gold, values) / algebra.evaluate(pred, values)
    except (Undefined, ZeroDivisionError):
        return False
    factor = Fraction(ratio.real).limit_denominator(10**4) if math.isfinite(abs(ratio)) else Fraction(0)
    if not factor or abs(ratio - float(factor)) > 1e-9 * abs(ratio):
        return False
    return leaf(gold, algebra.multiply([algebra.number(factor), pred]), Rules())


def _compare_sets(gold: Sequence[Item], pred: Sequence[Item], rules: Rules, leaf: Leaf) -> bool | None:
    """Each member of one is in the other; how often it is written does not matter."""
    one_way = _all(_any(_compare_items(g, p, rules, leaf) for p in pred) for g in gold)
    return _all([one_way, _all(_any(_compare_items(g, p, rules, leaf) for g in gold) for p in pred)])


def _matched(golds: Sequence[Item], preds: Sequence[Item], rules: Rules, leaf: Leaf) -> bool | None:
    """Whether the items can be paired off in some order. Equality is taken to be transitive."""
    remaining, undecided = list(preds), False
    for gold in golds:
        verdicts = [_compare_items(gold, pred, rules, leaf) for pred in remaining]
        if True in verdicts:
            remaining.pop(verdicts.index(True))
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """Three-valued "and"."""
    result: bool | None = True
    for verdict in verdicts:
        if verdict is False:
            return False
        if verdict is None:
            result = None
    return result


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    """Three-valued "or"."""
    result: bool | None = False
    for verdict in verdicts:
        if verdict:
            return True
        if verdict is None:
            result = None
    return result


def nodes_of(item: Item) -> list[Node]:
    """All formulas of an item."""
    if item[0] == "value":
        return [item[1]]
    if item[0] == "matrix":
        return [node for row in item[1] for part in row for node in nodes_of(part)]
    return [node for part in item[-1] for node in nodes_of(part)]

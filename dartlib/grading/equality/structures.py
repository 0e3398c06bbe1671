"""Answers of every structure: lists, tuples, intervals, sets, matrices, relations, values with units.

Every comparison takes the function that compares two formulas (``leaf``) and is three-valued: None means that only
a better ``leaf`` can tell.
"""

import math
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from dartlib.grading.equality import algebra, lists
from dartlib.grading.equality.algebra import MINUS_ONE, Node, Undefined
from dartlib.grading.equality.formulas import Leaf, Rules, value_of
from dartlib.grading.equality.parsing import Item
from dartlib.grading.equality.regions import same_region
from dartlib.grading.equality.units import same_unit


def compare_answers(
    gold: tuple[bool, tuple[Item, ...]], pred: tuple[bool, tuple[Item, ...]], rules: Rules, leaf: Leaf
) -> bool | None:
    """Whole answers: an enumeration is unordered, a list in square brackets or by spaces is not."""
    gold_ordered, pred_ordered = gold[0], pred[0]
    if (same := same_region(gold[1], pred[1])) is not None:
        return same
    golds, preds = (lists.conditions(items) for items in (gold[1], pred[1]))
    preds = lists.aligned(preds, golds)
    golds = lists.aligned(golds, preds)
    if (
        len(golds) == 1 and len(preds) > 1 and golds[0][0] == "value" and not pred_ordered
    ):  # one value, stated more than once
        return _all(_compare_items(golds[0], pred, rules, leaf) for pred in preds)
    if len(golds) == 1 and len(preds) == 1:
        return _compare_items(golds[0], preds[0], rules, leaf)
    golds, gold_ordered = lists.opened(golds, gold_ordered, len(preds) > 1, rules)
    preds, pred_ordered = lists.opened(preds, pred_ordered, len(golds) > 1, rules)
    if len(golds) != len(preds):
        return False
    golds, preds = lists.spread(golds), lists.spread(preds)
    names = [lists.names_of(items) for items in (golds, preds)]
    if names[0] != names[1]:
        golds, preds = lists.values_of(golds), lists.values_of(preds)
        gold_ordered = gold_ordered or names[0] is not None and len(names[0]) > 1
        pred_ordered = pred_ordered or names[1] is not None and len({name.partition("_")[0] for name in names[1]}) > 1
    if gold_ordered or pred_ordered:
        return _all(_compare_items(g, p, rules, leaf) for g, p in zip(golds, preds, strict=True))
    return _matched(golds, preds, rules, leaf)


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
    if gold[0] in ("union", "cases"):
        return _matched(gold[1], pred[1], rules, leaf)
    if gold[0] == "tuple" and gold[1:3] != pred[1:3]:
        return False
    return _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[-1], pred[-1], strict=True))


def _is_approximated(item: Item) -> bool:
    """``5/6 ≈ 0.833``, but not ``x ≈ 0.833``."""
    if item[0] != "relation" or item[1][-1] != "~" or item[1].count("~") > 1:
        return False
    return not any(map(lists.has_symbols, item[2][-2:]))


def _readings(item: Item) -> list[Item]:
    """A value with its approximation stands for either, if the one is near the other."""
    if not _is_approximated(item):
        return [item]
    _, operators, (*named, exact, rounded) = item
    if exact[0] == rounded[0] == "value":
        try:
            values = [algebra.evaluate(side[1], {}) for side in (exact, rounded)]
        except Undefined:
            return []
        if abs(values[0] - values[1]) > 0.05 * abs(values[0]):
            return []
    sides = [(*named, value) for value in (exact, rounded)]
    return [("relation", operators[:-1], each) for each in sides] if named else [exact, rounded]


def _simplified(item: Item, other: Item) -> Item:
    """The value that an equation gives, beside a value.

    Only a name may stand on the other side, or what holds no letter (2+3=5): ``2x=10`` does not say 10.
    """
    if item[0] == "relation" and other[0] != "relation" and set(item[1]) <= {"=", "~", "in"}:
        sides = item[2]
        if lists.is_name(sides[0]) or not lists.has_symbols(sides[0]) and not lists.is_name(sides[-1]):
            return sides[-1]
        if lists.is_name(sides[-1]) and not lists.has_symbols(sides[0]):
            return sides[0]
    if item[0] == "set" and len(item[1]) == 1 and other[0] == "value":
        return item[1][0]
    return item


def _compare_kinds(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Different kinds are different answers, but for columns and sums of unit vectors written as tuples, rows as lists.

    The equations of ``cases`` may be listed.
    """
    if {gold[0], pred[0]} == {"value", "tuple"} or {gold[0], pred[0]} == {"value", "matrix"}:
        value, listed = (gold, pred) if gold[0] == "value" else (pred, gold)
        if vector := _unit_vectors(value, len(listed[-1])):
            return _compare_items(*((vector, listed) if value is gold else (listed, vector)), rules, leaf)
    if {gold[0], pred[0]} == {"matrix", "tuple"}:
        matrix, listed = (gold, pred) if gold[0] == "matrix" else (pred, gold)
        column = all(len(row) == 1 for row in matrix[1])
        if listed[1:3] == ("(", ")") if column else listed[1:3] == ("[", "]") and len(matrix[1]) == 1:
            return _compare_items((*listed[:3], sum(matrix[1], ())), listed, rules, leaf)
    return False


def _unit_vectors(value: Item, length: int) -> Item | None:
    """``3i - 2j + k`` as ``(3, -2, 1)``; None for anything but a sum of multiples of i, j and k that holds j or k."""
    names = ("i", "j", "k")[:length]
    if not {"j", "k"} & algebra.symbols_of(value[1]):
        return None
    parts = [value[1]] * len(names)
    for name in ("i", "j", "k"):
        parts = [
            algebra.substitute(part, name, algebra.number(name == own)) for part, own in zip(parts, names, strict=True)
        ]
    whole = [algebra.multiply([part, algebra.symbol(name)]) for part, name in zip(parts, names, strict=True)]
    if algebra.add(whole) != value[1]:
        return None
    return ("tuple", "(", ")", tuple(("value", part, "") for part in parts))


def _compare_values(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Formulas with units; the percent sign is a factor of 1/100 or, as a question for percent wants, a unit."""
    (_, left, left_unit), (_, right, right_unit) = gold, pred
    if (left_unit == "%") == (right_unit == "%"):
        return leaf(left, right, rules) if same_unit(left_unit, right_unit) else False
    if left_unit not in ("", "%") or right_unit not in ("", "%"):
        return False
    hundredth = algebra.number(Fraction(1, 100))
    bare, signed = (right, left) if left_unit == "%" else (left, right)
    fits = rules.asked.percent or left_unit == "%"  # a ratio of 2 is not 2 %
    as_unit = leaf(left, right, rules) if fits and not (bare[0] == "num" and abs(bare[1]) < 1) else False
    if as_unit:
        return True
    scaled = algebra.multiply([hundredth, signed])
    as_factor = leaf(scaled, right, rules) if left_unit == "%" else leaf(left, scaled, rules)
    return as_factor if as_factor or as_unit is False else None


def _compare_relations(gold: Item, pred: Item, rules: Rules, leaf: Leaf) -> bool | None:
    """Sides pairwise; an equation may be turned round or multiplied, an inequality multiplied by a positive number.

    Two names for the same side (``f(x) =`` and ``y =``) are compared by what they name.
    """
    if len(gold[2]) != len(pred[2]):
        shorter = min(len(gold[2]), len(pred[2]))
        if shorter == 2 and _all_equal_signs(gold) and _all_equal_signs(pred):
            ends = [(item[2][0], item[2][-1]) for item in (gold, pred)]
            return _all(_compare_items(g, p, rules, leaf) for g, p in zip(*ends, strict=True))
        return False
    if gold[1] != pred[1]:
        return False
    straight = _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[2], pred[2], strict=True))
    if straight or len(gold[2]) != 2:
        return straight
    if gold[1] == ("=",) and {gold[2][0][0], pred[2][0][0]} == {"value"}:
        heads = {_heading(item[2][0][1]) for item in (gold, pred)}
        if len(heads) == 2 and "y" in heads and all(re.fullmatch(r"y|\w\(x\)", head) for head in heads):
            return _compare_items(gold[2][1], pred[2][1], rules, leaf)
    equation = gold[1] in (("=",), ("!=",))
    turned = equation and _all(_compare_items(g, p, rules, leaf) for g, p in zip(gold[2], pred[2][::-1], strict=True))
    if turned or any(side[0] != "value" or side[2] for side in (*gold[2], *pred[2])):
        return turned
    proportional = _proportional(_difference(gold[2]), _difference(pred[2]), leaf, positive=not equation)
    return proportional if proportional is not False else (None if None in (straight, turned) else False)


def _heading(node: Node) -> str:
    return str(node[1]) if node[0] == "sym" else ""


def _all_equal_signs(item: Item) -> bool:
    return set(item[1]) <= {"=", "~"}


def _difference(sides: Sequence[Item]) -> Node:
    return algebra.add([sides[0][1], algebra.multiply([MINUS_ONE, sides[1][1]])])


def _proportional(gold: Node, pred: Node, leaf: Leaf, *, positive: bool) -> bool | None:
    """Whether one formula is a (``positive``) constant multiple of the other (both with variables)."""
    names = algebra.symbols_of(gold)
    if not names or names != algebra.symbols_of(pred):
        return False
    values = {name: complex(value_of(name, 7)) for name in names}
    try:
        ratio = algebra.evaluate(gold, values) / algebra.evaluate(pred, values)
    except (Undefined, ZeroDivisionError):
        return False
    factor = Fraction(ratio.real).limit_denominator(10**4) if math.isfinite(abs(ratio)) else Fraction(0)
    if not factor or positive and factor < 0 or abs(ratio - float(factor)) > 1e-9 * abs(ratio):
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

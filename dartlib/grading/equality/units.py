"""Units of final answers: which words are units, and when two units are the same."""

from __future__ import annotations

import re

_SAME = {
    "cm": "cm centimeter centimetre", "m": "meter metre", "km": "km kilometer kilometre",
    "mm": "mm millimeter millimetre",
    "in": "inch inches", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile", "g": "gram gm", "kg": "kg kilogram",
    "mg": "mg milligram", "lb": "lb lbs pound", "oz": "oz ounce", "s": "sec second", "min": "min minute",
    "h": "hr hrs hour", "l": "liter litre", "ml": "ml milliliter", "degree": "degree deg",
    "mi / h": "mph", "km / h": "kph kmh",
    "dollar": "dollar usd buck", "cent": "cent", "%": "% percent pct", "square": "square sq", "cubic": "cubic cu",
    "rad": "rad radian", "gal": "gal gallon", "week": "week", "day": "day", "month": "month", "year": "year yr",
}  # fmt: skip
_CANONICAL = {word: name for name, words in _SAME.items() for word in words.split()}
_SCALES = frozenset("hundred thousand million billion trillion dozen half third quarter".split())
_IGNORED = frozenset("of a an the total old is are".split())
# Words that say something else than a unit: never dropped from an answer.
MEANINGFUL = frozenset(
    "and or not no if when where with for any all except between from less more greater least most than about plus "
    "minus times over under infinitely undefined none never only either neither both true false mod modulo base pm am "
    "at to as does exist solution solutions real constant function increasing decreasing concave convex up down "
    "minimum maximum local global such that".split()
)
_SHORT = frozenset(_CANONICAL) | frozenset(
    "men boy boys girl girls way ways cup cups dog dogs cat cats pie pies egg eggs box boxes bag bags tie pen pens "
    "car cars hz mol ohm volt watt amp amps deg rev units unit day days ways kg cm mm km hr per sq cu".split()
)


def is_unit_word(token: str) -> bool:
    """Whether a bare word after a number is read as its unit: known short ones, and any longer plain word."""
    if not token.isascii() or not token.isalpha() or len(token) < 2:
        return False
    word = token.lower()
    if word in _SCALES or word in MEANINGFUL:
        return False
    return word in _SHORT or _singular(word) in _SHORT or len(word) > 3 or word in _IGNORED


def unit_name(words: list[str]) -> str:
    """One spelling of a unit: synonyms, plurals, ``square`` and ``per`` removed as differences of notation."""
    text = " ".join(words).replace("⟦", " ").replace("⟧", " ").lower()
    parts = re.findall(r"[a-z]+|%|\d+|/|-", text.replace("~", " ").replace("{", "").replace("}", ""))
    power = {"square": "2", "cubic": "3"}
    named: list[str] = []
    pending = ""
    for part in parts:
        name = _CANONICAL.get(part) or _CANONICAL.get(_singular(part)) or _singular(part)
        if name in power:
            pending = power[name]
        elif name not in _IGNORED:
            named += ["/" if name == "per" else name, *([pending] if pending else [])]
            pending = ""
    if pending:
        named.append("square" if pending == "2" else "cubic")
    return " ".join(named)


def same_unit(first: str, second: str) -> bool:
    """Whether two units agree; a missing one agrees with any but a scale word (2 is not 2 million)."""
    if {*first.split(), *second.split()} & (_SCALES | MEANINGFUL):
        return first == second
    return not first or not second or first == second


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word

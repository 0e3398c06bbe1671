"""Units of final answers: which words are units, and when two units are the same."""

import re

_SAME = {
    "cm": "cm centimeter centimetre", "m": "meter metre", "km": "km kilometer kilometre",
    "mm": "mm millimeter millimetre",
    "in": "inch inches", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile", "g": "gram gm", "kg": "kg kilogram",
    "mg": "mg milligram", "lb": "lb lbs pound £", "oz": "oz ounce", "s": "sec second", "min": "min minute",
    "h": "hr hrs hour", "l": "liter litre", "ml": "ml milliliter", "degree": "degree deg",
    "mi / h": "mph", "km / h": "kph kmh",
    "dollar": "dollar usd buck $", "cent": "cent", "euro": "euro €",
    "%": "% percent pct", "square": "square sq", "cubic": "cubic cu",
    "rad": "rad radian", "gal": "gal gallon", "week": "week", "dozens": "dozens",
    "day": "day", "month": "month", "year": "year yr",
}  # fmt: skip
_MONEY = ("dollar", "euro", "lb")
_CANONICAL = {word: name for name, words in _SAME.items() for word in words.split()}
# Numbers in words: after a number they multiply or divide it (5 halves, 3 tenths, 2 quadrillion). "Dozens" are counted.
_SCALES = frozenset(
    "ten hundred thousand million billion trillion dozen gross lakh crore half halves third quarter fourth fifth"
    " sixth seventh eighth ninth tenth eleventh twelfth twentieth hundredth thousandth".split()
)
_SCALE_ENDING = re.compile(r"(?:illion|illionth|teenth|tieth|[^m]andth|undredth)s?$")
_IGNORED = frozenset("of a an the total old is are".split())
# Words that say something else than a unit: never dropped from an answer.
MEANINGFUL = frozenset(
    "and or not no if when where with for any all except between from less more greater least most than about plus "
    "minus times over under infinitely undefined none never only either neither both true false mod modulo base pm am "
    "at to as does exist solution solutions real constant function increasing decreasing concave convex up down "
    "minimum maximum local global such that below above squared cubed factorial negative doubled tripled halved out "
    "fewer lower higher short".split()
)
_SHORT = frozenset(_CANONICAL) | frozenset(
    "men boy boys girl girls way ways cup cups dog dogs cat cats pie pies egg eggs box boxes bag bags tie pen pens "
    "car cars hz mol ohm volt watt amp amps deg rev units unit day days ways kg cm mm km hr per sq cu".split()
)


def changes_value(word: str) -> bool:
    """Whether a word after a number makes it another one or says something else than its unit."""
    scale = word in _SCALES or word != "dozens" and _singular(word) in _SCALES or _SCALE_ENDING.search(word) is not None
    return scale or word in MEANINGFUL


def is_known_unit(word: str) -> bool:
    """Whether the word is a unit of measure or money."""
    return word.lower() in _CANONICAL or _singular(word.lower()) in _CANONICAL


def is_unit_word(token: str) -> bool:
    """Whether a bare word after a number is read as its unit: known short ones, and any longer plain word."""
    if not token.isascii() or not token.isalpha() or len(token) < 2:
        return False
    word = token.lower()
    if changes_value(word):
        return False
    return word in _SHORT or _singular(word) in _SHORT or len(word) > 3 or word in _IGNORED


def unit_name(words: list[str]) -> str:
    """One spelling of a unit: synonyms, plurals, ``square`` and ``per`` removed as differences of notation."""
    text = " ".join(words).replace("⟦", " ").replace("⟧", " ").lower()
    text = re.sub(r"[{}]", "", text.replace("~", " "))
    text = re.sub(r"([a-z]+) ?\^? ?- ?(\d)", lambda match: f"/ {match[1]}" + match[2].removeprefix("1"), text)  # s^{-2}
    parts = re.findall(r"[a-z]+|[%$€£]|\d+|/|-", text)
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
    if any(map(changes_value, (*first.split(), *second.split()))):
        return first == second
    shorter, longer = sorted((first, second), key=len)
    return shorter in ("", longer) or shorter in _MONEY and longer.startswith(f"{shorter} /")  # $5 and $5 a day


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word

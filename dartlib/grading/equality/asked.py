"""What a query asks of the form of its answer, read narrowly from its own words.

* Rounding needs a place ("nearest tenth", "two decimal places", "3 significant figures"); a round table asks for none.
* A percentage is asked for when the asking sentence says so; a ratio, fraction or probability is no percentage.
* "Factor" wants a product with as many factors as the reference, "expand" a sum without brackets; an answer that
  only repeats what it was told to simplify, factor or compute says nothing.
* A base, a list and positive variables are asked for by these words.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from dartlib.grading.equality.notation import CACHED, normalise, skeleton, tokenise

_COUNT = {word: count for count, word in enumerate("zero one two three four five six seven eight nine".split())}
_PLACE = {"tenth": 1, "hundredth": 2, "thousandth": 3, "ten-thousandth": 4, "ten thousandth": 4, "cent": 2, "penny": 2,
          "ten": -1, "hundred": -2, "thousand": -3, "ten thousand": -4, "million": -6}  # fmt: skip
_WHOLE = (
    "whole|integer|unit|one|dollar|degree|percent|inch|foot|feet|yard|mile|meter|metre|centimeter|cm|millimeter|kilometer"
    "|km|gram|kilogram|pound|ounce|second|minute|hour|day|week|month|year"
)
_NEAREST = re.compile(rf"nearest\s+({'|'.join(sorted(_PLACE, key=len, reverse=True))}|{_WHOLE})\b", re.I)
_PLACES = re.compile(rf"\b({'|'.join(_COUNT)}|\d)[\s-]+decimal[\s-]+(?:place|digit|point)", re.I)
_DIGITS = re.compile(rf"\b({'|'.join(_COUNT)}|\d)[\s-]+significant[\s-]+(?:figure|digit)", re.I)
_ROUNDED = re.compile(r"\bround(?:ed)?\s+(?:off|to|up|down|your|the answer)\b|\bapproximate(?:ly)?\b", re.I)
_BASE = re.compile(r"\bbase\b|\b(?:binary|octal|hexadecimal|ternary)\b", re.I)
_PERCENT = re.compile(r"\bpercent|%", re.I)
_PROPORTION = re.compile(r"\b(?:ratio|fraction|probability|proportion|chance|factor|times)\b", re.I)
_LIST = re.compile(r"\blist\b|\bvector\b|\barray\b", re.I)
_POSITIVE = re.compile(r"\b(?:positive|non-?negative)\b|>\s*0|\\ge(?:q|qslant)?\s*0|≥\s*0", re.I)
_IMPERATIVE = r"(?:^|[.:;!?,$]\s*|\b(?:and|then|to|completely|fully|please)\s+)"
_FACTOR = re.compile(rf"{_IMPERATIVE}factor(?:i[sz]e)?\b(?! of)|factored form|\bfactori[sz]ation\b", re.I)
_EXPAND = re.compile(rf"{_IMPERATIVE}(?:expand|multiply out)\b|expanded form", re.I)
_DO = re.compile(r"\b(?:factor|expand|multiply|divide|simplify|evaluate|compute|calculate|reduce|rationalize)\b", re.I)
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_WORDS = re.compile(r"[:?,;]|\.\s|[A-Za-z]{3,}|\b(?:is|of|to|in|if|by)\b")
_PLAIN = re.compile(r"-?[\d.,]+(?: ?/ ?\d+)?|-?\\frac ?\{?\d+\}? ?\{?\d+\}?|\\?[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Asked:
    """``places`` after the point (negative: tens) or significant ``digits``; ``rounded``: rounding is spoken of."""

    places: int | None = None
    digits: int | None = None
    rounded: bool = False
    base: bool = False
    percent: bool = True
    listed: bool = False
    positive: bool = False


@lru_cache(maxsize=CACHED)
def asked_of(query: str) -> Asked:
    """What the query's words say; without a query any percentage may be asked for, and nothing else."""
    if not query.strip():
        return Asked()
    nearest, places, digits = (pattern.search(query) for pattern in (_NEAREST, _PLACES, _DIGITS))
    place = _PLACE.get(nearest.group(1).lower(), 0) if nearest else _count(places)
    asking = " ".join(re.findall(r"[^.?!]*\?", query)) or re.split(r"[.!]\s", query.strip())[-1]
    estimated = re.search(r"\bestimat", query, re.I) is not None
    return Asked(
        places=None if estimated else place,
        digits=_count(digits),
        rounded=not estimated and (place is not None or digits is not None or _ROUNDED.search(query) is not None),
        base=_BASE.search(query) is not None,
        percent=_PERCENT.search(asking) is not None
        or _PROPORTION.search(asking) is None
        and _PERCENT.search(query) is not None,
        listed=_LIST.search(query) is not None,
        positive=_POSITIVE.search(query) is not None,
    )


def _count(match: re.Match[str] | None) -> int | None:
    if match is None:
        return None
    word = match.group(1).lower()
    return _COUNT[word] if word in _COUNT else int(word)


@lru_cache(maxsize=CACHED)
def formulas_of(query: str) -> frozenset[str]:
    """The formulas that stand in the query, as skeletons: what is between delimiters, else between words."""
    texts = [next(filter(None, groups)) for groups in _FORMULA.findall(query)] or _WORDS.split(query)
    return frozenset(skeleton(normalise(text)) for text in texts if 0 < len(text) < 300) - {""}


def without_question(pred: str, query: str) -> str:
    """``x+y=5`` is 5 where the query asks for ``x+y``: its left side stands there as a whole formula."""
    name, sign, value = pred.partition("=")
    if not sign or not value.strip() or re.search(r"[<>,;]|\\(?:le|ge|ne|in|approx)(?![a-z])", pred):
        return pred
    return value.rpartition("=")[2].strip() if skeleton(name) in formulas_of(query) else pred


def lacks_form(gold: str, pred: str, query: str) -> bool:
    """Whether the query asks for a form (of normalised answers) that the reference has and the answer lacks."""
    if not _DO.search(query) and not _FACTOR.search(query):
        return False
    if skeleton(pred) in formulas_of(query) and skeleton(pred) != skeleton(gold) and not _PLAIN.fullmatch(pred):
        return True
    if _FACTOR.search(query) and (wanted := _factors(gold)):
        return (_factors(pred) or 0) < wanted
    return _EXPAND.search(query) is not None and _factors(gold) is None and not _bracketed(gold) and _bracketed(pred)


def _bracketed(text: str) -> bool:
    return re.search(r"[(\[{][^()\[\]{}]*[^\s(\[{^][^()\[\]{}]*[+-][^()\[\]{}]*[)\]}](?!\s*/)", text) is not None


def _factors(text: str) -> int | None:
    """How many factors stand beside each other, powers as often as they say; None for a sum and what is one number."""
    text = re.sub(r"\^ ?\{? ?(\d) ?\}?", r"^\1", text.replace("\\left", "").replace("\\right", ""))
    depth, count = 0, 0
    for place, token in enumerate(tokens := tokenise(text)):
        if depth == 0 and place and token in ("+", "-", "=", ","):
            return None
        if depth == 0 and tokens[place - 1] == "^" and place:
            count += int(token) - 1 if token.isdecimal() and len(token) == 1 else 0
        elif depth == 0 and (token in ("(", "[") or token.isalnum() and token not in ("1", "0")):
            count += 1
        depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
    return count if count > 1 else None

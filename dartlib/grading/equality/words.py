"""Answers in words: choices, truth values, standing expressions, times of day and dates.

A choice is its letter, whatever is said after it; 8:34 p.m. is 20:34 and 20:34:00, and without a.m. or p.m. a time is
read on the 24-hour clock; 4 July is July 4th. Everything else is the same words, or something else.
"""

import re

from dartlib.grading.equality.notation import skeleton, tokenise

_CHOICE = re.compile(
    r"(?:(?i:(?:the )?(?:correct )?(?:option|choice|answer)\s*(?:is|:)?)\s*)?"
    r"\(?\s*([A-Ja-j])\s*\)?(?:[.:]\s.*|,\s+(?!(?:and|or|[A-Za-z])\b)[a-z].*|(?<=\))\s+[\w$\\].*)?",
    re.DOTALL,
)
_REFERENCE_CHOICE = re.compile(r"\(\s*[A-Za-z]\s*\)|[A-J]")
_TRUTH = {"true": True, "yes": True, "false": False, "no": False}
_SAYINGS = {
    "no solution": "no solution|no solutions|there is no solution|there are no solutions|\\emptyset|\\{ \\}",
    "no real solution": "no real solution|no real solutions|there is no real solution|there are no real solutions",
    "undefined": "undefined|not defined|it is undefined",
    "does not exist": "does not exist|dne|the limit does not exist|doesn't exist",
    "diverges": "diverges|divergent|the series diverges|the integral diverges|it diverges",
    "converges": "converges|convergent|the series converges|the integral converges|it converges",
    "all real numbers": "all real numbers|all reals|any real number|\\mathbb r|\\mathbb ( r )|x \\in \\mathbb ( r )"
    "|( - \\infty , \\infty )|- \\infty < x < \\infty|r",
}
_ARTICLE = re.compile(r"^(?:the|an?) (?=[a-z]{3})")
_CANONICAL_SAYING = {text: name for name, texts in _SAYINGS.items() for text in texts.split("|")}
_TIME = re.compile(r"(?:at )?(\d{1,2}) ?: ?([0-5]\d)(?: ?: ?([0-5]\d))?(?: ?([ap])m)?", re.I)
_MONTHS = "january february march april may june july august september october november december".split()
_DATE = re.compile(
    rf"(?:the )?(?:(\d{{1,2}}) (?:of )?)?({'|'.join(_MONTHS)})(?: (\d{{1,2}}))?(?: ?,? ?(\d{{4}}))?", re.I
)


def compare_words(gold: str, pred: str) -> tuple[bool, str] | None:
    """(equal, reason code) of two normalised answers; None when they are no words."""
    plain_gold, plain_pred = (" ".join(re.sub("[⟦⟧]", " ", text).split()) for text in (gold, pred))
    if _REFERENCE_CHOICE.fullmatch(plain_gold) and (choice := _CHOICE.fullmatch(plain_pred)):
        return plain_gold.strip("() ").casefold() == choice.group(1).casefold(), "choice"
    truth = [_TRUTH.get(text.casefold()) for text in (plain_gold, plain_pred)]
    if None not in truth:
        return truth[0] == truth[1], "text"
    for read in (_time, _date):
        first, second = read(plain_gold), read(plain_pred)
        if first and second and (first[-1] or second[-1]):
            return first[:-1] == second[:-1], "text"
        if (first or second) and read is _date:
            return False, "text"  # 4 June is not 4
    words = [_ARTICLE.sub("", skeleton(text).casefold()) for text in (gold, pred)]
    if words[0] == words[1] and is_prose(gold):
        return True, "text"
    sayings = [_CANONICAL_SAYING.get(text) for text in words]
    if sayings[0] and sayings[1]:
        return sayings[0] == sayings[1], "text"
    return (False, "text") if _only_words(gold) and _only_words(pred) else None


def _time(text: str) -> tuple[object, ...] | None:
    """(hour, minute, second, whether more than two numbers say that it is a time)."""
    if (match := _TIME.fullmatch(text)) is None:
        return None
    hour, half = int(match.group(1)), match.group(4)
    if half:
        hour = hour % 12 + 12 * (half.lower() == "p")
    return hour, match.group(2), match.group(3) or "00", bool(half or match.group(3))


def _date(text: str) -> tuple[object, ...] | None:
    match = _DATE.fullmatch(text)
    if match is None or not (match.group(1) or match.group(3)):
        return None
    return int(match.group(1) or match.group(3)), match.group(2).lower(), match.group(4), True


def _only_words(text: str) -> bool:
    words = re.findall(r"[A-Za-z]+", text)
    return bool(words) and any(len(word) > 2 for word in words) and not re.search(r"[\d\\=+*/^_<>|]", text)


def is_prose(text: str) -> bool:
    """Whether a word that belongs to no formula occurs."""
    return any(re.fullmatch(r"⟦.*⟧|[A-Za-z]{3,}|[AaPp][Mm]", token, re.DOTALL) for token in tokenise(text))

"""What a sentence answers: "The trip took 6 hours", "36 nights of sleep for each meerkat", "5, not 6".

A sentence answers with the number that it states first of all, with the unit beside it. Numbers of an introduction
("After ordering 4 packs, …"), in brackets, of a noun with an article ("the 3 friends") and of what follows on a
preposition ("to make 80 meatballs", "for 30 days") are not its answer. It answers nothing where it hedges (at least,
about, or, if), where a word after the number changes it (5 halves, 10 below zero, 5 more than), or where two numbers
could be meant. Of several sentences the last one that concludes ("Therefore, …") counts.
"""

import re

from dartlib.grading.equality.units import changes_value, is_known_unit

_NUMBER = r"(?:⟦[$€£]⟧ ?)?-?(?:\d+(?:,\d{3})+|\d+)(?:\.\d+)?(?: ?/ ?\d+)?(?: ?%)?"
_FIRST = re.compile(rf"({_NUMBER})(?![\w.]| ?[\^_/*+=<>\\]| - )")
_ANY = re.compile(rf"(?<![\w.\\/^_-])({_NUMBER})(?![\w.]| ?[\^_/*+=<>\\]| - )")
_CONCLUDES = re.compile(r"^(?:therefore|thus|so|hence|in conclusion|finally|consequently)\b,?\s*", re.I)
_INTRODUCTION = re.compile(
    r"^(?:after|if|when|with|by|since|because|given|using|assuming|for|in|at|from|to|once|as|while|although|out of)\b"
    r"(?:[^,]|,(?=\d{3}))*,\s+",
    re.I,
)
_ASIDE = re.compile(r"(?<=\w) \((?:[^()]*\)(?= ?\w)|[^()]*[a-z]{3}[^()]*\)$)")
_VERB = re.compile(r"(?:.*\b(?:is|are|equals|be|was|were|has|have|had)|.*:)\s+(.*)", re.DOTALL | re.I)
_DOUBTFUL = re.compile(
    r"\b(?:not|no|or|if|than|least|most|either|cannot|can't|depends|example|between|approximately|about|almost|nearly"
    r"|up to|over|under|around|roughly)\b",
    re.I,
)
_WORD = re.compile(r"(?<![\\A-Za-z])(?:(?!and\b)[A-Za-z]{3,}|(?:is|are)\b)", re.I)
_EQUATION = re.compile(r"[^=,;]*=(?:[^,;A-Za-z=]*=)* *((?:[^=,;A-Za-z\\]|\\[a-z]+|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))+)")
_GIVEN = re.compile(
    r"\b(?:the|these|those|all|his|her|their|its|each|every|both|first|last|next|(?<!total )of"
    r"|than|after|in|within|per)\s+$",
    re.I,
)
_AND_MORE = re.compile(
    rf"(?:\b(?:or|and|plus|minus|times|but)\b|,)\s+(?:[a-z]+\s+){{0,2}}(?:{_NUMBER}|\\)|\b(?:if|unless|otherwise|depending"
    rf"|below|negative|instead)\b|\b(?:past|before)\b.*\d|^\s*(?:is|isn't|are|was|were)\b|[=^\\<>|_;]|^\s*[A-Za-z]+\s+\d",
    re.I,
)
_DIFFERENCE = re.compile(r"^ (?:more|fewer|less|additional|extra)(?= (?!than\b)[a-z])|^ times$")  # 16 more cookies
_TWO_CLAIMS = re.compile(
    r"\b(?:is|are|was|were|has|have|had|gets?|makes?)\b.*\d.*(?:\band\b|,|\bbut\b|\bwhile\b)", re.I
)
_PREPOSITION = re.compile(
    r"\b(?:to|for|in|after|by|than|from|over|during|within|when|because|per|of|out|with|on|at|each|every|the)\b", re.I
)
# What is said of a constant or an index in general, after a formula that holds it.
_ANY_CONSTANT = re.compile(
    r",? ?\(?(?:for|where|with) (?:(?:any|all|every|some|each) )?(?:(?:[A-Za-z] (?:is|are) )?(?:an?|any|some|the) )?"
    r"(?:arbitrary )?(?:real )?(?:constants?|numbers?)(?: [A-Za-z])?\)?$"
)
_INDEX = re.compile(
    r"[,;]? ?\(?(?:\b(?:where|for|with|and|any|all|every|some|each|an|integers?) )*(?:"
    r"([a-z]) ?\\in ?\\mathbb ?\{? ?[ZN] ?\}?|([a-z]) (?:is |be )?(?:an? |any )?integer|(?<=integer )([a-z])"
    r"|(?<=integers )([a-z]))\)?$"
)
_AFTERTHOUGHT = re.compile(
    r"(?:(?:\s|,|\(|\\text\w*\s*\{)+(?:rejecting|discarding|ignoring|since|because)\b"
    r"|(?:\\text\w*\s*\{)?\s*[,(]\s*(?:\\text\w*\s*\{\s*)?(?:but )?(?:not|rather than|instead of)\s)"
    r"(?:[^.!?]|\.\d)*[.$]*$"
)


def without_afterthought(answer: str) -> str:
    """``5, not 6`` and ``x=5 \\text{ (rejecting } x=-2)`` without what is only said about the answer."""
    match = _AFTERTHOUGHT.search(answer)
    is_short = match is not None and match.start() < 80 and re.search(r"\d", answer[: match.start()])
    return answer[: match.start()] if match and is_short else answer


def without_index(text: str) -> tuple[str, str | None]:
    """A formula without "for any constant" or ``n \\in \\mathbb{Z}`` after it, and the letter of that integer."""
    plain = " ".join(re.sub("[⟦⟧]", " ", text).split())
    if constant := _ANY_CONSTANT.search(plain):
        return plain[: constant.start()], None
    index = _INDEX.search(plain)
    if index is None or not plain[: index.start()].strip():
        return text, None
    return plain[: index.start()].strip(), next(filter(None, index.groups()))


def conclusion(text: str) -> str | None:
    """What a normalised answer in prose states (``12`` of "There are 12 ways"), None when it hedges."""
    sentences = [part for part in re.split(r"(?<=[a-z\d) ])[.!?] (?=⟦?[A-Z])", text) if re.search(r"\d|\\pi", part)]
    last = [part for part in sentences if _CONCLUDES.match(part)] or (sentences if len(sentences) == 1 else [])
    if not last or not _WORD.search(text):
        return None
    sentence = _ASIDE.sub("", _INTRODUCTION.sub("", _CONCLUDES.sub("", last[-1], count=1), count=1)).strip()
    if _FIRST.match(sentence):
        return _quantity(sentence)
    if (said := _VERB.fullmatch(sentence)) and re.search(r"\d|\\pi", said.group(1)):
        end = said.group(1).strip()
        head = sentence[: said.start(1)]
        if _DOUBTFUL.search(" ".join(head.split()[-3:])) or _TWO_CLAIMS.search(head):
            return None
        if stated := _quantity(end):
            return stated
        if not (_DOUBTFUL.search(end) or _PREPOSITION.search(end)):
            return end
    if "=" in sentence:  # "the sum a + b = 2 + 3 = 5"
        equation = _EQUATION.fullmatch(sentence)
        return equation.group(1) if equation else None
    for match in _ANY.finditer(sentence):
        before = sentence[: match.start()]
        if _GIVEN.search(before):
            continue
        if _DOUBTFUL.search(" ".join(before.split()[-3:])) or re.search(r"(?:\band|[,;+*=/^-])\s*$", before):
            return None
        rest = _PREPOSITION.split(sentence[match.end() :], maxsplit=1)[0]
        return None if _ANY.search(rest) else _quantity(sentence[match.start() :])
    return None


def _quantity(text: str) -> str | None:
    """The number at the start of a text with the units beside it, None where what follows changes it."""
    if (match := _FIRST.match(text)) is None or not re.match(r"$| *⟦?[A-Za-z(]| *⟦%", text[match.end() :]):
        return None
    words = re.findall(r"[A-Za-z]+", _DIFFERENCE.sub("", text[match.end() :]))
    money = "⟦" in match.group(1)
    if _AND_MORE.search(text[match.end() :]) or words and changes_value(words[0].lower()) and not money:
        return None
    units: list[str] = []
    while len(units) < len(words) and is_known_unit(words[len(units)]):
        units.append(words[len(units)])
    return " ".join([match.group(1), *units])

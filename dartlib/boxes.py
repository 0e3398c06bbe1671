"""Boxes of a LaTeX text: where they are, and which of them state the final answer together.

Boxes of one sentence or display that are joined by commas, "and" or "or" are one answer (``x=\\boxed{2} and
x=\\boxed{3}`` is ``x=2, x=3``, right for ``2,3`` and wrong for ``3``); an exact box followed by its approximation is
one as well. What starts a new thought ("so", "then", "the total is") starts a new answer: there the last box counts.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

Span = tuple[int, int]  # (end, start) of the content: the largest ends last

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|[{}]")
_BARE_BOX = re.compile(r"\\boxed\s*([^\s{}$\\.,]+)")
_BLANK = re.compile(r"\s*")
_LINKED = 400  # characters between two boxes that are read together, at most
_FILL = r"(?:[\s$&~*]|\\[,;:!() \[\]]|\\q?quad\b)*"
_JOINT = rf"(?:[,;]|\\\\|\b(?:and|or)\b|\\text\s*\{{[\s,]*(?:and|or)?[\s,]*\}}){_FILL}"
_LEAD = r"(?:(?:[^.!?\nA-Za-z\\]|\\[A-Za-z]+|\\[^A-Za-z]|(?<![A-Za-z])[A-Za-z]{1,2}(?![A-Za-z])|\.\d)*=)?"  # "a+b ="
_LIST = re.compile(rf"{_FILL}(?:{_JOINT})+{_LEAD}{_FILL}")
_CLAUSE = re.compile(rf"{_FILL}(?:,\s*)?(?:and|or)\s[^.!?\n]{{0,60}}\b(?:is|are|=){_FILL}")
_CONCLUDES = re.compile(r"\b(?:so|then|thus|hence|therefore|which|giv\w+|total|sum|answer|product|final\w*|we)\b", re.I)
_ABOUT = re.compile(rf"[^.!?\n]{{0,40}}(?:\\approx|≈|\b(?:numerically|approximately|about|roughly)\b){_FILL}")
_NAME = re.compile(r"(?<![\w+*/^\-])(?<![+*/^\-] )([A-Za-z](?:_(?:\{\w+\}|\w))?)\s*&?=\s*$")
_ROUNDED = re.compile(r"\s*(?:\\approx|≈)\s*")
_SEVERAL = re.compile(r"separated by commas|\b(?:find|enter|list|determine|what are) (?:all|both|each)\b", re.I)
_ALTERNATIVE = re.compile(r"\bor\b|\balternat|\bnote\b|\balso\b|\bsolution\b|\bso\w*ution\b", re.I)


def boxes(text: str) -> Iterator[Span]:
    """Every closed box, in one pass over the braces."""
    open_braces: list[int | None] = []
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None:
                yield match.start(), start
        elif token not in ("}", "\\{", "\\}"):
            open_braces.append(match.end() if len(token) > 1 else None)
    for match in _BARE_BOX.finditer(text):
        yield match.end(1), match.start(1)


class Boxed(NamedTuple):
    """What boxes state together: their span, what they hold, and how many different ones they are."""

    span: Span
    answer: str
    distinct: int


def final_boxes(text: str) -> Boxed | None:
    """The last box with those that state the answer together with it, None where no box holds anything."""
    ordered = _filled(text)
    if not ordered:
        return None
    group, links = [ordered.pop()], list[str]()
    while ordered and (link := _link(text, ordered[-1], group[-1])):
        group.append(ordered.pop())
        links.append(link)
    group.reverse()
    links.reverse()
    if not links:
        return Boxed(group[0], _content(text, group[0]), 1)
    parts = [_content(text, span, named=True) for span in group]
    joined, told = parts[0], {parts[0]}
    for link, part in zip(links, parts[1:], strict=True):
        if part not in told:
            joined += link + _ROUNDED.sub("", part)
            told.add(part)
    return Boxed((group[-1][0], group[0][1]), joined, len(told))


def reference_in(solution: str, query: str) -> tuple[str, int]:
    """The answer that a worked solution boxes and how many boxes hold it; ("", 0) when there is none.

    Its last box with those joined to it; where the query asks for all values, every distinct box, unless the solution
    offers them as alternatives. "Either point is acceptable" leaves the last one.
    """
    final = final_boxes(solution)
    if final is None:
        return "", 0
    ordered = _filled(solution)
    last = _content(solution, ordered[-1])
    if re.search(r"\bEither\b", solution[final.span[0] :]):
        return last, 1
    between = solution[ordered[0][0] : ordered[-1][1]]
    if _SEVERAL.search(query) and not _ALTERNATIVE.search(between):
        distinct = list(dict.fromkeys(_content(solution, span) for span in ordered))
        return ", ".join(distinct), len(distinct)
    alone = re.search(r"\bor\b", between) and not _SEVERAL.search(query)
    return (last, 1) if alone else (final.answer, final.distinct)


def _filled(text: str) -> list[Span]:
    """The boxes that hold something, in order, without those inside of others."""
    kept: list[Span] = []
    for end, start in sorted(boxes(text)):
        if _BLANK.fullmatch(text, start, end):
            continue
        while kept and kept[-1][1] > start:
            kept.pop()
        kept.append((end, start))
    return kept


def _link(text: str, first: Span, second: Span) -> str | None:
    """What joins two boxes in a row, None when the second one is an answer of its own."""
    opening = max(text.rfind("\\boxed", first[0], second[1]), text.rfind("\\fbox", first[0], second[1]))
    between = text[first[0] : opening].removeprefix("}")
    if len(between) > _LINKED or "\n\n" in between:
        return None
    if _ABOUT.fullmatch(between) or _ROUNDED.match(text, second[1]) and not re.search(r"[.!?]\s", between):
        return " \\approx "
    joined = _LIST.fullmatch(between) or _CLAUSE.fullmatch(between)
    return ", " if joined and not _CONCLUDES.search(between) else None


def _content(text: str, span: Span, *, named: bool = False) -> str:
    """What a box holds; ``named``: with the name that stands before it (``x = \\boxed{2}``)."""
    end, start = span
    inside = text[start:end].strip()
    opening = text.rfind("\\", 0, start)  # of the box's own command
    name = _NAME.search(text, max(0, opening - 20), opening) if named and "=" not in inside else None
    return f"{name.group(1)} = {inside}" if name else inside

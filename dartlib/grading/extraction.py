"""Where a response states its final answer.

Only explicit forms count: ``\\boxed{}``, ``####``, "the answer is …", "final answer: …", "A: …". Among them the
one that ends last wins, and a box inside it is its content. A response without any of them has no answer: the
last number of a text is a guess, and a guess that happens to be right puts a bad solution into the data. Only an
evaluation reads it (``lenient``), as the paper's evaluator does: there a missing phrase is not a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A phrase's answer ends at the line's end or at a full stop followed by a space. Every pattern is linear in
# the text: one scan, no nested repetition.
_REST = r"[ \t*_:]*([^\n]*?)(?=\.\s|\n|$)"
PHRASES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("hashes", re.compile(r"####[ \t]*([^\n]+)")),
    ("answer_is", re.compile(r"\banswer[*_]{0,3}[ \t]+is\b" + _REST, re.IGNORECASE)),
    ("final_answer", re.compile(r"\bfinal[ \t]+answer[*_]{0,3}:" + _REST, re.IGNORECASE)),
    ("answer_line", re.compile(r"(?:^|\n)[ \t*_#]{0,8}(?:answer|a)[*_]{0,3}:" + _REST, re.IGNORECASE)),
)
MAX_ANSWER = 1000  # characters kept of an answer: longer ones are never judged equal, and cleaning stays cheap
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|[{}]")


def extract_answer(response: str, *, lenient: bool = False) -> str | None:
    """The final answer as written, without its wrapping, or None when no explicit form is found.

    ``lenient``: then the last number of the text, if there is one.
    """
    spans = [*_boxes(response), *_phrases(response)]
    if not spans:
        numbers = _NUMBER.findall(response) if lenient else []
        return numbers[-1] if numbers else None
    end, start = max(spans)
    return clean_answer(response[start : min(end, start + MAX_ANSWER)]) or None


def clean_answer(text: str) -> str:
    """Strip what surrounds an answer: emphasis, a box, math delimiters, the final full stop."""
    while inner := list(_boxes(text)):
        end, start = max(inner)
        text = text[start:end]
    previous = None
    while text != previous:
        previous = text
        text = text.strip().strip("*_").strip().removesuffix(".").removesuffix("\\")
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            inside = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and inside and left not in inside:
                text = inside
    return text


def _boxes(text: str) -> Iterator[tuple[int, int]]:
    """(end, start) of every closed box, in one pass over the braces."""
    open_braces: list[int | None] = []
    for match in _BRACES.finditer(text):
        token = match.group()
        if token == "}" and open_braces:
            start = open_braces.pop()
            if start is not None:
                yield match.start(), start
        elif token not in ("}", "\\{", "\\}"):
            open_braces.append(match.end() if len(token) > 1 else None)


def _phrases(text: str) -> Iterator[tuple[int, int]]:
    """(end, start) of every phrase that announces an answer on its own line."""
    for _, pattern in PHRASES:
        for match in pattern.finditer(text):
            if match.group(1).strip(" \t*_.:$"):
                yield match.end(1), match.start(1)

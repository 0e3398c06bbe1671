"""Where a response states its final answer.

Only explicit forms count: ``\\boxed{}``, ``####``, "the answer is …", "Final answer: …", "A: …" and the field
``"answer": …`` of JSON, read from the raw text (cut-off or invalid JSON included), each with or without emphasis.
Among them the one that ends last wins, and a box inside it is its content; boxes that state the answer together are
read together (``dartlib.boxes``). A response without any of them has no
answer: the last number of a text is a guess, and a guess that happens to be right puts a bad solution into the
data. Only an evaluation reads it (``lenient``), as the paper's evaluator does: there a missing phrase is not a
wrong answer. It too skips what is denied ("not 5") and takes a formula whole (``\\frac{2}{5}``, not its 5).
"""

import re
from collections.abc import Callable, Iterator

from dartlib.boxes import Span, boxes, final_boxes

MAX_ANSWER = 4001  # characters kept of an answer: one more than are ever compared
_MAX_FIELDS = 100  # JSON fields looked at, from the last one back: keeps hostile text linear
_LEAD = r"[ \t*_:]*(?:\n{1,2}[ \t*_]*(?!```))?"
# A phrase's answer ends at the line's end, at a stop followed by a space, or at a model's end-of-text mark. Every
# pattern is linear in the text: one scan, no nested repetition.
_END = r"(?=\n|<\|\w{1,20}\|>|</s>|$)"
_REST = _LEAD + rf"([^\n]*?)(?=[.?]\s|{_END})"
# "The answer is correct" says nothing of what it is.
_REMARK = (
    "in|not|that|to|given|found|obtained|based|correct|incorrect|wrong|reasonable|plausible|consistent with|confirmed"
    "|verified|valid|unique|clear|unclear|as|the same|(?:provided|shown|stated|listed|written|included|presented|placed"
    "|specified|displayed|formatted)(?: (?:in|above|below|as|at|within|under)| *\\W*$)"
)
PHRASES: tuple[re.Pattern[str], ...] = (
    re.compile(r"####[ \t]*([^\n]+?)" + _END),
    re.compile(
        r"\b(?:answer|correct (?:option|choice))[*_]{0,3}[ \t]+is\b"
        r"(?:[ \t]+(?:therefore|thus|then|hence|indeed|also|still|simply|just)\b)?+"
        rf"(?![ \t]+(?:{_REMARK})\b)" + _REST,
        re.I,
    ),
    re.compile(r"\banswers[*_]{0,3}[ \t]+are\b(?=[ \t*_:]{0,9}[-$\\(\d])" + _REST, re.I),
    re.compile(r"\bfinal[ \t]+answer[*_]{0,3}[ \t]*(?::|[*_]{0,3}\n)" + _REST, re.I),
    re.compile(r"(?:^|\n)[ \t*_#>-]{0,8}(?:(?:the[ \t]+)?answer|a)[*_]{0,3}:" + _REST, re.I),
    re.compile(r"(?:^|\n)[#*]{1,6}[ \t]*answer[ \t*]*\n" + _REST, re.I),
)
_FIELD = re.compile(r'[Aa]nswer\\{0,2}"[ \t\n]{0,9}:[ \t\n]{0,9}')
_FIELD_END = re.compile(r'(?<!\\)"(?=[ \t]{0,9}(?:[,}\n`]|$))|\n[ \t]{0,9}[}`]')
_ESCAPED_END = re.compile(r'\\{1,2}"')  # a field quoted inside of a field
_BARE_END = re.compile(r'[\n}`]|,[ \t]{0,9}(?:\n|"\w{1,40}"[ \t]{0,9}:)')
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(
    r"[(\[] ?-?[\w./\\{}^]+(?: ?, ?-?[\w./\\{}^]+)+ ?[)\]]"
    r"|(?<![\w.\\{}])-?(?:\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?%?(?![\w\\^{])"  # else it is part of a formula
    r"|(?:[\d.+*/^_()!-]|\\[A-Za-z]+|\{[^{}]{0,80}(?:\{[^{}]{0,80}\}[^{}]{0,80}){0,4}\})+)"
)
_DENIED = re.compile(r"(?:\bnot|n't|\bnever|≠|\\ne)\s+(?:\w+\s+)?$", re.I)
_SENTENCES = re.compile(r"[a-z\d)$][.!?]\s+[A-Z]")
_STATEMENT = re.compile(r"\bstatement\s+is\s+(?:therefore\s+|thus\s+)?[*_]*(true|false)\b", re.I)
_REASON = re.compile(r"(?:,\s+as|,?\s+\(?(?:because|since|which|where|so that))\b.*", re.I | re.DOTALL)
_CONCLUDES = re.compile(r"[.?]\s[^\n]{0,2000}?\b(?:Therefore|Thus|Hence|So)\b[^\n]*\d")
_PRELUDE = re.compile(
    r"(?:the|an?|simply|just|equal|exactly|[a-z]{4,12})(?:\s+[a-z]{1,12}){0,4}\s+(?=\$|\\\(|\\boxed)", re.I
)
_NEGATION = re.compile(r"\b(?:not|no|or|than|least|most)\b", re.I)
_EXAMPLE = re.compile(r'(?:e\.g\.,?|for example,?|such as|like)[\s`*"]*$', re.I)
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_DIGIT = re.compile(r"\d")
_CONTENT = re.compile(r"[^\W_]")  # a letter or digit: "___" and "..." are no answers
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"), ('"', '"'), ("“", "”"),
               ("'", "'"), ('\\"', '\\"'))  # fmt: skip

Read = Callable[[str], str]  # what is done to the text of a span


def extract_answer(response: str, *, lenient: bool = False, query: str | None = None) -> str | None:
    """The final answer as written, without its wrapping, or None when no explicit form is found.

    ``lenient``: then the last formula or number of the text, or what it says of the truth of a statement.
    ``query``: what was asked; an answer form that the response copies from there is not its own.
    """
    spans = {span: read for span, read in _spans(response) if not query or not _is_quoted(response, span, query)}
    for end, start in sorted(spans, reverse=True):
        answer = clean_answer(spans[end, start](response[start : min(end, start + MAX_ANSWER)]))
        if inner := list(_fields(answer)):  # "The answer is `"answer": "5"`"
            answer = clean_answer(_unescaped(answer[inner[-1][1] : inner[-1][0]]))
        if _CONTENT.search(answer) or answer.startswith("\\"):
            return answer
    return _guess(response) if lenient else None


def clean_answer(text: str) -> str:
    """Strip what surrounds an answer: emphasis, quotation marks, a box, math delimiters, the final full stop."""
    while "\\boxed" in text or "\\fbox" in text:
        if (inner := final_boxes(text)) is None:
            break
        text = inner.answer
    previous = None
    while text != previous:
        previous = text
        text = text.strip().strip("*_").strip().removesuffix(".").removesuffix("\\")
        if text.count('"') == 1:  # half of a pair
            text = text.strip('"')
        for left, right in _DELIMITERS:
            inside = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and inside and left not in inside:
                text = inside
    return text


def _spans(text: str) -> Iterator[tuple[Span, Read]]:
    final = final_boxes(text)
    for end, start in boxes(text):
        if final is None or start < final.span[1]:
            yield (end, start), _unescaped if text.endswith("\\\\boxed{", 0, start) else str
    if final is not None:
        joined = final.answer[:MAX_ANSWER]
        joined = _unescaped(joined) if text.endswith("\\\\boxed{", 0, final.span[1]) else joined
        yield final.span, lambda _: joined
    for pattern in PHRASES:
        for match in pattern.finditer(text):
            yield _display(text, match.end(1), match.start(1)), _trimmed
    for span in _fields(text):
        yield span, lambda field: _trimmed(_unescaped(field))


def _display(text: str, end: int, start: int) -> Span:
    """A phrase whose formula opens on its line and closes on a later one goes on to the end of the formula."""
    for opening, closing in (("\\[", "\\]"), ("$$", "$$")):
        if text.startswith(opening, start) and (found := text.find(closing, start + 2, start + MAX_ANSWER)) >= end:
            return found + 2, start
    if _REASON.search(text, start, end) and _CONCLUDES.match(text, end):  # the reason may end in another answer
        return text.find("\n", end) if "\n" in text[end : start + MAX_ANSWER] else min(
            len(text), start + MAX_ANSWER
        ), start
    return end, start


def _fields(text: str) -> Iterator[Span]:
    """The values of JSON ``answer`` fields; examples ("e.g. ...") are not answers."""
    for match in list(_FIELD.finditer(text))[-_MAX_FIELDS:]:
        if _EXAMPLE.search(text[max(0, match.start() - 20) : match.start()]):
            continue
        start = match.end()
        if escaped := _ESCAPED_END.match(text, start):
            start, ending = escaped.end(), _ESCAPED_END
        elif text.startswith('"', start):
            start, ending = start + 1, _FIELD_END
        else:
            ending = _BARE_END
        found = ending.search(text, start, start + MAX_ANSWER)
        yield (found.start() if found else min(len(text), start + MAX_ANSWER)), start


def _is_quoted(response: str, span: Span, query: str) -> bool:
    """Whether the form, with the characters before it, stands in the query as well."""
    end, start = span
    return response[max(0, start - 20) : end].strip() in query


def _unescaped(text: str) -> str:
    """JSON escapes read so that LaTeX survives, whether its backslashes were doubled or not."""
    text = re.sub(r"\\{2,}(?=[A-Za-z{}()\[\]%$|!,;])", r"\\", text.replace('\\"', '"'))
    return _UNICODE.sub(lambda m: chr(int(m.group(1), 16)), text.replace("\\\\\\\\", "\\\\"))


def _trimmed(text: str) -> str:
    """The answer of a phrase or field without reasons after it and words before its formula.

    What more than one sentence says is read as a whole (``equality.sentences``): a reason may end in another answer.
    """
    if _SENTENCES.search(text):
        return text
    if (prelude := _PRELUDE.match(text)) and not _NEGATION.search(prelude.group()):
        text = text[prelude.end() :]
    return _REASON.sub("", text) if " " in text and "\\text" not in text else text


def _guess(text: str) -> str | None:
    """The last formula or number; else the last word on a statement's truth."""
    tail = text[-20_000:]
    formulas = [match for match in _FORMULA.finditer(tail) if len(match.group().strip("$\\()[] ")) > 1]
    start = formulas[-1].end() if formulas else 0
    numbers = [found for found in _NUMBER.finditer(tail, start) if _DIGIT.search(found.group())]
    while numbers and _DENIED.search(tail, max(0, numbers[-1].start() - 30), numbers[-1].start()):
        numbers.pop()
    if numbers:
        return numbers[-1].group().rstrip(".!(*+-/_ ")
    if formulas:
        return clean_answer(formulas[-1].group()) or None
    statements = _STATEMENT.findall(tail)
    return str(statements[-1]).capitalize() if statements else None

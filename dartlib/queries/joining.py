"""Responses to the queries they answer: by text, exact after stripping first, then by a normalised form."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from dartlib.records import Query

How: TypeAlias = Literal["exact", "normalised"]

_QUOTES = str.maketrans("‘’‛“”„′″−–—‐", "'''\"\"\"'\"----")
_SPACING = re.compile(r"\\[,;:!> ]|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|[\s$~]+")
_SENTENCE_MARK = re.compile(r"[.,;:!?'\"](?!\d)")  # not those inside a number


def normalise_text(text: str) -> str:
    """One form for questions that differ in case, white space, dollar signs, LaTeX spacing, quotes and end marks.

    Digits, signs and brackets stay, so that questions about other numbers stay apart.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_QUOTES).casefold()
    plain = re.sub(r"\\[dt]frac", r"\\frac", plain)
    return _SENTENCE_MARK.sub("", _SPACING.sub("", plain))


def join_texts(texts: Iterable[str], queries: Sequence[Query]) -> dict[str, tuple[str, How]]:
    """Text -> (query_id, how it was matched), for the texts that match a query.

    Of equal questions (some benchmarks repeat theirs) the first takes all; a normalised form that different
    questions share matches none. What is absent from the result is unmatched: the caller counts it.
    """
    exact: dict[str, str] = {}
    for query in queries:
        exact.setdefault(query.query.strip(), query.query_id)
    joined: dict[str, tuple[str, How]] = {}
    rest = []
    for text in texts:
        if (found := exact.get(text.strip())) is not None:
            joined[text] = (found, "exact")
        else:
            rest.append(text)
    loose = _normalised_index(exact) if rest else {}
    for text in rest:
        if (near := loose.get(normalise_text(text))) is not None:
            joined[text] = (near, "normalised")
    return joined


def _normalised_index(exact: dict[str, str]) -> dict[str, str | None]:
    """Normalised text -> query_id, None where different questions share one."""
    loose: dict[str, str | None] = {}
    for text, identity in exact.items():
        form = normalise_text(text)
        loose[form] = identity if form not in loose else None
    return loose

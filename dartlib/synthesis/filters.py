"""Optional filters on a data set's rows, with counts of what they drop, and red flags by level.

None of them is part of the paper's method, which keeps every correct response; all are off by default. A red flag is
a reason to read a response, not a proof against it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from dartlib.records import Query, SftRow
from dartlib.statistics import wilson_interval

if TYPE_CHECKING:
    import pandas as pd

LONG_WORDS = 1000
FEW_WORDS = 10
REPEATED_WORDS, REPEATS = 8, 4
DEDUPLICATIONS = ("off", "exact", "normalised")
_ONE_CHARACTER = re.compile(r"(\S)\1{99,}")
_IGNORED = re.compile(r"\\[,;:! ]|[\s$*_`.]+")


def is_long(response: str) -> bool:
    """More than 1,000 words: rambling, or several attempts in one."""
    return len(response.split()) > LONG_WORDS


def is_repetitive(response: str) -> bool:
    """The same eight words four times, or one character a hundred times in a row: a sampler's loop."""
    words = response.split()
    runs = Counter(tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1))
    return max(runs.values(), default=0) >= REPEATS or _ONE_CHARACTER.search(response) is not None


def lacks_reasoning(response: str) -> bool:
    """Fewer than ten words and no equation: an answer that came from nowhere."""
    return len(response.split()) < FEW_WORDS and "=" not in response


RED_FLAGS: dict[str, Callable[[str], bool]] = {
    "long": is_long,
    "repetitive": is_repetitive,
    "no_reasoning": lacks_reasoning,
}


def normalise(response: str) -> str:
    """A response without case, white space, emphasis, dollar signs, full stops and LaTeX spacing.

    >>> normalise("So $x = 4$.  **Done**") == normalise("so x=4 done")
    True
    """
    return _IGNORED.sub("", response).casefold()


def curate(
    rows: Sequence[SftRow], *, deduplicate: str = "off", drop: Collection[str] = ()
) -> tuple[list[SftRow], dict[str, int]]:
    """Rows that stay, in order, and how many each filter dropped.

    ``deduplicate``: ``off``, ``exact`` or ``normalised`` equality of responses to one query; the earliest trial
    stays. ``drop``: red flags whose rows go. A row counts for the first filter that drops it: flags in the order
    given, then duplicates. Raises ValueError for an unknown name.
    """
    if deduplicate not in DEDUPLICATIONS:
        raise ValueError(f"deduplicate is {deduplicate!r}: choose from {', '.join(DEDUPLICATIONS)}")
    if unknown := sorted(set(drop) - set(RED_FLAGS)):
        raise ValueError(f"unknown red flag {unknown[0]!r}: choose from {', '.join(RED_FLAGS)}")
    key = {"off": None, "exact": str.strip, "normalised": normalise}[deduplicate]
    seen: set[tuple[str, str]] = set()
    dropped = dict.fromkeys([*drop, "duplicate"], 0)
    kept = []
    for row in rows:
        reason = next((name for name in drop if RED_FLAGS[name](row.response)), None)
        if reason is None and key is not None:
            text = (row.query_id, key(row.response))
            reason = "duplicate" if text in seen else None
            seen.add(text)
        if reason is None:
            kept.append(row)
        else:
            dropped[reason] += 1
    return kept, dropped


def with_originals(rows: Sequence[SftRow], queries: Sequence[Query], solutions: Mapping[str, str]) -> list[SftRow]:
    """The rows plus the human solution of each query that has one (by ``query_id``), as trial -1 behind its rows.

    Off unless called: the paper says that it adds the original pairs, but the released sets do not hold them.
    """
    added = [
        SftRow(query.query, solutions[query.query_id], query.query_id, -1, query.source, query.level, None, "original")
        for query in queries
        if query.query_id in solutions
    ]
    place = {query.query_id: number for number, query in enumerate(queries)}
    return sorted([*rows, *added], key=lambda row: place[row.query_id])  # stable: trials stay in order


def red_flag_table(responses: Sequence[str], groups: Sequence[int | str | None]) -> pd.DataFrame:
    """Share of responses with each red flag by group (a level, or a bin of fail rates).

    Columns: group, responses, and per flag its share with the Wilson 95 % interval (``long``, ``long_low``,
    ``long_high`` …). ``groups`` has one entry per response; None is a group of its own, named "none".
    """
    import pandas as pd

    counts: dict[str, Counter[str]] = {}
    for response, group in zip(responses, groups, strict=True):
        count = counts.setdefault("none" if group is None else str(group), Counter())
        count["responses"] += 1
        count.update(name for name, flag in RED_FLAGS.items() if flag(response))
    table = []
    for group in sorted(counts):
        total = counts[group]["responses"]
        row: dict[str, object] = {"group": group, "responses": total}
        for name in RED_FLAGS:
            low, high = wilson_interval(counts[group][name], total)
            row |= {name: counts[group][name] / total, f"{name}_low": low, f"{name}_high": high}
        table.append(row)
    return pd.DataFrame(table)

"""Signs of a bad response with a right answer, and how often they occur.

A red flag is a reason to read a response, not a proof against it; the paper's method looks at none of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable

import pandas as pd

from dartlib.statistics import wilson_interval

LONG_WORDS = 1000
FEW_WORDS = 10
REPEATED_WORDS, REPEATS = 8, 4
_ONE_CHARACTER = re.compile(r"(\S)\1{99,}")
_IGNORED = re.compile(r"\\[,;:! ]|[\s$*_`.]+")


def is_long(response: str) -> bool:
    """More than 1,000 words: rambling, or several attempts in one."""
    return len(response.split()) > LONG_WORDS


def is_repetitive(response: str) -> bool:
    """The same eight words four times, or one character a hundred times in a row: a sampler's loop."""
    words = response.split()
    runs = Counter(zip(*(words[start:] for start in range(REPEATED_WORDS)), strict=False))
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


FlagCounts = dict[str, Counter[str]]  # group -> responses, and those with each flag


def count_flags(counts: FlagCounts, response: str, group: int | str | None) -> None:
    """Add one response to the counts of its group."""
    count = counts.setdefault("none" if group is None else str(group), Counter())
    count["responses"] += 1
    count.update(name for name, flag in RED_FLAGS.items() if flag(response))


def red_flag_table(responses: Iterable[str], groups: Iterable[int | str | None]) -> pd.DataFrame:
    """`flag_table` of these responses; ``groups`` has one entry per response, None is a group of its own."""
    counts: FlagCounts = {}
    for response, group in zip(responses, groups, strict=True):
        count_flags(counts, response, group)
    return flag_table(counts)


def flag_table(counts: FlagCounts) -> pd.DataFrame:
    """Share of responses with each red flag by group (a level, or a bin of fail rates).

    Columns: group, responses, and per flag its share with the Wilson 95 % interval (``long``, ``long_low``,
    ``long_high`` …).
    """
    table = []
    for group in sorted(counts):
        total = counts[group]["responses"]
        row: dict[str, object] = {"group": group, "responses": total}
        for name in RED_FLAGS:
            low, high = wilson_interval(counts[group][name], total)
            row |= {name: counts[group][name] / total, f"{name}_low": low, f"{name}_high": high}
        table.append(row)
    return pd.DataFrame(table)

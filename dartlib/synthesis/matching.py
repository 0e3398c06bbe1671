"""Data sets of equal size, for fair comparisons: by rows, or by response tokens.

At equal rows the paper's Prop2Diff set has 1.74 times the response tokens of its Uniform set, so both are worth
making. Matched means: the smallest k whose realised size reaches the total, then rows dropped uniformly at random.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dartlib.records import Query, SftRow
from dartlib.synthesis.curation import Sample, cut, match_rows
from dartlib.synthesis.strategies import StrategySettings

_SIZE_FIELD = {"vrt": "vrt_trials", "uniform": "uniform_quota", "prop2diff": "prop2diff_quota"}


@dataclass(frozen=True, slots=True)
class MatchedSet:
    """A data set cut to size: ``k`` that was needed, and rows per level before and after dropping."""

    rows: Sequence[SftRow]
    k: int
    before: Mapping[int | None, int]
    after: Mapping[int | None, int]


def match_dataset(
    strategy: str,
    queries: Sequence[Query],
    samples_by_query: Mapping[str, Sequence[Sample]],
    settings: StrategySettings,
    *,
    total: int,
    seed: int,
    n_tokens: Mapping[tuple[str, int], int] | None = None,
) -> MatchedSet:
    """Exactly ``total`` rows; or, with ``n_tokens`` of every (query_id, trial), the fewest rows that hold ``total``.

    ``settings`` are those the pool was drawn with: its k (of the strategy) is the largest that is tried. Raises
    ValueError when even that is too small.
    """
    field = _SIZE_FIELD[strategy]

    def rows_of(k: int) -> list[SftRow]:
        changed: dict[str, Any] = {field: k}
        return cut(strategy, queries, samples_by_query, replace(settings, **changed))[0]

    def size(rows: Sequence[SftRow]) -> int:
        return len(rows) if n_tokens is None else sum(n_tokens[row.query_id, row.trial] for row in rows)

    largest = getattr(settings, field)
    k = 1 + bisect_left(range(1, largest + 1), total, key=lambda candidate: size(rows_of(candidate)))
    if k > largest:
        unit = "rows" if n_tokens is None else "response tokens"
        raise ValueError(
            f"{strategy}: {total} {unit} wanted, {field}={largest} gives {size(rows_of(largest))}: lower the total "
            f"or draw the pool with a larger {field}"
        )
    rows = rows_of(k)
    kept = match_rows(rows, total, seed) if n_tokens is None else _drop_tokens(rows, total, seed, n_tokens)
    return MatchedSet(kept, k, Counter(row.level for row in rows), Counter(row.level for row in kept))


def _drop_tokens(
    rows: Sequence[SftRow], total: int, seed: int, n_tokens: Mapping[tuple[str, int], int]
) -> list[SftRow]:
    """Rows in random order until they hold ``total`` tokens; back in their old order."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    kept, tokens = [], 0
    for index in order:
        if tokens >= total:
            break
        kept.append(index)
        tokens += n_tokens[rows[index].query_id, rows[index].trial]
    return [rows[index] for index in sorted(kept)]

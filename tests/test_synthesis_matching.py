"""Data sets of equal rows or tokens: the smallest k that reaches the total, then seeded dropping."""

from __future__ import annotations

import pytest
from stub_engine import numbered_queries

from dartlib.synthesis import Sample, StrategySettings, match_dataset

SETTINGS = StrategySettings(("uniform", "prop2diff"), 4, 1, 5, 8, 12)


def pool() -> tuple[list, dict]:
    """Three queries with 12 trials each: 3, 6 and 12 correct ones."""
    queries = numbered_queries([0.25, 0.5, 1.0])
    flags = ["000100010001", "010101010101", "111111111111"]
    samples = {
        query.query_id: [
            Sample(query.query_id, trial, "correct" if flag == "1" else "wrong", f"r{trial}")
            for trial, flag in enumerate(text)
        ]
        for query, text in zip(queries, flags, strict=True)
    }
    return queries, samples


def test_the_smallest_k_that_reaches_the_total() -> None:
    queries, samples = pool()
    # uniform k gives min(k, 3) + min(k, 6) + min(k, 12) rows: 3, 6, 9, 11, 13
    for total, k, before in ((1, 1, 3), (3, 1, 3), (4, 2, 6), (10, 4, 11), (13, 5, 13)):
        matched = match_dataset("uniform", queries, samples, SETTINGS, total=total, seed=1)
        assert (matched.k, len(matched.rows)) == (k, total)
        assert sum(matched.before.values()) == before and sum(matched.after.values()) == total


def test_prop2diff_is_matched_by_its_own_k() -> None:
    queries, samples = pool()
    # fail rates 3/4, 2/4 and 0: k = 4 asks for 3, 2 and 1
    matched = match_dataset("prop2diff", queries, samples, SETTINGS, total=6, seed=1)
    assert matched.k == 4
    assert [row.query_id for row in matched.rows].count(queries[0].query_id) == 3


def test_tokens_are_matched_within_one_response() -> None:
    queries, samples = pool()
    n_tokens = {(query_id, sample.trial): 10 + sample.trial for query_id in samples for sample in samples[query_id]}
    matched = match_dataset("uniform", queries, samples, SETTINGS, total=100, seed=2, n_tokens=n_tokens)
    sizes = [n_tokens[row.query_id, row.trial] for row in matched.rows]
    assert 100 <= sum(sizes) < 100 + max(sizes)
    again = match_dataset("uniform", queries, samples, SETTINGS, total=100, seed=2, n_tokens=n_tokens)
    assert again.rows == matched.rows
    keys = [(row.query_id, row.trial) for row in matched.rows]
    order = {query.query_id: number for number, query in enumerate(queries)}
    assert keys == sorted(keys, key=lambda key: (order[key[0]], key[1]))


def test_a_pool_that_is_too_small_says_what_to_raise() -> None:
    queries, samples = pool()
    with pytest.raises(ValueError, match="14 rows wanted, uniform_quota=5 gives 13"):
        match_dataset("uniform", queries, samples, SETTINGS, total=14, seed=1)

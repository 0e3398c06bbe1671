"""Data sets of equal rows or tokens: the smallest k that reaches the total, then seeded dropping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import numbered_queries

from dartlib.synthesis import StrategyPolicy, StrategySettings, match_dataset
from dartlib.synthesis.curation import Prefix

POLICY = StrategyPolicy(StrategySettings(("uniform", "prop2diff"), 4, 1, 5, 8, 12))


def pool() -> tuple[list, dict]:
    """Three queries with 12 trials each: 3, 6 and 12 correct ones."""
    queries = numbered_queries([0.25, 0.5, 1.0])
    flags = ["000100010001", "010101010101", "111111111111"]
    verdicts = [[flag == "1" for flag in text] for text in flags]
    return queries, {query.query_id: Prefix(12 * n, verdicts[n]) for n, query in enumerate(queries)}


def test_the_smallest_k_that_reaches_the_total() -> None:
    queries, samples = pool()
    # uniform k gives min(k, 3) + min(k, 6) + min(k, 12) rows: 3, 6, 9, 11, 13
    for total, k, before in ((1, 1, 3), (3, 1, 3), (4, 2, 6), (10, 4, 11), (13, 5, 13)):
        matched = match_dataset("uniform", queries, samples, POLICY, total=total, seed=1)
        assert (matched.k, len(matched.cut.rows)) == (k, total)
        assert sum(matched.before.values()) == before and sum(matched.after.values()) == total


def test_prop2diff_is_matched_by_its_own_k() -> None:
    queries, samples = pool()
    # fail rates 3/4, 2/4 and 0: k = 4 asks for 3, 2 and 1
    matched = match_dataset("prop2diff", queries, samples, POLICY, total=6, seed=1)
    assert matched.k == 4
    assert (matched.cut.rows < 12).sum() == 3


def test_tokens_are_matched_within_one_response() -> None:
    queries, samples = pool()
    n_tokens = np.array([10 + trial for _ in samples for trial in range(12)])
    matched = match_dataset("uniform", queries, samples, POLICY, total=100, seed=2, n_tokens=n_tokens)
    sizes = n_tokens[matched.cut.rows]
    assert 100 <= sum(sizes) < 100 + max(sizes)
    again = match_dataset("uniform", queries, samples, POLICY, total=100, seed=2, n_tokens=n_tokens)
    assert (again.cut.rows == matched.cut.rows).all() and (np.diff(matched.cut.rows) > 0).all()


@given(st.integers(0, 13), st.integers(0, 5))
def test_matched_rows_are_a_seeded_subset_in_order(total: int, seed: int) -> None:
    queries, samples = pool()
    kept = match_dataset("uniform", queries, samples, POLICY, total=total, seed=seed).cut.rows
    assert len(kept) == total and (np.diff(kept) > 0).all()
    assert (kept == match_dataset("uniform", queries, samples, POLICY, total=total, seed=seed).cut.rows).all()


def test_a_pool_that_is_too_small_says_what_to_raise() -> None:
    queries, samples = pool()
    with pytest.raises(ValueError, match="14 rows wanted, uniform_quota=5 gives 13"):
        match_dataset("uniform", queries, samples, POLICY, total=14, seed=1)

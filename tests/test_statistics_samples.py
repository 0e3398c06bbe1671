"""pass@k and maj@k against enumeration of all subsets."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartlib.statistics import majority_at_k, pass_at_k


def brute_force(labels: list[int | None], right: dict[int, bool], k: int) -> float:
    """Mean over all subsets of k samples of the share of right classes among the winners."""
    scores = []
    for chosen in itertools.combinations(labels, k):
        votes = Counter(label for label in chosen if label is not None)
        winners = [label for label, count in votes.items() if count == max(votes.values())]
        scores.append(sum(right[label] for label in winners) / len(winners) if winners else 0.0)
    return sum(scores) / len(scores)


def classes_of(labels: list[int | None], right: dict[int, bool]) -> list[tuple[int, bool]]:
    return [(count, right[label]) for label, count in Counter(labels).items() if label is not None]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=9),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.data(),
)
def test_majority_is_the_mean_over_all_subsets(labels, verdicts, data):
    k = data.draw(st.integers(1, len(labels)))
    right = dict(enumerate(verdicts))
    expected = brute_force(labels, right, k)
    assert majority_at_k(len(labels), classes_of(labels, right), k) == pytest.approx(expected, abs=1e-12)
    assert majority_at_k(len(labels), classes_of(labels[::-1], right), k) == pytest.approx(expected, abs=1e-12)


def test_majority_of_sixteen_is_exact():
    labels = [0] * 5 + [1] * 4 + [2] * 3 + [3, 4] + [None, None]
    right = {0: False, 1: True, 2: False, 3: True, 4: False}
    assert majority_at_k(16, classes_of(labels, right), 6) == pytest.approx(brute_force(labels, right, 6), abs=1e-12)


def test_majority_by_hand():
    three = [(2, True), (1, False)]  # 7, 7, 8: two of three are right
    assert majority_at_k(3, three, 1) == pytest.approx(2 / 3)
    assert majority_at_k(3, three, 2) == pytest.approx((1 + 0.5 + 0.5) / 3)  # 77, 78, 78: ties share
    assert majority_at_k(3, three, 3) == 1.0
    assert majority_at_k(4, [(1, True)], 4) == 1.0  # three without an answer never outvote one with
    assert majority_at_k(4, [], 2) == 0.0
    assert majority_at_k(64, [(33, False), (31, True)], 64) == 0.0
    for n, classes, k in [(3, three, 4), (3, three, 0), (2, three, 1)]:
        with pytest.raises(ValueError):
            majority_at_k(n, classes, k)


def test_one_vote_is_the_pass_rate():
    for n, correct in [(5, 2), (64, 17)]:
        assert majority_at_k(n, [(correct, True), (n - correct, False)], 1) == pytest.approx(pass_at_k(n, correct, 1))

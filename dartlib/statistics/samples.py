"""Scores of an item that was asked several times: pass@k and maj@k, exact over all subsets of k samples."""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from dartlib.statistics.intervals import check_counts


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased probability that at least one of ``k`` responses is correct, from ``correct`` out of ``n``.

    1 - C(n - correct, k) / C(n, k) (Chen et al., 2021). Raises ValueError unless 1 <= k <= n.
    """
    check_counts(correct, n)
    if not 1 <= k <= n:
        raise ValueError(f"pass_at_k needs 1 <= k <= n, got k={k}, n={n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def majority_at_k(n: int, classes: Iterable[tuple[int, bool]], k: int) -> float:
    """Expected score of the majority answer among ``k`` of ``n`` samples, over all subsets of that size.

    ``classes``: per class of equal answers its number of samples and whether it is right; samples in no class gave no
    answer, which never wins. Tied classes share the win, so the order of samples does not matter; no answer at all
    scores 0. Raises ValueError unless 1 <= k <= n and the classes fit in n. Source of the measure: Wang et al.,
    Self-Consistency, arXiv 2203.11171.
    """
    sizes = tuple(sorted(classes))
    check_counts(sum(size for size, _ in sizes), n)
    if not 1 <= k <= n:
        raise ValueError(f"majority_at_k needs 1 <= k <= n, got k={k}, n={n}")
    return _majority(n, sizes, k)


@lru_cache(maxsize=65536)
def _majority(n: int, classes: tuple[tuple[int, bool], ...], k: int) -> float:
    """Sum over the winner's number of votes: class by class, how many subsets have so many samples and tied classes."""
    silent = [math.comb(n - sum(size for size, _ in classes), k - drawn) for drawn in range(k + 1)]
    credit = 0.0
    for votes in range(1, min(k, max((size for size, _ in classes), default=0)) + 1):
        ways = np.zeros((2, k + 1, k // votes + 1))  # all subsets; the same times their number of right winners
        ways[0, 0, 0] = 1
        for size, right in classes:
            before, ways = ways, np.zeros_like(ways)
            for drawn in range(min(size, votes - 1) + 1):
                ways[:, drawn:] += math.comb(size, drawn) * before[:, : k + 1 - drawn]
            if size >= votes:
                tied = math.comb(size, votes) * before[:, : k + 1 - votes, :-1]
                ways[:, votes:, 1:] += tied
                ways[1, votes:, 1:] += right * tied[0]
        credit += float(np.asarray(silent, dtype=np.float64) @ ways[1, :, 1:] @ (1 / np.arange(1, k // votes + 1)))
    return credit / math.comb(n, k)

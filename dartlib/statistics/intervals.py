"""Intervals of proportions and means, and the bootstrap behind them."""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float, float]

FEW_ITEMS = 20  # below, a percentile bootstrap is too narrow to be shown


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion, as shares in [0, 1]; (0, 1) when nothing was tried.

    Raises ValueError unless 0 <= successes <= trials. Source: Wilson (1927), without continuity correction.
    """
    check_counts(successes, trials)
    if trials == 0:
        return 0.0, 1.0
    low, high = _wilson(successes / trials, trials, confidence)
    return 0.0 if successes == 0 else low, 1.0 if successes == trials else high


def _wilson(share: float, trials: int, confidence: float) -> Interval:
    z = NormalDist().inv_cdf(0.5 + check_confidence(confidence) / 2)
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Callable[[FloatArray], float],
    *,
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of ``statistic`` over the rows of ``values``: one row per query (or per test item).

    ``values`` has shape (queries,) or (queries, columns). Raises ValueError when there is no row.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 0 or len(rows) == 0:
        raise ValueError("bootstrap_interval needs at least one query")
    tail = (1 - check_confidence(confidence)) / 2
    generator = np.random.default_rng(seed)
    draws = [statistic(rows[generator.integers(len(rows), size=len(rows))]) for _ in range(resamples)]
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail])
    return float(low), float(high)


def resampled_counts(counts: npt.ArrayLike, *, seed: int, resamples: int = 2000) -> npt.NDArray[np.int64]:
    """Bootstrap of rows that occur ``counts`` times each: how often each occurs per resample, (resamples, rows).

    Drawing n rows with replacement gives the distinct rows multinomial counts, so a mean over a million queries with
    a hundred distinct values needs a hundred numbers per resample. Raises ValueError when there is no row.
    """
    weights = np.asarray(counts, dtype=np.int64)
    total = int(weights.sum())
    if total == 0:
        raise ValueError("resampled_counts needs at least one row")
    return np.random.default_rng(seed).multinomial(total, weights / total, size=resamples)


def bootstrap_mean_interval(
    values: npt.ArrayLike, *, seed: int, resamples: int = 2000, confidence: float = 0.95
) -> Interval:
    """`bootstrap_interval` of the mean of one number per query, from counts of distinct values: fast for many rows."""
    rows = np.asarray(values, dtype=np.float64)
    distinct, counts = np.unique(rows, return_counts=True)
    tail = (1 - check_confidence(confidence)) / 2
    means = resampled_counts(counts, seed=seed, resamples=resamples) @ distinct / rows.size
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def clustered_interval(item_means: npt.ArrayLike, *, seed: int = 0, confidence: float = 0.95) -> Interval:
    """Interval of a mean score over items, each given by the mean of its own samples (shape (items,), in [0, 1]).

    Samples of one item are not independent, so items are resampled, never samples. Where every item's mean is 0 or 1
    (single samples, or samples that all agree) the items are a proportion: Wilson, which stays open where a
    bootstrap collapses. So it is below ``FEW_ITEMS``, with each item worth one trial: too wide rather than too narrow,
    since no score in [0, 1] varies more than a coin of its mean. Raises ValueError when there is no item.
    """
    means = np.asarray(item_means, dtype=np.float64)
    if means.size and np.isin(means, (0.0, 1.0)).all():
        return wilson_interval(round(float(means.sum())), means.size, confidence)
    if 0 < means.size < FEW_ITEMS:
        return _wilson(float(means.mean()), means.size, confidence)
    return bootstrap_mean_interval(means, seed=seed, confidence=confidence)


def check_counts(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials, got {successes} of {trials}")


def check_confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
    return confidence

"""Two models on the same items: tests for one training run each, intervals over several, and what a design can see."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dartlib.statistics.intervals import bootstrap_mean_interval, check_confidence

MIN_SEEDS = 5  # training runs per arm below which nothing is said about other seeds


class PairedComparison(NamedTuple):
    """Score of the second model minus the first on the same items, as a share, with interval and two-sided test."""

    difference: float
    low: float
    high: float
    p_value: float
    items: int


def compare_paired(
    first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int, resamples: int = 2000, confidence: float = 0.95
) -> PairedComparison:
    """Compare two models by item: scores in [0, 1] of equal length, same item at the same place.

    The interval resamples items. The test is McNemar's exact one where every score is 0 or 1 (single samples), else
    (means over several samples) the paired t-test over items. Raises ValueError on unequal lengths or no items.
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1 or left.size == 0:
        raise ValueError(f"compare_paired needs two equally long lists of items, got {left.shape} and {right.shape}")
    gains = right - left
    low, high = bootstrap_mean_interval(gains, seed=seed, resamples=resamples, confidence=confidence)
    single = bool(np.isin([left, right], (0.0, 1.0)).all())
    p_value = _mcnemar(gains) if single else _paired_t(gains)
    return PairedComparison(float(gains.mean()), low, high, p_value, left.size)


def _mcnemar(gains: npt.NDArray[np.float64]) -> float:
    """Exact: each item on which the two differ is won or lost by the toss of a coin."""
    won, lost = int((gains > 0).sum()), int((gains < 0).sum())
    tail = sum(math.comb(won + lost, index) for index in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2 ** (won + lost))


def _paired_t(gains: npt.NDArray[np.float64]) -> float:
    spread = float(gains.std(ddof=1)) if gains.size > 1 else 0.0
    if spread == 0:  # nothing to hold a constant difference against but its sign
        return _mcnemar(gains)
    from scipy.special import stdtr

    return float(2 * stdtr(gains.size - 1, -abs(gains.mean()) / (spread / math.sqrt(gains.size))))


class SeedComparison(NamedTuple):
    """Mean score of the second arm minus the first over seeds and items, with interval, test and its freedom."""

    difference: float
    low: float
    high: float
    p_value: float
    seeds: tuple[int, int]
    items: int
    freedom: float


def compare_over_seeds(first: npt.ArrayLike, second: npt.ArrayLike, *, confidence: float = 0.95) -> SeedComparison:
    """Two arms, each trained with several seeds and asked the same items: scores of shape (seeds, items) in [0, 1].

    Seeds and items are crossed, both random. With the arms' item means a_i and b_i, the seeds' means m_s and each
    arm's interaction mean square e (what is left of y_si after its seed's and its item's mean, over (S-1)(I-1)):

        V = var_i(b_i - a_i) / I  +  sum over arms of [var_s(m_s) / S  -  e / (S I)]

    for the chance of one draw of items and of seeds lies in both of the first terms; V is at least the first. The
    interval is the difference of means -+ t(f) sqrt(V) with Satterthwaite's f = V^2 / sum of term^2 / its freedom,
    freedoms I-1, S-1 and (S-1)(I-1), and f at least the smallest S-1. Raises ValueError for other items, or fewer
    than ``MIN_SEEDS`` seeds: then show the points and claim nothing about seeds.
    """
    arms = [np.asarray(arm, dtype=np.float64) for arm in (first, second)]
    if any(arm.ndim != 2 for arm in arms) or arms[0].shape[1] != arms[1].shape[1] or arms[0].shape[1] < 2:
        raise ValueError(f"needs (seeds, items) for the same items twice, got {arms[0].shape} and {arms[1].shape}")
    seeds, items = (len(arms[0]), len(arms[1])), arms[0].shape[1]
    if min(seeds) < MIN_SEEDS:
        raise ValueError(f"{min(seeds)} seeds: fewer than {MIN_SEEDS} say nothing about other seeds; show the points")
    gains = arms[1].mean(axis=0) - arms[0].mean(axis=0)
    of_items = float(gains.var(ddof=1)) / items
    terms = [(of_items, items - 1)]
    for arm in arms:
        means = arm.mean(axis=1, keepdims=True)
        left_over = arm - means - arm.mean(axis=0) + arm.mean()
        freedom = (len(arm) - 1) * (items - 1)
        terms.append((float(means.var(ddof=1)) / len(arm), len(arm) - 1))
        terms.append((-float((left_over**2).sum()) / freedom / arm.size, freedom))
    variance = max(of_items, sum(value for value, _ in terms))
    squares = sum(value**2 / freedom for value, freedom in terms)
    freedom = max(min(seeds) - 1.0, variance**2 / squares) if squares else math.inf
    difference, error = float(gains.mean()), math.sqrt(variance)
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, 0.5 + check_confidence(confidence) / 2)) * error if error else 0.0
    p_value = float(2 * stdtr(freedom, -abs(difference) / error)) if error else float(difference == 0)
    return SeedComparison(difference, difference - half, difference + half, p_value, seeds, items, freedom)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; the adjusted p-values come back in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def detectable_difference(
    items: int,
    *,
    accuracy: float = 0.5,
    item_correlation: float = 0.5,
    seeds: int = 1,
    seed_spread: float = 0.0,
    seed_correlation: float | None = None,
    power: float = 0.8,
    confidence: float = 0.95,
) -> float:
    """The difference of two models' scores (a share) that a design finds with probability ``power``.

    ``item_correlation`` r: of two arms' single scores over items, about 0.5 for students of one base model;
    ``seed_correlation`` q: of two seeds of one arm, r or more (None: r). ``seed_spread``: standard deviation of an
    arm's score over training seeds, as a share. Paired by item, with S seeds,

        V = 2 accuracy (1 - accuracy) (q - r + (1 - q) / S) / items  +  2 seed_spread^2 / S

    and the answer is (t(confidence) + t(power)) sqrt(V), freedom as in `compare_over_seeds`. One seed: what is said
    holds for those two trained models only, and a spread makes no sense. Raises ValueError for such designs.
    """
    same = item_correlation if seed_correlation is None else seed_correlation
    if items < 2 or not 0 < accuracy < 1 or not 0 <= item_correlation <= same < 1 or not 0.5 <= power < 1:
        raise ValueError("needs items >= 2, accuracy in (0, 1), correlations in [0, 1) and power in [0.5, 1)")
    if seeds < MIN_SEEDS and (seeds != 1 or seed_spread):
        raise ValueError(f"{seeds} seeds with a spread of {seed_spread}: take one seed (and no spread) or {MIN_SEEDS}+")
    from scipy.special import stdtrit

    of_items = 2 * accuracy * (1 - accuracy) * (same - item_correlation + (1 - same) / seeds) / items
    of_seeds = 2 * seed_spread**2 / seeds
    squares = of_items**2 / (items - 1) + (of_seeds**2 / (2 * seeds - 2) if of_seeds else 0.0)
    freedom = (of_items + of_seeds) ** 2 / squares
    quantiles = stdtrit(freedom, 0.5 + check_confidence(confidence) / 2) + stdtrit(freedom, power)
    return float(quantiles) * math.sqrt(of_items + of_seeds)

"""Comparing models: hand values, scipy, and simulation of designs with seeds and items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, t, ttest_rel

from dartlib.statistics import (
    MIN_SEEDS,
    clustered_interval,
    compare_over_seeds,
    compare_paired,
    detectable_difference,
    holm,
    wilson_interval,
)


def test_means_of_several_samples_get_the_paired_t_test():
    first, second = [0.25, 0.5, 0.0, 1.0, 0.75], [0.5, 0.5, 0.25, 0.75, 1.0]
    result = compare_paired(first, second, seed=0)
    assert result.p_value == pytest.approx(ttest_rel(second, first).pvalue)
    assert result.difference == pytest.approx(0.1)
    assert compare_paired(first, first, seed=0).p_value == 1.0
    assert compare_paired([0.0, 0.25], [0.5, 0.75], seed=0).p_value == 0.5  # a constant: only its sign, as of 2 coins


def test_single_samples_are_a_proportion_and_several_resample_items():
    assert clustered_interval([1, 0, 0, 1, 1]) == wilson_interval(3, 5)
    assert clustered_interval([0] * 30)[1] == wilson_interval(0, 30)[1] > 0.1  # a bootstrap would say 0 to 0
    halves = [0.5] * 20 + [0.0] * 20
    low, high = clustered_interval(halves)
    # spread over items, not over samples: sd 0.25 of 40 items
    assert (high - low) / 2 == pytest.approx(1.96 * 0.25 / np.sqrt(40), rel=0.1)
    with pytest.raises(ValueError, match="at least one"):
        clustered_interval([])


def test_few_items_get_no_interval_of_a_point():
    """One item, right in two of four samples: a bootstrap would say .5 to .5."""
    assert clustered_interval([0.5]) == pytest.approx((0.0546, 0.9454), abs=1e-3)  # Wilson at .5 of 1
    assert clustered_interval([0.25, 0.75]) == pytest.approx(wilson_interval(1, 2))
    few = clustered_interval([0.25, 0.5] * 9)
    many = clustered_interval([0.25, 0.5] * 10)
    assert few[1] - few[0] > 2 * (many[1] - many[0])


def test_two_way_interval_by_hand():
    """Two constant arms per seed: items carry nothing, so all chance is the seeds' (a two-sample t with 4 + 4)."""
    first = np.repeat([[0.1], [0.2], [0.3], [0.4], [0.5]], 4, axis=1)
    second = np.repeat([[0.3], [0.3], [0.5], [0.5], [0.4]], 4, axis=1)
    result = compare_over_seeds(first, second)
    of_first, of_second = 0.025 / 5, 0.01 / 5  # variances of the seeds' means over 5 seeds
    error = np.sqrt(of_first + of_second)
    freedom = (of_first + of_second) ** 2 / (of_first**2 / 4 + of_second**2 / 4)
    assert result.difference == pytest.approx(0.1)
    assert result.freedom == pytest.approx(freedom)
    assert result.high - result.difference == pytest.approx(t.ppf(0.975, freedom) * error)
    assert result.p_value == pytest.approx(2 * t.sf(0.1 / error, freedom))


def test_two_way_interval_with_identical_seeds_is_the_paired_one_over_items():
    """Seeds that all agree add no chance: what is left is the paired t interval over items."""
    row_a, row_b = np.array([0, 1, 0, 1, 1, 0.0]), np.array([1, 1, 0, 1, 1, 1.0])
    result = compare_over_seeds(np.tile(row_a, (5, 1)), np.tile(row_b, (6, 1)))
    reference = ttest_rel(row_b, row_a).confidence_interval()
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high))
    assert result.seeds == (5, 6) and result.freedom == pytest.approx(5)


def test_order_of_seeds_and_items_does_not_matter():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 2, (2, 5, 40)).astype(float)
    items, seeds = generator.permutation(40), generator.permutation(5)
    shuffled, plain = compare_over_seeds(first[seeds][:, items], second[:, items]), compare_over_seeds(first, second)
    assert shuffled[:4] == pytest.approx(plain[:4]) and shuffled.freedom == pytest.approx(plain.freedom)


def test_under_five_seeds_nothing_is_claimed():
    scores = np.zeros((MIN_SEEDS - 1, 10))
    with pytest.raises(ValueError, match="4 seeds: fewer than 5"):
        compare_over_seeds(np.zeros((5, 10)), scores)
    with pytest.raises(ValueError, match="same items"):
        compare_over_seeds(np.zeros((5, 10)), np.zeros((5, 9)))
    same = compare_over_seeds(np.ones((5, 3)), np.ones((5, 3)))
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def arms(generator: np.random.Generator, seeds: int, items: int, spread: float, gap: float = 0.0):
    """0/1 scores of two arms: item difficulty, item by arm, and a seed effect worth ``spread`` points of accuracy."""
    slope = 0.165  # mean of p (1 - p) over this population: what one logit is worth
    difficulty = generator.normal(0, 1.5, items)
    for shift in (-gap / 2, gap / 2):
        logits = difficulty + generator.normal(0, 0.7, items) + generator.normal(0, spread / slope, (seeds, 1))
        yield (generator.random((seeds, items)) < 1 / (1 + np.exp(-logits - shift / slope))).astype(float)


@pytest.mark.parametrize("spread", [0.0, 0.04])
def test_two_way_interval_covers_as_often_as_it_says(spread: float) -> None:
    """400 studies of 5 seeds and 300 items without a difference: at least 91 %, two standard errors below 93 %."""
    generator = np.random.default_rng(1)
    intervals = [compare_over_seeds(*arms(generator, 5, 300, spread)) for _ in range(400)]
    assert np.mean([found.low <= 0 <= found.high for found in intervals]) >= 0.93 - 0.025
    assert np.mean([found.p_value < 0.05 for found in intervals]) <= 0.07 + 0.025


def test_an_interval_that_ignores_seeds_does_not_cover() -> None:
    """The control: items resampled, 5 seeds of 4 points spread averaged, 95 % nominal."""
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        first, second = (arm.mean(axis=0) for arm in arms(generator, 5, 300, 0.04))
        found = compare_paired(first, second, seed=0, resamples=300)
        hits += found.low <= 0 <= found.high
    assert hits < 170


def test_wilson_covers_on_average_over_rates():
    """Exact: coverage at each of 99 rates from the binomial, averaged; at n = 30 single rates still fall to .92."""
    rates = np.linspace(0.01, 0.99, 99)
    for n, low, high in [(30, 0.94, 0.965), (100, 0.94, 0.96), (1000, 0.94, 0.96)]:
        limits = np.array([wilson_interval(k, n) for k in range(n + 1)])
        inside = (limits[:, :1] <= rates) & (rates <= limits[:, 1:])
        covered = (binom.pmf(np.arange(n + 1)[:, None], n, rates) * inside).sum(axis=0)
        assert low <= covered.mean() <= high


def test_power_by_hand_and_against_simulation():
    # 600 items, accuracy .5, correlation .5: sqrt(.25 / 600) = .0204; (1.964 + .842) of it
    assert detectable_difference(600) == pytest.approx((t.ppf(0.975, 599) + t.ppf(0.8, 599)) * np.sqrt(0.25 / 600))
    assert detectable_difference(30) == pytest.approx(0.263, abs=0.002)  # what 30 questions can tell
    assert detectable_difference(2400) == pytest.approx(detectable_difference(600) / 2, rel=0.01)
    seeds = [detectable_difference(600, seeds=count, seed_spread=0.03) for count in (5, 10, 20)]
    assert seeds == sorted(seeds, reverse=True)
    # 10 seeds of 3 points: V = .25 / 6000 + 2 * .0009 / 10, nearly all of it the seeds' with 18 freedoms
    assert seeds[1] == pytest.approx((t.ppf(0.975, 27) + t.ppf(0.8, 27)) * np.sqrt(0.25 / 6000 + 0.00018), rel=0.01)


def test_power_holds_in_simulation():
    """The correlations of the simulated population go in, and about 8 of 10 studies find the difference."""
    generator = np.random.default_rng(4)
    first, second = arms(generator, 2, 100_000, 0.0)
    between, within = np.corrcoef(first[0], second[0])[0, 1], np.corrcoef(first)[0, 1]
    design = dict(seeds=10, seed_spread=0.02, item_correlation=between, seed_correlation=within)
    gap = detectable_difference(300, **design)
    found = [compare_over_seeds(*arms(generator, 10, 300, 0.02, gap)).p_value < 0.05 for _ in range(300)]
    assert 0.73 <= np.mean(found) <= 0.87


def test_power_refuses_designs_that_mean_nothing():
    for wrong in (dict(seeds=3), dict(seeds=1, seed_spread=0.02), dict(accuracy=1.0), dict(item_correlation=1.0)):
        with pytest.raises(ValueError):
            detectable_difference(100, **wrong)


def test_holm_order_is_kept():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

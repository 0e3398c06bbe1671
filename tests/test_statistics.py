"""Statistics against hand values, brute force, simulation and scipy."""

from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom, binomtest

from dartlib.statistics import (
    ZeroInflatedBeta,
    bootstrap_interval,
    compare_paired,
    expected_excess,
    fit_beta,
    fit_zero_inflated_beta,
    holm,
    pass_at_k,
    resampled_counts,
    stop_at_quota_pass_rate,
    wilson_interval,
)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_agrees_with_scipy(counts, confidence):
    successes, trials = counts
    expected = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)
    low, high = wilson_interval(successes, trials, confidence)
    assert 0 <= low <= successes / trials <= high <= 1


def test_wilson_edges():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    for bad in [(3, 2), (-1, 2)]:
        with pytest.raises(ValueError):
            wilson_interval(*bad)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, 95)


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.exponential(1.0, 40), np.mean, seed=seed, resamples=300)
        hits += low <= 1.0 <= high
    assert 170 <= hits <= 198  # nominal 190; a skewed sample of 40 covers a little less


def test_bootstrap_resamples_rows_and_is_reproducible():
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    ratio = bootstrap_interval(rows, lambda drawn: drawn[:, 1].sum() / drawn[:, 0].sum(), seed=1)
    assert ratio == (10.0, 10.0)  # a ratio of sums stays exact only while rows stay together
    assert bootstrap_interval([1, 5, 9], np.mean, seed=3) == bootstrap_interval([1, 5, 9], np.mean, seed=3)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], np.mean, seed=0)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets_with_a_success(case):
    n, correct, k = case
    outcomes = [1] * correct + [0] * (n - correct)
    subsets = list(itertools.combinations(outcomes, k))
    assert pass_at_k(n, correct, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_pass_at_k_refuses_k_above_n():
    with pytest.raises(ValueError):
        pass_at_k(4, 1, 5)


def test_stop_at_quota_pass_rate_is_unbiased():
    p, quota, generator = 0.3, 4, np.random.default_rng(2)
    trials = quota + generator.negative_binomial(quota, p, size=40_000)
    estimates = [stop_at_quota_pass_rate(quota, int(n), quota) for n in trials]
    assert np.mean(estimates) == pytest.approx(p, abs=0.004)
    assert np.mean(quota / trials) > p + 0.04  # the naive estimate is not


def test_stop_at_quota_pass_rate_cases():
    assert stop_at_quota_pass_rate(5, 9, 5) == 0.5
    assert stop_at_quota_pass_rate(2, 40, 5) == 0.05
    assert stop_at_quota_pass_rate(1, 7, 1) is None
    assert stop_at_quota_pass_rate(0, 40, 1) is None
    with pytest.raises(ValueError, match="never exceeded"):
        stop_at_quota_pass_rate(6, 9, 5)


def test_compare_paired_by_hand():
    first = [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    second = [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    result = compare_paired(first, second, seed=0)
    assert result.difference == pytest.approx(0.4)
    assert result.items == 10
    assert result.p_value == pytest.approx(binomtest(1, 6).pvalue)  # 5 gained, 1 lost
    assert result.low < 0.4 < result.high
    assert compare_paired(first, first, seed=0) == (0.0, 0.0, 0.0, 1.0, 10)
    with pytest.raises(ValueError, match="equally long"):
        compare_paired([1], [1, 0], seed=0)


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_fit_beta_recovers_a_population():
    a, b = 0.7, 1.6
    trials = np.full(6000, 12)
    successes = betabinom.rvs(trials, a, b, random_state=4)
    found = fit_beta(successes.tolist(), trials.tolist())
    assert found == pytest.approx((a, b), rel=0.1)


def test_fit_beta_beats_its_neighbours_in_likelihood():
    successes, trials = [0, 1, 3, 8, 8, 2, 0, 5], [8] * 8
    a, b = fit_beta(successes, trials)
    best = betabinom.logpmf(successes, trials, a, b).sum()
    for scale_a, scale_b in itertools.product([0.9, 1, 1.1], repeat=2):
        assert betabinom.logpmf(successes, trials, a * scale_a, b * scale_b).sum() <= best + 1e-6


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [([], [], (1, 1)), ([0, 0], [0, 0], (1, 1)), ([0, 0], [4, 4], (0.2, 1.8)), ([2, 2], [2, 2], (5 / 3, 1 / 3))],
)
def test_fit_beta_on_degenerate_data(successes, trials, expected):
    assert fit_beta(successes, trials) == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.integers(0, 20).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), max_size=30))
def test_fit_beta_stays_in_bounds(rows):
    a, b = fit_beta([s for s, _ in rows], [n for _, n in rows])
    assert 0.01 <= a <= 1000.001 and 0.01 <= b <= 1000.001


def test_posterior_adds_counts():
    assert ZeroInflatedBeta(0.0, 0.5, 2.0).after(3, 10) == (0.0, 3.5, 9.0)


def _excess_by_enumeration(a: int, b: int, in_flight: int, need: int) -> Fraction:
    """Sum over all outcome sequences, with Polya urn probabilities in exact arithmetic."""
    expected = Fraction(0)
    for outcomes in itertools.product([0, 1], repeat=in_flight):
        probability, won, lost = Fraction(1), a, b
        hits, excess = 0, 0
        for outcome in outcomes:
            probability *= Fraction(won if outcome else lost, won + lost)
            won, lost = won + outcome, lost + 1 - outcome
            excess += hits >= need
            hits += outcome
        expected += probability * excess
    return expected


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 8), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_expected_excess_equals_enumeration(a, b, in_flight, need):
    expected = float(_excess_by_enumeration(a, b, in_flight, need))
    assert expected_excess(a, b, in_flight, need) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_expected_excess_against_tail_sums_far_out():
    # the excess is also the sum over t of P(at least `need` successes in t trials); summed from point
    # probabilities because scipy's own tail is one minus a sum, which loses a value like 1e-23
    for a, b, in_flight, need in [(0.05, 40.0, 64, 2), (1.0, 1000.0, 900, 192), (300.0, 2.0, 300, 120)]:
        tails = sum(betabinom.pmf(np.arange(need, t + 1), t, a, b).sum() for t in range(need, in_flight))
        assert expected_excess(a, b, in_flight, need) == pytest.approx(tails, rel=1e-6, abs=0)


@given(st.floats(0.01, 50), st.floats(0.01, 50), st.integers(0, 64), st.integers(0, 64))
def test_expected_excess_is_monotone(a, b, in_flight, need):
    value = expected_excess(a, b, in_flight, need)
    assert 0 <= value <= max(0, in_flight - need) + 1e-9
    assert expected_excess(a, b, in_flight + 1, need) >= value - 1e-12
    assert expected_excess(a, b, in_flight, need + 1) <= value + 1e-12


def test_expected_excess_is_fast_enough_for_a_scheduler():
    fresh = [(0.4 + 0.001 * index, 3.0, 64, 3) for index in range(400)]
    started = time.perf_counter()
    for arguments in fresh:
        expected_excess(*arguments)
    assert (time.perf_counter() - started) / len(fresh) < 200e-6  # about 10 microseconds on a quiet machine
    assert math.isfinite(expected_excess(0.01, 1000.0, 8192, 192))


def test_zero_inflated_update_by_hand():
    prior = ZeroInflatedBeta(0.5, 1.0, 1.0)
    # a flat rate fails once with probability 1/2, a never-solved query always: 1/2 : 1/4
    assert prior.after(0, 1) == pytest.approx((2 / 3, 1.0, 2.0))
    assert prior.after(1, 3) == (0.0, 2.0, 3.0)
    assert prior.mean == 0.25
    assert prior.after(0, 3).after(0, 4) == pytest.approx(prior.after(0, 7))


def test_chance_of_further_successes_by_hand():
    # under a flat rate every number of successes among n is equally likely
    flat = ZeroInflatedBeta(0.0, 1.0, 1.0)
    assert flat.chance(3, 9) == pytest.approx(7 / 10)
    assert ZeroInflatedBeta(0.4, 1.0, 1.0).chance(3, 9) == pytest.approx(0.6 * 7 / 10)
    assert (flat.chance(0, 5), flat.chance(6, 5)) == (1.0, 0.0)
    from scipy.stats import betabinom

    assert ZeroInflatedBeta(0.0, 0.3, 4.0).chance(20, 500) == pytest.approx(betabinom(500, 0.3, 4.0).sf(19))


def test_credible_interval_holds_its_share():
    low, high = ZeroInflatedBeta(0.2, 2.0, 5.0).interval(0.9)
    from scipy.stats import beta

    assert low == 0.0  # a fifth of the mass is at zero
    assert 0.2 + 0.8 * beta(2, 5).cdf(high) == pytest.approx(0.95)
    assert ZeroInflatedBeta(0.99, 2.0, 5.0).interval(0.9) == (0.0, 0.0)


def test_fit_zero_inflated_beta_recovers_a_population():
    generator = np.random.default_rng(11)
    rates = np.where(generator.random(4000) < 0.15, 0.0, generator.beta(0.8, 1.5, 4000))
    zero, a, b = fit_zero_inflated_beta(generator.binomial(40, rates).tolist(), [40] * 4000)
    assert zero == pytest.approx(0.15, abs=0.03)
    assert (a, b) == (pytest.approx(0.8, abs=0.1), pytest.approx(1.5, abs=0.15))
    plain = generator.beta(3, 2, 1000)
    found = fit_zero_inflated_beta(generator.binomial(20, plain).tolist(), [20] * 1000)
    assert found.zero < 0.01
    assert fit_zero_inflated_beta([0, 0, 0], [5, 5, 5]).zero == 0.0


def test_resampled_counts_are_the_plain_bootstrap_of_rows():
    """Means over resamples of 30 rows with three distinct values, both ways: same centre, spread and total."""
    values, counts = np.array([0.0, 1.0, 10.0]), np.array([20, 8, 2])
    drawn = resampled_counts(counts, seed=1, resamples=4000)
    assert drawn.shape == (4000, 3) and (drawn.sum(axis=1) == 30).all()
    means = drawn @ values / 30
    rows = np.repeat(values, counts)
    plain = rows[np.random.default_rng(2).integers(30, size=(4000, 30))].mean(axis=1)
    assert means.mean() == pytest.approx(plain.mean(), abs=0.05)
    assert means.std() == pytest.approx(plain.std(), rel=0.05)
    with pytest.raises(ValueError, match="at least one row"):
        resampled_counts([], seed=0)

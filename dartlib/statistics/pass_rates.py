"""Pass rates of queries: beta-binomial populations, beliefs about one query, and the waste they foresee."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from dartlib.statistics.intervals import FloatArray, Interval, check_confidence, check_counts

_SMALLEST, _LARGEST = 0.01, 1000.0  # bounds of a fitted beta parameter: keeps a prior from fixing a pass rate


def stop_at_quota_pass_rate(correct: int, trials: int, quota: int) -> float | None:
    """Pass rate of a query that was sampled until its quota or its cap, where it had ``correct`` of ``trials``.

    The last trial of a met quota is correct by construction, so quota / trials is biased upward; the unbiased
    estimate is (quota - 1) / (trials - 1) (Haldane, 1945). A query that ended at the cap has correct / trials.
    None at a quota of 1, where no unbiased estimate exists and keeping only the failures would bias averages.
    """
    check_counts(correct, trials)
    if quota < 1 or correct > quota:
        raise ValueError(f"a quota is at least 1 and never exceeded, got {correct} correct for a quota of {quota}")
    if quota == 1 or trials == 0:
        return None
    return (quota - 1) / (trials - 1) if correct == quota else correct / trials


def fit_beta(successes: Sequence[int], trials: Sequence[int]) -> tuple[float, float]:
    """Beta(a, b) population of pass rates by beta-binomial maximum likelihood; one entry per query.

    Where the spread cannot be seen (fewer than two queries with two or more trials, or all trials alike) the
    answer is a flat prior of weight 2 around the smoothed mean. Parameters stay within [0.01, 1000].
    """
    if len(successes) != len(trials):
        raise ValueError(f"fit_beta needs one trial count per query, got {len(successes)} and {len(trials)}")
    for correct, tried in zip(successes, trials, strict=True):
        check_counts(correct, tried)
    counts = Counter((int(s), int(n)) for s, n in zip(successes, trials, strict=True) if n > 0)
    correct, tried = sum(s * c for (s, _), c in counts.items()), sum(n * c for (_, n), c in counts.items())
    repeated = sum(count for (_, n), count in counts.items() if n >= 2)
    mean = (correct + 1) / (tried + 2)
    if repeated < 2 or correct in (0, tried):
        return 2 * mean, 2 * (1 - mean)
    from scipy.optimize import minimize

    pairs = np.array(list(counts), dtype=np.float64)
    bounds = [(math.log(_SMALLEST), math.log(_LARGEST))] * 2
    start = np.log(np.clip([2 * mean, 2 * (1 - mean)], _SMALLEST, _LARGEST))
    weights = np.array(list(counts.values()), dtype=np.float64)
    found: Any = minimize(
        _negative_log_likelihood, start, args=(pairs[:, 0], pairs[:, 1], weights), jac=True, bounds=bounds
    )
    a, b = np.exp(found.x)
    return float(a), float(b)


def _negative_log_likelihood(
    logs: FloatArray, successes: FloatArray, trials: FloatArray, weights: FloatArray
) -> tuple[float, FloatArray]:
    """Beta-binomial loss and its gradient in (log a, log b), up to the binomial coefficients."""
    from scipy.special import betaln, digamma

    a, b = np.exp(logs)
    failures = trials - successes
    loss = -(weights * (betaln(a + successes, b + failures) - betaln(a, b))).sum()
    common = digamma(a + b) - digamma(a + b + trials)
    slope_a = (weights * (digamma(a + successes) - digamma(a) + common)).sum()
    slope_b = (weights * (digamma(b + failures) - digamma(b) + common)).sum()
    return float(loss), np.array([-a * slope_a, -b * slope_b])


class ZeroInflatedBeta(NamedTuple):
    """Belief about a pass rate: exactly 0 with probability ``zero``, else Beta(``a``, ``b``)."""

    zero: float
    a: float
    b: float

    @property
    def mean(self) -> float:
        """Expected pass rate."""
        return (1 - self.zero) * self.a / (self.a + self.b)

    def after(self, successes: int, trials: int) -> "ZeroInflatedBeta":
        """The belief after ``successes`` in ``trials``: one success proves that the rate is not 0."""
        check_counts(successes, trials)
        a, b = self.a + successes, self.b + trials - successes
        if successes or not self.zero:
            return ZeroInflatedBeta(0.0, a, b)
        all_wrong = math.exp(_log_beta(a, b) - _log_beta(self.a, self.b))
        return ZeroInflatedBeta(self.zero / (self.zero + (1 - self.zero) * all_wrong), a, b)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Equal-tailed credible interval of the pass rate."""
        from scipy.special import betaincinv

        tail = (1 - check_confidence(confidence)) / 2
        low, high = (max(0.0, (share - self.zero) / max(1 - self.zero, 1e-12)) for share in (tail, 1 - tail))
        return float(betaincinv(self.a, self.b, low)), float(betaincinv(self.a, self.b, high))

    def chance(self, successes: int, trials: int) -> float:
        """Probability of at least ``successes`` in ``trials`` further trials (beta-binomial, exact sum)."""
        if successes <= 0:
            return 1.0
        if successes > trials:
            return 0.0
        from scipy.special import betaln, gammaln

        fewer = np.arange(successes)
        log_choose = gammaln(trials + 1) - gammaln(fewer + 1) - gammaln(trials - fewer + 1)
        logs = log_choose + betaln(self.a + fewer, self.b + trials - fewer) - betaln(self.a, self.b)
        return float((1 - self.zero) * max(0.0, 1 - np.exp(logs).sum()))


def fit_zero_inflated_beta(successes: Sequence[int], trials: Sequence[int]) -> ZeroInflatedBeta:
    """Population of pass rates in which a share of the queries is never solved, by maximum likelihood.

    One entry per query. Starts from ``fit_beta`` and keeps its answer (``zero`` = 0) unless a zero share makes the
    data more likely; so with few queries, or none without a success, there is no zero share.
    """
    a, b = fit_beta(successes, trials)
    counts = Counter((int(s), int(n)) for s, n in zip(successes, trials, strict=True) if n > 0)
    never = sum(count for (s, _), count in counts.items() if s == 0)
    if never == 0 or never == counts.total():
        return ZeroInflatedBeta(0.0, a, b)
    from scipy.optimize import minimize
    from scipy.special import betaln

    pairs = np.array(list(counts), dtype=np.float64)
    weights = np.array(list(counts.values()), dtype=np.float64)
    right, tried = pairs[:, 0], pairs[:, 1]

    def loss(parameters: FloatArray) -> float:
        zero, alpha, beta = parameters[0], *np.exp(parameters[1:])
        likelihood = (1 - zero) * np.exp(betaln(alpha + right, beta + tried - right) - betaln(alpha, beta))
        return float(-(weights * np.log(np.where(right == 0, zero + likelihood, likelihood) + 1e-300)).sum())

    inner = (math.log(_SMALLEST), math.log(_LARGEST))
    plain = np.array([0.0, math.log(a), math.log(b)])
    start = np.array([never / counts.total() / 2, math.log(a), math.log(b)])
    found: Any = minimize(loss, start, bounds=[(0.0, never / counts.total()), inner, inner], method="L-BFGS-B")
    if found.fun >= loss(plain) - 1e-9:
        return ZeroInflatedBeta(0.0, a, b)
    return ZeroInflatedBeta(float(found.x[0]), *(float(value) for value in np.exp(found.x[1:])))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@lru_cache(maxsize=65536)
def expected_excess(a: float, b: float, in_flight: int, need: int) -> float:
    """Expected number of trials after the one that brings success ``need``, among ``in_flight`` trials.

    The trials share one pass rate drawn from Beta(a, b). Exact: the sum over t of (in_flight - t) times the
    beta-negative-binomial probability that success ``need`` is trial t, by recurrence in t. All of them are
    excess when ``need`` is 0; none when fewer than ``need`` + 1 are in flight.
    """
    if a <= 0 or b <= 0 or in_flight < 0 or need < 0:
        raise ValueError(f"expected_excess needs a, b > 0 and counts >= 0, got {a}, {b}, {in_flight}, {need}")
    if need == 0:
        return float(in_flight)
    if in_flight <= need:
        return 0.0
    log_scale = math.lgamma(a + need) - math.lgamma(a) + math.lgamma(a + b) - math.lgamma(a + b + need)
    weight, total = 1.0, float(in_flight - need)
    for t in range(need, in_flight - 1):
        weight *= t / (t - need + 1) * (b + t - need) / (a + b + t)
        total += weight * (in_flight - t - 1)
        if weight > 1e200:  # a need far above what the pass rate can give: keep the running sum finite
            weight, total, log_scale = weight * 1e-200, total * 1e-200, log_scale + 200 * math.log(10)
    return math.exp(log_scale + math.log(total))

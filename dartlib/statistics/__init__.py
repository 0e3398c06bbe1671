"""Intervals, paired tests, pass@k, maj@k, power and beta-binomial posteriors: the only place where they are computed.

Pure functions over counts and arrays. Proportions get Wilson intervals; means over a data set get a bootstrap
that resamples queries (responses of one query are not independent); model comparisons are paired by item; seeds and
items are crossed.
"""

from dartlib.statistics.comparison import MIN_SEEDS, compare_over_seeds, compare_paired, detectable_difference, holm
from dartlib.statistics.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_mean_interval,
    clustered_interval,
    resampled_counts,
    wilson_interval,
)
from dartlib.statistics.pass_rates import (
    ZeroInflatedBeta,
    expected_excess,
    fit_beta,
    fit_zero_inflated_beta,
    stop_at_quota_pass_rate,
)
from dartlib.statistics.samples import majority_at_k, pass_at_k

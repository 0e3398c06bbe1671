"""Intervals, paired tests, pass@k, maj@k, power and beta-binomial posteriors: the only place where they are computed.

Pure functions over counts and arrays. Proportions get Wilson intervals; means over a data set get a bootstrap
that resamples queries (responses of one query are not independent); model comparisons are paired by item; seeds and
items are crossed.
"""

from dartlib.statistics.comparison import MIN_SEEDS as MIN_SEEDS
from dartlib.statistics.comparison import PairedComparison as PairedComparison
from dartlib.statistics.comparison import SeedComparison as SeedComparison
from dartlib.statistics.comparison import compare_over_seeds as compare_over_seeds
from dartlib.statistics.comparison import compare_paired as compare_paired
from dartlib.statistics.comparison import detectable_difference as detectable_difference
from dartlib.statistics.comparison import holm as holm
from dartlib.statistics.intervals import Interval as Interval
from dartlib.statistics.intervals import bootstrap_interval as bootstrap_interval
from dartlib.statistics.intervals import bootstrap_mean_interval as bootstrap_mean_interval
from dartlib.statistics.intervals import clustered_interval as clustered_interval
from dartlib.statistics.intervals import resampled_counts as resampled_counts
from dartlib.statistics.intervals import wilson_interval as wilson_interval
from dartlib.statistics.pass_rates import ZeroInflatedBeta as ZeroInflatedBeta
from dartlib.statistics.pass_rates import expected_excess as expected_excess
from dartlib.statistics.pass_rates import fit_beta as fit_beta
from dartlib.statistics.pass_rates import fit_zero_inflated_beta as fit_zero_inflated_beta
from dartlib.statistics.pass_rates import posterior as posterior
from dartlib.statistics.samples import majority_at_k as majority_at_k
from dartlib.statistics.samples import pass_at_k as pass_at_k

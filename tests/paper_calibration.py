"""Pass rates of the paper's 14,973 queries, and its response lengths, as far as its figures tell them.

From rank 1,250 on (hardest first) figure 1 gives two readings of the pass rate: VRT responses out of 52 trials and
Prop2Diff responses, which are the truncated 192 x fail rate. Below rank 1,250 the paper's unknown cap hides it, so
those ranks come from a tail model: a zero-inflated beta population fitted on the ranks above. The result is frozen
in ``published/calibrated_pass_rates.csv``; a test makes it again from this module. The Uniform column, figure 4 and
the coverage of VRT are not used here: they are what the simulation is held against.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dartlib.published import load_published
from dartlib.statistics import ZeroInflatedBeta

FloatArray = npt.NDArray[np.float64]

QUERIES = 14_973
FIRST_RANK = 1_250
# One beta cannot hold MATH and GSM8K together: fitted on all ranks it misses them by up to 1,300; on the hard third
# it stays within 50.
LAST_TAIL_RANK = 4_000
_VRT_TRIALS, _K_P = 52, 192


def figure_points() -> tuple[FloatArray, FloatArray]:
    """Ranks from 1,250 on that figure 1 was read at, and the pass rate there.

    A VRT count m is the median of binomial draws, so the rate lies between the beta medians of m - 1 and m; a
    Prop2Diff count c means a fail rate in [c, c + 1) / 192, measured on at least 192 / rate trials. Midpoints are
    averaged by these numbers of trials.
    """
    wide = load_published("responses_by_rank").pivot(index="rank", columns="strategy", values="value")
    wide = wide[wide.index >= FIRST_RANK].sort_index()
    vrt, prop2diff = wide["vrt"].to_numpy(dtype=np.float64), wide["prop2diff"].to_numpy(dtype=np.float64)
    edges = [np.clip((vrt + shift) / (_VRT_TRIALS + 1 / 3), 0, 1) for shift in (-1 / 3, 2 / 3)]
    from_vrt = (edges[0] + edges[1]) / 2
    from_quota = 1 - (prop2diff + 0.5) / _K_P
    weight = _K_P / from_quota
    return wide.index.to_numpy(dtype=np.float64), (_VRT_TRIALS * from_vrt + weight * from_quota) / (
        _VRT_TRIALS + weight
    )


def fit_tail(last_rank: int = LAST_TAIL_RANK) -> ZeroInflatedBeta:
    """Population of pass rates from how many queries lie between the read ranks up to ``last_rank``.

    Multinomial maximum likelihood over (zero share, a, b); the best of several starts.
    """
    from scipy.optimize import minimize
    from scipy.special import betainc

    ranks, rates = figure_points()
    used = ranks <= last_rank
    between = np.diff(np.concatenate([[0.0], ranks[used], [float(QUERIES)]]))

    def unpack(parameters: FloatArray) -> ZeroInflatedBeta:
        return ZeroInflatedBeta(*(float(x) for x in (1 / (1 + np.exp(-parameters[0])), *np.exp(parameters[1:]))))

    def loss(parameters: FloatArray) -> float:
        zero, a, b = unpack(parameters)
        below = np.concatenate([[0.0], zero + (1 - zero) * betainc(a, b, rates[used]), [1.0]])
        return float(-(between * np.log(np.diff(below) + 1e-300)).sum())

    starts = [np.array([zero, math.log(a), math.log(0.1)]) for zero in (-8.0, -2.5) for a in (0.25, 0.7)]
    options = {"maxiter": 5000, "maxfev": 5000, "xatol": 1e-7, "fatol": 1e-7}
    bounds = [(-12.0, 5.0), (-5.0, 3.0), (-5.0, 3.0)]
    found = [minimize(loss, start, method="Nelder-Mead", bounds=bounds, options=options) for start in starts]
    return unpack(min(found, key=lambda result: result.fun).x)


def calibrate_pass_rates(tail: ZeroInflatedBeta) -> FloatArray:
    """Pass rates of all queries, hardest first: the tail's quantiles below rank 1,250, figure 1 from there on.

    Between read ranks the log-odds are interpolated; from rank 10,300 on the rate rises linearly to 1.
    """
    from scipy.special import betaincinv, expit, logit

    ranks, rates = figure_points()
    every = np.arange(1, QUERIES + 1)
    result = expit(np.interp(every, ranks, logit(rates)))
    easy = every > ranks[-1]
    result[easy] = np.interp(every[easy], [ranks[-1], QUERIES], [rates[-1], 1.0])
    share = (every[: FIRST_RANK - 1] - 0.5) / QUERIES
    inside = np.clip((share - tail.zero) / (1 - tail.zero), 0, 1)
    # Where model and figure meet, the model may not run above the first read rate.
    result[: FIRST_RANK - 1] = np.minimum(betaincinv(tail.a, tail.b, inside), rates[0])
    return np.asarray(np.round(result, 9), dtype=np.float64)


def calibrated_lengths(pass_rates: FloatArray) -> FloatArray:
    """Mean response tokens of each query: linear in its fail rate.

    The two coefficients meet the means of the published sets: 273.8 tokens (Uniform: every query weighs the same)
    and 480.3 (Hard: weight proportional to the fail rate). Wrong responses are taken to be as long as correct ones.
    """
    sizes = load_published("sizes").set_index(["data", "quantity"])["value"]
    uniform = float(sizes[("DART-Math-Uniform", "mean response tokens")])
    hard = float(sizes[("DART-Math-Hard", "mean response tokens")])
    fail = 1 - pass_rates
    average, weighted = fail.mean(), (fail**2).sum() / fail.sum()
    slope = (hard - uniform) / (weighted - average)
    return np.asarray(uniform + slope * (fail - average), dtype=np.float64)

"""A simulated teacher, and what policies cost with it.

It knows each query's pass rate and answers by numbered draws: whether trial t of query q is correct depends on
(seed, q, t) alone. So every cap, quota and stopping rule can be judged on the same draws, and a small cap's outcome is
a prefix of a large one's.

What this module does not do: decide anything. Allocation and stopping are the ones of real runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dartlib.published import load_published
from dartlib.records import Counts
from dartlib.sampling import Policy
from dartlib.statistics import ZeroInflatedBeta
from dartlib.synthesis.allocation import power_quotas

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedTeacher:
    """Numbered draws from given pass rates.

    ``pass_rates`` in [0, 1] by query; ``trials`` is the largest trial number that will be asked for, plus one.
    """

    pass_rates: Mapping[str, float]
    trials: int
    seed: int

    @cached_property
    def verdicts(self) -> dict[str, bytes]:
        """One byte a trial, 1 = correct; from a stream of random numbers per query."""
        streams = np.random.SeedSequence(self.seed).spawn(len(self.pass_rates))
        return {
            query_id: (np.random.Generator(np.random.SFC64(stream)).random(self.trials, np.float32) < rate).tobytes()
            for (query_id, rate), stream in zip(self.pass_rates.items(), streams, strict=True)
        }


def cut_by_policy(teacher: SimulatedTeacher, policy: Policy) -> dict[str, Counts]:
    """What each query counts when its numbered draws are taken one by one until the policy is content.

    Equals what the scheduler counts with any number of slots (tests compare them), in a fraction of the time: this is
    what caps and stopping rules are compared by, on the same draws. Raises ValueError when a cap is above them.
    """
    result = {}
    for query_id, verdicts in teacher.verdicts.items():
        right = np.flatnonzero(np.frombuffer(verdicts, np.uint8))
        demand, known = policy.demand(query_id, ()), 0
        while True:
            if demand.cap > teacher.trials:
                raise ValueError(f"cap {demand.cap} is above the teacher's {teacher.trials} draws per query")
            end = demand.trials
            if demand.quota:
                met = int(right[demand.quota - 1]) + 1 if demand.quota <= len(right) else demand.cap
                end = max(demand.trials, min(met, demand.cap))
            if demand.review is None or not known < demand.review <= end:
                break
            known = demand.review
            demand = policy.demand(query_id, [verdict == 1 for verdict in verdicts[:known]])
        known = max(known, end)
        result[query_id] = Counts(int(np.searchsorted(right, known)), known)
    return result


def calibrated_pass_rates() -> FloatArray:
    """Pass rates of the paper's 14,973 queries, hardest first, as far as its figures tell them.

    Read off figure 1 from rank 1,250 on; below, the paper's unknown cap hides them, and they come from a tail model.
    Frozen in ``published/calibrated_pass_rates.csv``; tests/paper_calibration.py makes it again.
    """
    return load_published("calibrated_pass_rates")["value"].to_numpy(dtype=np.float64)


class Estimate(NamedTuple):
    """A median with its 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a synthesis would cost, and the share of queries that would meet their quota."""

    trials: Estimate
    tokens: Estimate
    hours: Estimate
    achieving_ratio: Estimate


def draw_pass_rates(beliefs: Sequence[ZeroInflatedBeta], *, draws: int, seed: int) -> FloatArray:
    """Pass rates drawn from each query's belief, shape (draws, queries)."""
    generator = np.random.default_rng(seed)
    zero, a, b = np.array(beliefs, dtype=np.float64).T
    shape = (draws, len(beliefs))
    return np.where(generator.random(shape) < zero, 0.0, generator.beta(a, b, shape))


def estimate_cost(
    pass_rates: FloatArray,
    mean_tokens: FloatArray,
    *,
    k: int,
    beta: float,
    cap: int,
    tokens_per_second: float,
    seed: int,
    difficulty_trials: int = 0,
) -> Cost:
    """What the family's quota max(1, floor(k fail^beta)) under a cap would cost at a stated throughput.

    ``pass_rates`` has shape (draws, queries): one row per possible truth (see draw_pass_rates; rows may be equal
    when the rates are known), so the intervals hold both the luck of the draws and what is not known about the
    queries. ``mean_tokens`` has shape (queries,). Hours are tokens / throughput: the scheduler keeps the slots busy.
    """
    generator = np.random.default_rng([seed, k, cap])
    names = [str(number) for number in range(pass_rates.shape[1])]
    trials, tokens, met = [], [], []
    for rates in pass_rates:
        fail_rates = dict(zip(names, (1 - rates).tolist(), strict=True))
        quotas = np.array(list(power_quotas(fail_rates, k=k, beta=beta).values()))
        # A rate of 1e-9 is as good as none under any cap, and numpy refuses zero.
        needed = quotas + generator.negative_binomial(quotas, np.clip(rates, 1e-9, 1))
        drawn = np.maximum(np.minimum(needed, cap), difficulty_trials)
        trials.append(float(drawn.sum()))
        tokens.append(float((drawn * mean_tokens).sum()))
        met.append(float((needed <= cap).mean()))
    hours = [count / tokens_per_second / 3600 for count in tokens]
    return Cost(_estimate(trials), _estimate(tokens), _estimate(hours), _estimate(met))


def _estimate(values: Sequence[float]) -> Estimate:
    low, median, high = np.quantile(values, [0.025, 0.5, 0.975])
    return Estimate(float(median), float(low), float(high))

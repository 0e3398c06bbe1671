"""The real scheduler against a simulated teacher, under a virtual clock.

A simulated teacher knows each query's pass rate and mean response length and answers by numbered draws: whether
trial t of query q is correct depends on (seed, q, t) alone. So every cap, quota and stopping rule can be judged on
the same draws, and a small cap's outcome is a prefix of a large one's.

What this module does not do: decide anything. Scheduler, allocation and stopping are the ones of real runs.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dartlib.published import load_published
from dartlib.records import Counts
from dartlib.sampling import Policy, Scheduler
from dartlib.statistics import ZeroInflatedBeta
from dartlib.synthesis.allocation import power_quotas

FloatArray = npt.NDArray[np.float64]

# Spread of response lengths around a query's mean (lognormal, of the logarithm), and how many are prepared.
LENGTH_SPREAD = 0.5
_LENGTHS = 1 << 16


@dataclass(frozen=True)
class SimulatedTeacher:
    """Numbered draws from given pass rates.

    ``pass_rates`` in [0, 1] and ``mean_tokens`` (mean response length) by query; ``trials`` is the largest trial
    number that will be asked for, plus one. ``max_tokens`` cuts responses (the paper's 2,048).
    """

    pass_rates: Mapping[str, float]
    mean_tokens: Mapping[str, float]
    trials: int
    seed: int
    max_tokens: int = 2048

    @cached_property
    def verdicts(self) -> dict[str, bytes]:
        """One byte a trial, 1 = correct; from a stream of random numbers per query."""
        streams = np.random.SeedSequence(self.seed).spawn(len(self.pass_rates))
        return {
            query_id: (np.random.Generator(np.random.SFC64(stream)).random(self.trials, np.float32) < rate).tobytes()
            for (query_id, rate), stream in zip(self.pass_rates.items(), streams, strict=True)
        }

    @cached_property
    def spreads(self) -> list[float]:
        """Factors with mean 1 that turn a query's mean length into one response's."""
        normal = np.random.default_rng([self.seed, 1]).standard_normal(_LENGTHS)
        return np.exp(LENGTH_SPREAD * normal - LENGTH_SPREAD**2 / 2).tolist()

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each query starts in the list of spreads."""
        generator = random.Random(self.seed)
        return {query_id: generator.randrange(_LENGTHS) for query_id in self.pass_rates}


@dataclass(frozen=True)
class Simulation:
    """What a simulated run did. Seconds are of the virtual clock; trials are listed in start order."""

    trials: int
    tokens: float
    makespan: float
    wasted: int  # trials beyond the quota- or cap-meeting index
    slots: int
    counted: Mapping[str, Counts]  # per query, up to that index
    starts: array[float] = field(repr=False)
    seconds: array[float] = field(repr=False)

    @property
    def least_possible(self) -> int:
        """Trials that no scheduler could have saved: the sum over queries of the meeting index + 1."""
        return sum(count.trials for count in self.counted.values())

    def busy_share(self, tail: float = 0.01) -> float:
        """Share of slot time in use until the last ``tail`` of the trials, by start order, begins."""
        starts, seconds = np.asarray(self.starts), np.asarray(self.seconds)
        end = starts[min(len(starts) - 1, int(len(starts) * (1 - tail)))]
        used = np.clip(np.minimum(starts + seconds, end) - starts, 0, None).sum()
        return float(used / (end * self.slots)) if end else 1.0


def simulate(teacher: SimulatedTeacher, policy: Policy, *, slots: int, tokens_per_second: float) -> Simulation:
    """Run the scheduler to its end with ``slots`` requests in flight, each at an equal share of the throughput.

    Raises IndexError when the policy asks for more trials than the teacher has draws.
    """
    scheduler = Scheduler(list(teacher.pass_rates), policy)
    next_trial, on_result = scheduler.next_trial, scheduler.on_result
    verdicts, spreads, offsets, means = teacher.verdicts, teacher.spreads, teacher.offsets, teacher.mean_tokens
    longest, slot_rate = float(teacher.max_tokens), tokens_per_second / slots
    events: list[tuple[float, str, int]] = []  # (end, query, trial) of what is in flight
    starts, seconds = array("d"), array("d")
    now = tokens = 0.0
    while True:
        while len(events) < slots and (chosen := next_trial()) is not None:
            query_id, trial = chosen
            length = min(longest, means[query_id] * spreads[(offsets[query_id] + trial) % _LENGTHS])
            tokens += length
            starts.append(now)
            seconds.append(length / slot_rate)
            heapq.heappush(events, (now + length / slot_rate, query_id, trial))
        if not events:
            break
        now, query_id, trial = heapq.heappop(events)
        on_result(query_id, trial, verdicts[query_id][trial] == 1)
    return Simulation(
        trials=scheduler.trials_known,
        tokens=tokens,
        makespan=now,
        wasted=scheduler.realised_waste,
        slots=slots,
        counted=scheduler.counted(),
        starts=starts,
        seconds=seconds,
    )


def cut_by_policy(teacher: SimulatedTeacher, policy: Policy) -> dict[str, Counts]:
    """What each query counts when its numbered draws are taken one by one until the policy is content.

    Equals ``simulate(...).counted`` whatever the slots (a test compares them), in a fraction of the time: this is
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

"""The real scheduler against a simulated teacher, under a virtual clock: how the scheduler is measured.

A timed teacher's responses have lengths, too: numbered as its verdicts are, so all that is compared sees the same ones.
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dartlib.lab import SimulatedTeacher
from dartlib.records import Counts
from dartlib.sampling import Policy, Scheduler

# Spread of response lengths around a query's mean (lognormal, of the logarithm), and how many are prepared.
LENGTH_SPREAD = 0.5
_LENGTHS = 1 << 16


@dataclass(frozen=True)
class TimedTeacher(SimulatedTeacher):
    """``mean_tokens``: mean response length by query; ``max_tokens`` cuts responses (the paper's 2,048)."""

    mean_tokens: Mapping[str, float]
    max_tokens: int = 2048

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


def simulate(teacher: TimedTeacher, policy: Policy, *, slots: int, tokens_per_second: float) -> Simulation:
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

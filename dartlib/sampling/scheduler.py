"""Which trial to ask next: a synchronous, clock-free decision core.

Trials of a query are numbered 0, 1, 2 … A query is finished when its fixed trials are known and either its quota
is met or its cap is reached, judged on the *contiguous* numbered prefix. So, given the texts, no arrival order,
concurrency or restart can change which trials count (design: results do not depend on timing).

What this module does not do: it asks no engine, reads no clock, writes no file.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dartlib.statistics import expected_excess

# Speculation may cost this share of all trials so far (realised waste plus expected waste in flight).
WASTE_SHARE = 0.008
# Jeffreys prior of a query's pass rate while its own trials say little.
PRIOR = (0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a query still has to deliver.

    ``trials`` numbered trials are drawn whatever their verdicts; after that, trials go on until ``quota`` correct
    ones are found (None: no quota) or ``cap`` trials are drawn.
    """

    trials: int
    quota: int | None
    cap: int

    def __post_init__(self) -> None:
        if self.trials > self.cap:
            raise ValueError(f"{self.trials} fixed trials do not fit under the cap of {self.cap}: raise the cap")


class Policy(Protocol):
    """How much to ask of each query. ``demand`` sees the verdicts of the contiguous prefix, oldest first."""

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        """The demand given what is known; it may change only when the prefix grows."""
        ...


@dataclass(slots=True)
class _State:
    """Book-keeping of one query."""

    query_id: str
    demand: Demand
    known: dict[int, bool] = field(default_factory=dict)  # trial -> correct, beyond the prefix too
    prefix: list[bool] = field(default_factory=list)
    n_correct: int = 0  # among all known trials
    upcoming: int = 0  # smallest number not yet handed out
    in_flight: int = 0
    returned: list[int] = field(default_factory=list)  # trials found missing in a resumed pool
    risk: float = 0.0  # expected waste of what is in flight
    finished: bool = False
    stuck: bool = False
    stamp: int = 0  # invalidates older heap entries

    def posterior(self) -> tuple[float, float]:
        return PRIOR[0] + self.n_correct, PRIOR[1] + len(self.known) - self.n_correct

    def need(self) -> int:
        return 0 if self.demand.quota is None else max(0, self.demand.quota - self.n_correct)

    def pass_rate(self) -> float:
        successes, failures = self.posterior()
        return successes / (successes + failures)


def meeting_index(prefix: Sequence[bool], demand: Demand) -> int | None:
    """Index of the trial at which a query is finished, None while it is not.

    The later of: the last fixed trial, and the trial that brings the quota (or the last one under the cap).
    """
    last_fixed = demand.trials - 1
    if demand.quota is None or demand.quota == 0:
        return last_fixed if len(prefix) >= demand.trials else None
    found = 0
    for index, correct in enumerate(prefix[: demand.cap]):
        found += correct
        if found >= demand.quota:
            return max(index, last_fixed) if len(prefix) >= demand.trials else None
    return demand.cap - 1 if len(prefix) >= demand.cap else None


class Scheduler:
    """Hands out (query_id, trial) pairs and takes verdicts back, in any order.

    ``done`` are the trials already in the pool: they are never handed out again.
    """

    def __init__(
        self,
        query_ids: Sequence[str],
        policy: Policy,
        done: Iterable[tuple[str, int, bool]] = (),
        waste_share: float = WASTE_SHARE,
    ) -> None:
        self._policy = policy
        self._waste_share = waste_share
        self._states = {identity: _State(identity, policy.demand(identity, ())) for identity in query_ids}
        self._safe: list[tuple[float, int, str]] = []
        self._risky: list[tuple[float, int, str]] = []
        self.trials_known = 0
        self.realised_waste = 0
        self._risk_in_flight = 0.0
        for identity, trial, correct in done:
            if identity in self._states:
                self._learn(self._states[identity], trial, correct)
        for state in self._states.values():
            known = state.known
            state.upcoming = max(known, default=-1) + 1
            state.returned = sorted(set(range(state.upcoming)) - set(known), reverse=True)
            self._settle(state)

    @property
    def n_finished(self) -> int:
        """Queries that met their quota, their cap or their fixed number of trials."""
        return sum(state.finished for state in self._states.values())

    @property
    def n_correct(self) -> int:
        """Correct trials known, of all queries."""
        return sum(state.n_correct for state in self._states.values())

    @property
    def stuck(self) -> list[str]:
        """Queries whose engine requests failed for good in this run."""
        return [identity for identity, state in self._states.items() if state.stuck]

    def expected_remaining(self) -> float:
        """Expected number of trials still to come, from each query's posterior mean and its cap."""
        total = 0.0
        for state in self._states.values():
            if not (state.finished or state.stuck):
                ahead = state.demand.cap - len(state.known)
                wanted = max(state.demand.trials - len(state.known), state.need() / state.pass_rate())
                total += min(ahead, wanted)
        return total

    def next_trial(self) -> tuple[str, int] | None:
        """The next trial to ask, hard queries first; None when nothing may be asked right now.

        A trial without risk (it cannot lie beyond the quota-meeting one) always goes first. A speculative one is
        handed out only within the waste budget.
        """
        state = self._pop(self._safe)
        if state is None:
            state = self._pop_affordable()
        if state is None:
            return None
        trial = state.returned.pop() if state.returned else state.upcoming
        state.upcoming = max(state.upcoming, trial + 1)
        state.in_flight += 1
        self._queue(state)
        return state.query_id, trial

    def on_result(self, query_id: str, trial: int, correct: bool) -> None:
        """Take the verdict of a trial; a repeated one is ignored."""
        state = self._states[query_id]
        if trial in state.known:
            return
        state.in_flight -= 1
        self._learn(state, trial, correct)
        self._settle(state)

    def on_failure(self, query_id: str, trial: int) -> None:
        """The engine gave no reply to this trial for good: the query is stuck until the next run."""
        state = self._states[query_id]
        state.in_flight -= 1
        state.stuck = True
        self._drop_risk(state)

    def _learn(self, state: _State, trial: int, correct: bool) -> None:
        if trial in state.known:
            return
        state.known[trial] = correct
        state.n_correct += correct
        self.trials_known += 1
        while len(state.prefix) in state.known:
            state.prefix.append(state.known[len(state.prefix)])

    def _settle(self, state: _State) -> None:
        """Renew demand and status of a query after its prefix may have grown, then queue it again."""
        if state.finished:
            self.realised_waste += 1  # a trial that came in behind the meeting index
            return
        state.demand = self._policy.demand(state.query_id, state.prefix)
        index = meeting_index(state.prefix, state.demand)
        if index is not None:
            state.finished = True
            self.realised_waste += len(state.known) - (index + 1)
            self._drop_risk(state)
        elif not state.stuck:
            self._queue(state)

    def _queue(self, state: _State) -> None:
        """Put a query on the heap its next trial belongs to, and renew its expected waste in flight."""
        state.stamp += 1
        self._risk_in_flight -= state.risk
        state.risk = self._excess(state, state.in_flight)
        self._risk_in_flight += state.risk
        if not state.returned and state.upcoming >= state.demand.cap:
            return
        if self._without_risk(state):
            heapq.heappush(self._safe, (state.pass_rate(), state.stamp, state.query_id))
        elif state.need() > 0:
            price = self._excess(state, state.in_flight + 1) - state.risk
            heapq.heappush(self._risky, (price, state.stamp, state.query_id))

    def _without_risk(self, state: _State) -> bool:
        """True when the next trial cannot lie behind the one that meets the quota.

        All trials below its number are known or in flight; if every one in flight turned out correct, the quota
        would still not be met before it. For a gap of a resumed pool, correct trials above it do not count.
        """
        if not state.returned:
            return state.upcoming < state.demand.trials or state.in_flight < state.need()
        number = state.returned[-1]
        below = [state.known.get(earlier) for earlier in range(number)]
        return number < state.demand.trials or below.count(True) + below.count(None) < (state.demand.quota or 0)

    def _excess(self, state: _State, in_flight: int) -> float:
        need = state.need()
        if need == 0 or in_flight <= need:
            return 0.0
        successes, failures = state.posterior()
        return expected_excess(successes, failures, in_flight, need)

    def _pop(self, heap: list[tuple[float, int, str]]) -> _State | None:
        while heap:
            _, stamp, identity = heapq.heappop(heap)
            state = self._states[identity]
            if stamp == state.stamp and not (state.finished or state.stuck):
                return state
        return None

    def _pop_affordable(self) -> _State | None:
        """The cheapest speculative trial, if realised and expected waste stay within the budget."""
        while self._risky:
            price, stamp, identity = self._risky[0]
            state = self._states[identity]
            if stamp != state.stamp or state.finished or state.stuck:
                heapq.heappop(self._risky)
                continue
            if self.realised_waste + self._risk_in_flight + price > self._waste_share * self.trials_known:
                return None
            heapq.heappop(self._risky)
            return state
        return None

    def _drop_risk(self, state: _State) -> None:
        self._risk_in_flight -= state.risk
        state.risk = 0.0

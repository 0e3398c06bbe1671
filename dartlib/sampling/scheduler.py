"""Which trial to ask next: a synchronous, clock-free decision core.

Trials of a query are numbered 0, 1, 2 … A query is finished when its fixed trials are known and either its quota
is met or its cap is reached, judged one by one along the *contiguous* numbered prefix. So, given the texts, no
arrival order, concurrency or restart can change which trials count (design: results do not depend on timing).

What this module does not do: it asks no engine, reads no clock, writes no file. The real runner and the simulator
drive the very same object.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dartlib.records import Counts
from dartlib.sampling.demand import Demand, Policy
from dartlib.statistics import expected_excess

# Speculation may cost this share of all trials so far (realised waste plus expected waste in flight).
WASTE_SHARE = 0.008
# Jeffreys prior of a query's pass rate while its own trials say little: prices speculation.
PRIOR = (0.5, 0.5)
# For the order only, an untried query counts as this many wrong trials: it is looked at before the easy ones.
_UNTRIED = 8


@dataclass(slots=True)
class _State:
    """Book-keeping of one query."""

    number: int
    query_id: str
    demand: Demand
    prefix: list[bool] = field(default_factory=list)
    ahead: dict[int, bool] = field(default_factory=dict)  # verdicts known behind the first missing trial
    judged: int = 0  # trials of the prefix already weighed against the demand
    judged_correct: int = 0
    n_known: int = 0
    n_correct: int = 0  # among all known trials
    upcoming: int = 0  # smallest number never handed out
    in_flight: int = 0
    returned: list[int] = field(default_factory=list)  # trials found missing in a resumed pool, descending
    risk: float = 0.0  # expected waste of what is in flight
    level: int | None = None  # its difficulty where it is queued for a trial without risk, None where it is not
    ticket: int = 0  # its valid entry in that queue
    stamp: int = 0  # invalidates older prices
    unpriced: bool = False
    finished: bool = False
    stuck: bool = False

    def need(self) -> int:
        return max(0, (self.demand.quota or 0) - self.n_correct)

    def difficulty(self) -> int:
        """Half octaves of trials per correct one, negative so that the hardest comes first."""
        ratio = 16 * (self.n_known + _UNTRIED) // (2 * self.n_correct + 1)
        return -(ratio * ratio).bit_length()


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
        self._list = [_State(n, identity, policy.demand(identity, ())) for n, identity in enumerate(query_ids)]
        self._states = {state.query_id: state for state in self._list}
        self._safe: list[tuple[int, int, int]] = []  # (difficulty, ticket, query)
        self._risky: list[tuple[float, int, int]] = []  # (price, stamp, query)
        self._unpriced: list[_State] = []
        self._ticket = 0
        self.trials_known = 0
        self.realised_waste = 0
        self.n_finished = 0  # queries that met their quota, their cap or their fixed number of trials
        self.n_correct = 0  # correct trials known, of all queries
        self._risk_in_flight = 0.0
        for identity, trial, correct in done:
            if identity in self._states:
                self._learn(self._states[identity], trial, correct)
        for state in self._list:
            state.upcoming = max(state.ahead, default=len(state.prefix) - 1) + 1
            missing = set(range(len(state.prefix), state.upcoming)) - set(state.ahead)
            state.returned = sorted(missing, reverse=True)
            if state.demand.finished(0, 0):
                self._finish(state)
            else:
                self._judge(state)
            self._queue(state)

    @property
    def stuck(self) -> list[str]:
        """Queries whose engine requests failed for good in this run."""
        return [state.query_id for state in self._list if state.stuck]

    def counted(self) -> dict[str, Counts]:
        """Per query what is counted so far (up to the meeting index once it is finished)."""
        return {state.query_id: Counts(state.judged_correct, state.judged) for state in self._list}

    def expected_remaining(self) -> float:
        """Expected number of trials still to come, from each query's posterior mean and its cap."""
        total = 0.0
        for state in self._list:
            if not (state.finished or state.stuck):
                trials_per_correct = (state.n_known + sum(PRIOR)) / (state.n_correct + PRIOR[0])
                wanted = max(state.demand.trials - state.n_known, state.need() * trials_per_correct)
                total += min(state.demand.cap - state.n_known, wanted)
        return total

    def next_trial(self) -> tuple[str, int] | None:
        """The next trial to ask, hard queries first; None when nothing may be asked right now.

        A trial without risk (it cannot lie beyond the quota-meeting one) always goes first, equally hard queries
        taking turns. A speculative one is handed out only within the waste budget.
        """
        state = self._pop_safe() or self._pop_affordable()
        if state is None:
            return None
        if state.returned:
            trial = state.returned.pop()
        else:
            trial = state.upcoming
            state.upcoming += 1
        state.in_flight += 1
        self._queue(state)
        return state.query_id, trial

    def on_result(self, query_id: str, trial: int, correct: bool) -> None:
        """Take the verdict of a trial; a repeated one is ignored."""
        state = self._states[query_id]
        if not self._learn(state, trial, correct):
            return
        state.in_flight -= 1
        if state.finished:
            self.realised_waste += 1  # it came in behind the meeting index
            return
        self._judge(state)
        if not state.finished:
            self._queue(state)

    def on_failure(self, query_id: str, trial: int) -> None:
        """The engine gave no reply to this trial for good: the query is stuck until the next run."""
        state = self._states[query_id]
        state.in_flight -= 1
        state.stuck = True
        self._set_risk(state, 0.0)

    def _learn(self, state: _State, trial: int, correct: bool) -> bool:
        """File a verdict; False if it was known."""
        prefix, ahead = state.prefix, state.ahead
        if trial == len(prefix):
            prefix.append(correct)
            while ahead and len(prefix) in ahead:
                prefix.append(ahead.pop(len(prefix)))
        elif trial < len(prefix) or trial in ahead:
            return False
        else:
            ahead[trial] = correct
        state.n_known += 1
        self.trials_known += 1
        if correct:
            state.n_correct += 1
            self.n_correct += 1
        return True

    def _judge(self, state: _State) -> None:
        """Weigh the prefix against the demand, trial by trial, asking the policy exactly at its review points.

        One by one, because a reply that closes a gap may bring many trials at once, and the outcome must be the
        one that strictly sequential drawing gives.
        """
        demand, prefix = state.demand, state.prefix
        while state.judged < len(prefix):
            state.judged_correct += prefix[state.judged]
            state.judged += 1
            if state.judged == demand.review:
                demand = state.demand = self._policy.demand(state.query_id, prefix[: state.judged])
            if demand.finished(state.judged, state.judged_correct):
                self._finish(state)
                return

    def _finish(self, state: _State) -> None:
        """The query is done at trial ``judged`` - 1; what is known behind it was waste."""
        state.finished = True
        self.n_finished += 1
        self.realised_waste += state.n_known - state.judged
        self._set_risk(state, 0.0)

    def _queue(self, state: _State) -> None:
        """Put an unfinished query where its next trial belongs, and renew its expected waste in flight."""
        if state.finished or state.stuck:
            return
        state.stamp += 1
        demand, in_flight, upcoming = state.demand, state.in_flight, state.upcoming
        need = (demand.quota or 0) - state.n_correct
        certain = demand.cap if demand.review is None else demand.review
        if state.risk or (need > 0 and upcoming > demand.trials and (in_flight > need or upcoming > certain)):
            self._set_risk(state, self._expected_waste(state, 0))
        if not state.returned:
            if upcoming >= demand.cap:
                state.level = None
                return
            without_risk = upcoming < demand.trials or (in_flight < need and upcoming < certain)
        else:
            without_risk = self._gap_is_needed(state)
        if without_risk:
            level = state.difficulty()
            if level != state.level:
                state.level = level
                state.ticket = self._ticket = self._ticket + 1
                heapq.heappush(self._safe, (level, state.ticket, state.number))
        else:
            state.level = None
            if need > 0 and not state.unpriced:
                state.unpriced = True
                self._unpriced.append(state)

    def _gap_is_needed(self, state: _State) -> bool:
        """For the lowest gap of a resumed pool: True when the quota cannot be met below it."""
        number = state.returned[-1]
        if number < state.demand.trials:
            return True
        below = [correct for trial, correct in state.ahead.items() if trial < number]
        unknown = number - len(state.prefix) - len(below)
        return sum(state.prefix) + sum(below) + unknown < (state.demand.quota or 0)

    def _pop_safe(self) -> _State | None:
        """The hardest query with a trial that costs no risk; it goes behind those that are equally hard."""
        heap = self._safe
        while heap:
            level, ticket, number = heap[0]
            state = self._list[number]
            if ticket == state.ticket and state.level is not None and not (state.finished or state.stuck):
                # A turn for each: the entry is renewed in place, and _queue voids it if this was its last trial.
                state.ticket = self._ticket = self._ticket + 1
                heapq.heapreplace(heap, (level, state.ticket, number))
                return state
            heapq.heappop(heap)
        return None

    def _pop_affordable(self) -> _State | None:
        """The cheapest speculative trial, if realised and expected waste stay within the budget."""
        for state in self._unpriced:
            state.unpriced = False
            if state.level is None and not (state.finished or state.stuck) and state.upcoming < state.demand.cap:
                price = self._expected_waste(state, 1) - state.risk
                heapq.heappush(self._risky, (price, state.stamp, state.number))
        self._unpriced.clear()
        while self._risky:
            price, stamp, number = self._risky[0]
            state = self._list[number]
            if stamp == state.stamp and not (state.finished or state.stuck):
                if self.realised_waste + self._risk_in_flight + price > self._waste_share * self.trials_known:
                    return None
                heapq.heappop(self._risky)
                return state
            heapq.heappop(self._risky)
        return None

    def _expected_waste(self, state: _State, more: int) -> float:
        """Of the trials in flight and ``more`` new ones: those behind the quota, and all that a review may void."""
        demand, in_flight, need = state.demand, state.in_flight + more, state.need()
        if need == 0:
            return 0.0
        behind = 0.0
        if in_flight > need:
            wrong = state.n_known - state.n_correct
            behind = expected_excess(PRIOR[0] + state.n_correct, PRIOR[1] + wrong, in_flight, need)
        if demand.review is not None:
            behind += max(0, state.upcoming + more - max(demand.review, demand.trials))
        return behind

    def _set_risk(self, state: _State, risk: float) -> None:
        self._risk_in_flight += risk - state.risk
        state.risk = risk

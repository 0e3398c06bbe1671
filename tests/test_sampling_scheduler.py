"""The decision core: when a query is finished, what is asked next, and that timing cannot change a data set."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dartlib.sampling import Demand, Scheduler, meeting_index


class FixedPolicy:
    """The same demand for every query."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        return self._demand


def flags(text: str) -> list[bool]:
    """'1' is a correct trial, '0' a wrong one."""
    return [letter == "1" for letter in text]


@pytest.mark.parametrize(
    ("prefix", "demand", "expected"),
    [
        # k-1, k, k+1 correct at quota k = 3
        ("11", Demand(0, 3, 8), None),
        ("111", Demand(0, 3, 8), 2),
        ("1111", Demand(0, 3, 8), 2),
        ("0101001", Demand(0, 3, 8), 6),
        # cap-1 and cap trials without the quota
        ("0000000", Demand(0, 3, 8), None),
        ("00000000", Demand(0, 3, 8), 7),
        ("000000001", Demand(0, 3, 8), 7),
        # the quota is met by the very last trial under the cap, and by one behind it
        ("00000111", Demand(0, 3, 8), 7),
        ("00000011" + "1", Demand(0, 3, 8), 7),
        # fixed trials come first even if the quota is met earlier
        ("111", Demand(4, 3, 8), None),
        ("1110", Demand(4, 3, 8), 3),
        # no quota: the fixed number of trials, whatever their verdicts
        ("000", Demand(4, None, 8), None),
        ("0000", Demand(4, None, 8), 3),
        ("1111", Demand(4, None, 4), 3),
    ],
)
def test_meeting_index_table(prefix: str, demand: Demand, expected: int | None) -> None:
    assert meeting_index(flags(prefix), demand) == expected


def test_a_quota_of_k_stops_at_exactly_k_correct() -> None:
    """The published code needs more than k (its stop test is strict); here k means k."""
    scheduler = Scheduler(["q"], FixedPolicy(Demand(0, 5, 100)))
    asked = drive(scheduler, {"q": lambda trial: True}, slots=64, order=random.Random(0))
    assert sorted(asked) == [("q", trial) for trial in range(5)]
    assert scheduler.realised_waste == 0


def drive(scheduler, answers, slots: int, order: random.Random) -> list[tuple[str, int]]:
    """Play engine until nothing is left to ask: the trials asked."""
    return [(query_id, trial) for query_id, trial, _ in replies_of(scheduler, answers, slots, order)]


def drive_and_cut_off(
    scheduler, answers, slots: int, order: random.Random, replies: int
) -> list[tuple[str, int, bool]]:
    """The same for some replies only; what was in flight is lost and may leave gaps."""
    return list(itertools.islice(replies_of(scheduler, answers, slots, order), replies))


def replies_of(scheduler, answers, slots: int, order: random.Random) -> Iterator[tuple[str, int, bool]]:
    """Up to ``slots`` trials in flight, which come back in random order."""
    in_flight: list[tuple[str, int]] = []
    while True:
        while len(in_flight) < slots and (chosen := scheduler.next_trial()) is not None:
            in_flight.append(chosen)
        if not in_flight:
            return
        query_id, trial = in_flight.pop(order.randrange(len(in_flight)))
        correct = answers[query_id](trial)
        scheduler.on_result(query_id, trial, correct)
        yield query_id, trial, correct


def coin(query_id: str, rate: float):
    """A verdict that depends on query and trial alone."""

    def verdict(trial: int) -> bool:
        digest = hashlib.sha256(f"{query_id}:{trial}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 2**32 < rate

    return verdict


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    fixed=st.integers(0, 6),
    quota=st.integers(1, 6),
    cap=st.integers(6, 24),
    slots=st.integers(1, 40),
    timing=st.integers(0, 1000),
    waste_share=st.sampled_from([0.0, 0.008, 0.5]),
    restart_after=st.integers(0, 60),
)
def test_the_counted_prefix_never_depends_on_timing(
    rates, fixed, quota, cap, slots, timing, waste_share, restart_after
) -> None:
    """Any concurrency, arrival order, speculation and restart count exactly the trials one-by-one drawing counts."""
    demand = Demand(fixed, quota, cap)
    answers = {f"q{number}": coin(f"q{number}", rate) for number, rate in enumerate(rates)}
    expected = {
        query_id: meeting_index([verdict(i) for i in range(cap)], demand) for query_id, verdict in answers.items()
    }
    order = random.Random(timing)
    first = Scheduler(list(answers), FixedPolicy(demand), waste_share=waste_share)
    pool = drive_and_cut_off(first, answers, slots, order, restart_after)
    second = Scheduler(list(answers), FixedPolicy(demand), pool, waste_share=waste_share)
    asked = drive(second, answers, slots, order)
    assert len(set(asked)) == len(asked), "no trial is asked twice"
    flushed = {(query_id, trial) for query_id, trial, _ in pool}
    assert not set(asked) & flushed, "no flushed trial is asked again"
    known = set(asked) | flushed
    for query_id, index in expected.items():
        trials = {trial for identity, trial in known if identity == query_id}
        assert set(range(index + 1)) <= trials
        assert max(trials) < cap
    assert second.n_finished == len(rates)
    counted = sum(index + 1 for index in expected.values())
    assert second.realised_waste == len(known) - counted


def test_without_a_waste_budget_nothing_is_wasted() -> None:
    answers = {f"q{number}": coin(f"q{number}", number / 10) for number in range(10)}
    scheduler = Scheduler(list(answers), FixedPolicy(Demand(4, 3, 64)), waste_share=0.0)
    drive(scheduler, answers, slots=200, order=random.Random(1))
    assert scheduler.realised_waste == 0


def test_speculation_fills_slots_and_stays_near_its_budget() -> None:
    """With a budget, more trials are in flight at the hard tail; realised waste stays of the order of the share."""
    answers = {f"q{number}": coin(f"q{number}", 0.02 + 0.02 * (number % 5)) for number in range(200)}
    waste, first_batch = {}, {}
    for share in (0.0, 0.05):
        scheduler = Scheduler(list(answers), FixedPolicy(Demand(8, 4, 256)), waste_share=share)
        for _ in range(8 * len(answers)):
            assert scheduler.next_trial() is not None
        for query_id in answers:
            for trial in range(8):
                scheduler.on_result(query_id, trial, answers[query_id](trial))
        batch = []
        while (chosen := scheduler.next_trial()) is not None and len(batch) < 5000:
            batch.append(chosen)
        first_batch[share] = len(batch)
        for query_id, trial in batch:
            scheduler.on_result(query_id, trial, answers[query_id](trial))
        drive(scheduler, answers, slots=512, order=random.Random(2))
        waste[share] = scheduler.realised_waste / scheduler.trials_known
    assert first_batch[0.05] > 1.3 * first_batch[0.0]
    assert waste[0.0] == 0
    assert 0 < waste[0.05] < 0.1


def test_hard_queries_go_first() -> None:
    """After equal numbers of difficulty trials, the one with fewest correct is asked first."""
    done = [("easy", trial, True) for trial in range(4)] + [("hard", trial, False) for trial in range(4)]
    scheduler = Scheduler(["easy", "hard"], FixedPolicy(Demand(4, 8, 64)), done)
    assert scheduler.next_trial() == ("hard", 4)


def test_a_gap_left_by_a_lost_trial_is_asked_again_first() -> None:
    scheduler = Scheduler(["q"], FixedPolicy(Demand(4, None, 8)), [("q", 0, True), ("q", 2, True)])
    assert scheduler.next_trial() == ("q", 1)
    assert scheduler.next_trial() == ("q", 3)
    assert scheduler.next_trial() is None


def test_a_stuck_query_is_not_asked_again_and_others_go_on() -> None:
    scheduler = Scheduler(["a", "b"], FixedPolicy(Demand(1, None, 4)))
    first = scheduler.next_trial()
    assert first is not None
    scheduler.on_failure(*first)
    other = scheduler.next_trial()
    assert other is not None and other[0] != first[0]
    scheduler.on_result(*other, True)
    assert scheduler.next_trial() is None
    assert scheduler.stuck == [first[0]]
    assert scheduler.n_finished == 1


def test_a_repeated_result_is_ignored() -> None:
    scheduler = Scheduler(["q"], FixedPolicy(Demand(2, None, 4)))
    scheduler.next_trial()
    scheduler.on_result("q", 0, True)
    scheduler.on_result("q", 0, True)
    assert scheduler.trials_known == 1 and scheduler.n_correct == 1


def test_a_demand_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ValueError, match="raise the cap"):
        Demand(trials=5, quota=None, cap=4)


class GiveUp:
    """At eight and at twelve trials, queries without a correct one are given up; at twelve the quota grows."""

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        if len(prefix) < 8:
            return Demand(2, 3, 30, review=8)
        if not any(prefix):
            return Demand(2, 3, len(prefix))
        return Demand(2, 3, 30, review=12) if len(prefix) < 12 else Demand(2, 5, 30)


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.9]), min_size=1, max_size=6),
    slots=st.integers(1, 60),
    timing=st.integers(0, 1000),
    restart_after=st.integers(0, 40),
)
def test_reviews_see_the_prefix_that_sequential_drawing_shows(rates, slots, timing, restart_after) -> None:
    answers = {f"q{number}": coin(f"q{number}", rate) for number, rate in enumerate(rates)}
    order, asked = random.Random(timing), []
    first, policy = Scheduler(list(answers), GiveUp(), waste_share=0.5), GiveUp()
    pool = drive_and_cut_off(first, answers, slots, order, restart_after)
    second = Scheduler(list(answers), policy, pool, waste_share=0.5)
    asked = drive(second, answers, slots, order)
    for query_id, verdict in answers.items():
        prefix: list[bool] = []
        while True:
            found = sum(prefix)
            if len(prefix) >= 2 and (
                found >= (5 if len(prefix) >= 12 else 3) or len(prefix) == 30 or (len(prefix) in (8, 12) and not found)
            ):
                break
            prefix.append(verdict(len(prefix)))
        assert second.counted()[query_id] == (sum(prefix), len(prefix))
    assert second.n_finished == len(rates)
    counted = sum(trials for _, trials in second.counted().values())
    assert second.realised_waste == len(asked) + len(pool) - counted


def test_equally_hard_queries_take_turns() -> None:
    scheduler = Scheduler(["a", "b", "c"], FixedPolicy(Demand(0, 4, 9)))
    assert [scheduler.next_trial() for _ in range(6)] == [(name, trial) for trial in (0, 1) for name in "abc"]


def test_work_per_trial_does_not_grow_with_the_cap() -> None:
    """One hopeless query: the last thousand of 20,000 trials take the steps of the first thousand."""
    calls = 0

    class Counting:
        def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
            nonlocal calls
            calls += 1
            return Demand(0, 40, 20_000)

    scheduler = Scheduler(["q"], Counting())
    drive(scheduler, {"q": lambda trial: False}, slots=8, order=random.Random(0))
    assert scheduler.counted() == {"q": (0, 20_000)} and calls == 1

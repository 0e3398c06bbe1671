"""The posterior stopping rule: decisions worked out by hand, and that timing cannot change them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_run import TimedTeacher, simulate

from dartlib.lab import SimulatedTeacher, cut_by_policy, judge
from dartlib.records import Counts, QueryOutcome
from dartlib.statistics import ZeroInflatedBeta
from dartlib.synthesis import StoppingRule, StrategyPolicy, StrategySettings
from dartlib.synthesis.difficulty import Priors
from dartlib.synthesis.stopping import PosteriorStopping, unmet_queries

FLAT = Priors({}, ZeroInflatedBeta(0.0, 1.0, 1.0))


def stopping(threshold: float, patience: int = 0, price: float = 0.0, first: int = 16) -> PosteriorStopping:
    return PosteriorStopping(StoppingRule(threshold, patience, price), FLAT, first)


def test_looks_come_at_growing_numbers_of_trials() -> None:
    rule, reviews, known = stopping(0.1), [], 0
    for _ in range(6):
        known = rule.next_review(known)
        reviews.append(known)
    assert reviews == [16, 20, 25, 32, 40, 50]
    assert rule.next_review(17) == 20


def test_a_query_is_given_up_at_the_first_look_that_makes_it_hopeless() -> None:
    # Flat prior, 16 wrong: Beta(1, 17). One correct among 24 more: 1 - 17/41 = 0.585. Three of three: far less.
    wrong = [False] * 40
    assert ZeroInflatedBeta(0.0, 1.0, 17.0).chance(1, 24) == pytest.approx(1 - 17 / 41)
    assert stopping(0.5).stops_at(None, 1, 40, wrong) == 20  # at 20: 1 - 21/41 = 0.488 < 0.5
    assert stopping(0.58).stops_at(None, 1, 40, wrong) == 20
    assert stopping(0.59).stops_at(None, 1, 40, wrong) == 16
    assert stopping(0.5).stops_at(None, 1, 40, wrong[:19]) is None  # not yet known


def test_a_met_quota_and_the_cap_come_first() -> None:
    assert stopping(0.99).stops_at(None, 1, 40, [True] + [False] * 30) is None
    assert stopping(0.99).stops_at(None, 3, 16, [False] * 16) is None  # the cap ends it at the same trial


def test_patience_keeps_the_unsolved_and_price_the_productive() -> None:
    wrong, one_right = [False] * 100, [True] + [False] * 99
    assert stopping(0.5, patience=30).stops_at(None, 30, 100, wrong) == 32
    assert stopping(0.5, patience=30).stops_at(None, 30, 100, one_right) == 16
    # one correct in n: Beta(2, n), the next one takes (n + 2) / 2 trials: at most 20 up to n = 38
    assert stopping(0.5, price=20).stops_at(None, 30, 100, one_right) == 40
    assert stopping(0.5, price=20.9).stops_at(None, 30, 100, one_right) == 40
    assert stopping(0.5, price=21).stops_at(None, 30, 100, one_right) == 50


def test_levels_are_judged_by_their_own_population() -> None:
    priors = Priors({1: ZeroInflatedBeta(0.0, 100.0, 100.0), 5: ZeroInflatedBeta(0.9, 1.0, 1.0)}, FLAT.overall)
    rule = PosteriorStopping(StoppingRule(0.5, 0), priors)
    wrong = [False] * 16
    assert rule.stops_at(5, 4, 64, wrong) == 16
    assert rule.stops_at(1, 4, 64, wrong) is None


@settings(max_examples=25, deadline=None)
@given(
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=8),
    threshold=st.sampled_from([0.05, 0.4, 0.9]),
    patience=st.sampled_from([0, 20]),
    strategies=st.sampled_from([("uniform",), ("prop2diff",), ("vrt", "uniform", "prop2diff")]),
    slots=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_timing_cannot_change_what_is_given_up(rates, threshold, patience, strategies, slots, seed) -> None:
    """Any number of slots under the virtual clock counts exactly what one-by-one drawing counts."""
    names = [f"q{number}" for number in range(len(rates))]
    teacher = TimedTeacher(dict(zip(names, rates, strict=True)), 64, seed, dict.fromkeys(names, 50.0))
    chosen = StrategySettings(strategies, 4, 6, 5, 9, 64)
    policy = StrategyPolicy(chosen, stopping=stopping(threshold, patience, first=8))
    run = simulate(teacher, policy, slots=slots, tokens_per_second=100.0)
    assert run.counted == cut_by_policy(teacher, policy) == one_by_one(teacher, policy)


def one_by_one(teacher: SimulatedTeacher, policy: StrategyPolicy) -> dict[str, Counts]:
    """Sequential drawing, as plainly as it can be written."""
    result = {}
    for name, draws in teacher.verdicts.items():
        prefix: list[bool] = []
        demand = policy.demand(name, prefix)
        while len(prefix) < demand.trials or (demand.quota and sum(prefix) < demand.quota and len(prefix) < demand.cap):
            prefix.append(draws[len(prefix)] == 1)
            if len(prefix) == demand.review:
                demand = policy.demand(name, prefix)
        result[name] = Counts(sum(prefix), len(prefix))
    return result


def test_given_up_queries_end_early_and_the_others_are_untouched() -> None:
    names = [f"q{number}" for number in range(40)]
    rates = dict(zip(names, [0.0] * 20 + [0.5] * 20, strict=True))
    teacher = SimulatedTeacher(rates, 400, 3)
    chosen = StrategySettings(("uniform",), 8, 1, 4, 1, 400)
    plain = cut_by_policy(teacher, StrategyPolicy(chosen))
    ended = cut_by_policy(teacher, StrategyPolicy(chosen, stopping=stopping(0.3, patience=60)))
    assert all(plain[name] == (0, 400) and 60 <= ended[name].trials < 200 for name in names[:20])
    assert all(plain[name] == ended[name] for name in names[20:])


def test_known_fail_rates_replace_the_difficulty_trials() -> None:
    chosen = StrategySettings(("prop2diff",), 16, 1, 1, 10, 64)
    policy = StrategyPolicy(chosen, fail_rates={"known": 0.75})
    demand = policy.demand("known", ())
    assert (demand.trials, demand.quota, demand.review) == (0, 7, None)
    assert (policy.demand("other", ()).trials, policy.demand("other", ()).review) == (16, 16)


def test_a_run_is_judged_on_three_axes() -> None:
    counted = {"easy": Counts(4, 4), "hard": Counts(3, 64), "never": Counts(0, 64)}
    found = judge(counted, dict.fromkeys(counted, 4), ["never", "hard"])
    assert (found.trials, found.hard_correct, found.hard_coverage) == (132, 3, 0.5)
    assert found.achieving_ratio == pytest.approx(1 / 3)


def test_unmet_queries_come_with_their_posterior_most_promising_first() -> None:
    def outcome(query_id: str, correct: int, status: str, quota: int | None = 4) -> QueryOutcome:
        return QueryOutcome(query_id, "uniform", 1, 8, 0, 1.0, quota, 20, 20, correct, status)

    given_up = outcome("b", 0, "given up")
    found = unmet_queries(
        [outcome("m", 4, "met"), given_up, outcome("a", 3, "cap"), outcome("v", 1, "drawn", None)], FLAT
    )
    assert found.query_id.tolist() == ["a", "b"]
    # three of 20 under a flat prior: Beta(4, 18); one more among 20: 1 - B(4, 38) / B(4, 18)
    assert found.iloc[0].pass_rate == pytest.approx(4 / 22)
    missed = 1.0
    for trial in range(20):
        missed *= (18 + trial) / (22 + trial)
    assert found.iloc[0].chance == pytest.approx(1 - missed)
    assert found.iloc[0].interval[0] < 4 / 22 < found.iloc[0].interval[1]


@pytest.mark.parametrize("bad", [(0.0, 0, 0.0), (1.0, 0, 0.0), (0.5, -1, 0.0), (0.5, 0, -1.0)])
def test_senseless_rules_are_refused(bad: tuple[float, int, float]) -> None:
    with pytest.raises(ValueError, match="threshold|patience"):
        StoppingRule(*bad)


def test_giving_up_wastes_little_of_what_is_in_flight() -> None:
    """Trials behind the next look may be void, so they are asked only within the waste budget."""
    names = [f"q{number}" for number in range(300)]
    rates = dict(zip(names, [0.004] * 150 + [0.5] * 150, strict=True))
    teacher = TimedTeacher(rates, 512, 3, dict.fromkeys(names, 10.0))
    chosen = StrategySettings(("uniform",), 8, 1, 30, 1, 512)
    policy = StrategyPolicy(chosen, stopping=stopping(0.1, patience=64))
    run = simulate(teacher, policy, slots=128, tokens_per_second=100.0)
    assert run.trials <= 1.015 * run.least_possible
    assert run.busy_share() > 0.95

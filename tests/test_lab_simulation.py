"""The simulated teacher, the frozen calibration, cost estimates and the replay lab."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paper_calibration import calibrate_pass_rates, calibrated_lengths, figure_points, fit_tail
from simulated_run import TimedTeacher, simulate

from dartlib.lab import (
    calibrated_pass_rates,
    cut_by_policy,
    draw_pass_rates,
    estimate_cost,
    replay_table,
    replay_teacher,
)
from dartlib.published import load_published
from dartlib.records import Counts, QueryOutcome
from dartlib.sampling import ConstantPolicy
from dartlib.statistics import ZeroInflatedBeta
from dartlib.synthesis import StoppingRule, StrategySettings, counts_of, prop2diff_quotas, read_pass_rates


def teacher_of(rates: list[float], trials: int = 64, seed: int = 1, tokens: float = 50.0) -> TimedTeacher:
    names = [f"q{number}" for number in range(len(rates))]
    return TimedTeacher(dict(zip(names, rates, strict=True)), trials, seed, dict.fromkeys(names, tokens))


def test_draws_are_numbered() -> None:
    """More trials never change the earlier ones, so a small cap is a prefix of a large one."""
    short, long = teacher_of([0.2, 0.7], 64), teacher_of([0.2, 0.7], 512)
    for name in short.verdicts:
        assert long.verdicts[name].startswith(short.verdicts[name])
        assert sum(long.verdicts[name]) / 512 == pytest.approx(long.pass_rates[name], abs=0.07)
    assert teacher_of([0.2, 0.7], seed=2).verdicts != short.verdicts


def test_lengths_have_the_given_mean_and_the_given_cut() -> None:
    teacher = teacher_of([0.5], 20_000, tokens=400.0)
    run = simulate(teacher, ConstantPolicy(20_000, trials=20_000), slots=1, tokens_per_second=1.0)
    lengths = run.seconds
    assert np.mean(lengths) == pytest.approx(400, rel=0.02)
    assert max(lengths) <= 2048


def test_a_run_by_hand() -> None:
    """Two certain queries, two slots, no spread: the clock can be followed."""
    teacher = teacher_of([1.0, 0.0], trials=3, tokens=10.0)
    teacher.__dict__["spreads"] = [1.0] * (1 << 16)
    run = simulate(teacher, ConstantPolicy(3, quota={"q0": 1, "q1": 1}), slots=2, tokens_per_second=20.0)
    # each slot makes 10 tokens a second, so a response takes one: q0 once, q1 three times, one after the other
    assert run.counted == {"q0": (1, 1), "q1": (0, 3)}
    assert (run.trials, run.least_possible, run.wasted, run.tokens, run.makespan) == (4, 4, 0, 40.0, 3.0)
    # in two slots the first second is full, the next two are half full; the last trial starts at second 2
    assert run.busy_share(tail=0.0) == pytest.approx((1 + 0.5) / 2)


def test_waste_is_what_lies_behind_the_meeting_index_and_stays_small() -> None:
    rates = (np.linspace(0.02, 1, 300) ** 2).tolist()
    teacher = teacher_of(rates, trials=256)
    quotas = prop2diff_quotas({name: 1 - rate for name, rate in teacher.pass_rates.items()}, k_p=30)
    run = simulate(teacher, ConstantPolicy(256, quota=quotas), slots=128, tokens_per_second=1000.0)
    assert run.counted == cut_by_policy(teacher, ConstantPolicy(256, quota=quotas))
    assert run.wasted == run.trials - run.least_possible
    assert run.trials <= 1.02 * run.least_possible
    assert run.busy_share() > 0.95


def test_six_caps_are_prefixes_of_one_set_of_draws() -> None:
    teacher, quotas = teacher_of([0.05, 0.3, 0.9], 256), {"q0": 8, "q1": 8, "q2": 8}
    for cap in (8, 16, 32, 64, 128, 256):
        for name, found in cut_by_policy(teacher, ConstantPolicy(cap, quota=quotas)).items():
            right = [index for index, verdict in enumerate(teacher.verdicts[name][:cap]) if verdict]
            expected = Counts(8, right[7] + 1) if len(right) >= 8 else Counts(len(right), cap)
            assert found == expected
    with pytest.raises(ValueError, match="cap 300 is above"):
        cut_by_policy(teacher, ConstantPolicy(300, quota=quotas))


def test_the_frozen_rates_can_be_made_again() -> None:
    frozen = calibrated_pass_rates()
    assert len(frozen) == 14_973 and set(load_published("calibrated_pass_rates")["mark"]) == {"derived"}
    assert np.allclose(frozen, calibrate_pass_rates(fit_tail()), rtol=0.01, atol=1e-6)
    assert (np.diff(frozen) >= 0).all(), "hardest first"


def test_the_rates_agree_with_the_columns_they_were_read_from() -> None:
    ranks, rates = figure_points()
    assert np.allclose(calibrated_pass_rates()[ranks.astype(int) - 1], rates, atol=1e-6)
    column = (
        load_published("responses_by_rank")
        .query("rank >= 1250")
        .pivot(index="rank", columns="strategy", values="value")
    )
    # Prop2Diff: within 2 responses of 192 x fail rate. VRT: within four standard errors of one query's 52 trials.
    assert (192 * (1 - rates) - column["prop2diff"]).between(-1.2, 2).all()
    assert (np.abs(52 * rates - column["vrt"]) < 4 * np.sqrt(52 * rates * (1 - rates)) + 0.5).all()


def test_lengths_meet_both_published_means() -> None:
    rates = calibrated_pass_rates()
    lengths, fail = calibrated_lengths(rates), 1 - rates
    assert lengths.mean() == pytest.approx(273.8)
    assert (lengths * fail).sum() / fail.sum() == pytest.approx(480.3)
    assert lengths.min() > 100


def test_cost_by_hand() -> None:
    """Rates 1, 0 and 1/2: 10, the cap, and on average 20 trials for a quota of 10."""
    rates = np.tile([1.0, 0.0, 0.5], (400, 1))
    cost = estimate_cost(
        rates, np.array([100.0, 200.0, 300.0]), k=10, beta=0, cap=1000, tokens_per_second=100.0, seed=1
    )
    assert cost.trials.median == pytest.approx(10 + 1000 + 20, abs=1.5)
    assert cost.trials.low < 1030 < cost.trials.high
    assert cost.achieving_ratio == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert cost.hours.median == pytest.approx(cost.tokens.median / 100 / 3600)
    assert cost.tokens.median == pytest.approx(1000 + 200_000 + 6000, abs=450)
    shallow = estimate_cost(
        rates, np.ones(3), k=10, beta=1, cap=1000, tokens_per_second=1.0, seed=1, difficulty_trials=64
    )
    assert shallow.trials.median == 64 + 1000 + 64  # quotas 1, 10 and 5 are met among the difficulty trials


def test_rates_drawn_from_beliefs() -> None:
    drawn = draw_pass_rates([ZeroInflatedBeta(0.25, 2, 2), ZeroInflatedBeta(0, 30, 10)], draws=4000, seed=2)
    assert drawn.shape == (4000, 2)
    assert (drawn[:, 0] == 0).mean() == pytest.approx(0.25, abs=0.03)
    assert drawn[:, 1].mean() == pytest.approx(0.75, abs=0.01)


def test_the_lab_by_hand() -> None:
    """One query always right, one never: quota 2, cap 40."""
    teacher = replay_teacher({"always": Counts(8, 8), "never": Counts(0, 8)}, trials=40, seed=1)
    settings = StrategySettings(("uniform",), 2, 1, 2, 1, 40)
    table = replay_table(teacher, settings, {"cap": None, "rule": StoppingRule(0.9, 20)})
    cap, rule = table.loc["cap"], table.loc["rule"]
    assert (cap["trials"], cap["achieving_ratio"]) == (42, 0.5)
    assert cap["never_solved_share"] == pytest.approx(40 / 42)
    assert cap["against_fixed"] == pytest.approx(42 / 4)  # two trials each reach the same achieving ratio
    assert cap["against_clairvoyant"] == pytest.approx(42 / 2)
    assert rule["trials"] == 2 + 20
    with pytest.raises(ValueError, match="one of uniform, prop2diff"):
        replay_table(teacher, StrategySettings(("vrt",), 2, 2, 2, 1, 40), {})


def test_samples_give_counts() -> None:
    samples = pd.DataFrame({"query_id": ["a", "a", "b"], "verdict": ["correct", "wrong", "no_answer"]})
    assert counts_of(samples) == {"a": (1, 2), "b": (0, 1)}


def test_recorded_pass_rates_show_where_the_cap_spends(test_data: Path) -> None:
    """Uniform, quota 4, cap 2,048 on 1,209 real problems: 64 % of the trials go to the 8 % never solved."""
    recorded = read_pass_rates(test_data / "replay" / "pass-rates-1209.jsonl")
    counts = {rate.name: rate.counts for rate in recorded if rate.counts}
    never = sum(correct == 0 for correct, _ in counts.values())
    assert (len(counts), never) == (1209, 99)
    settings = StrategySettings(("uniform",), 16, 1, 4, 1, 2048)
    rules = {"cap": None, "rule": StoppingRule(0.02, 1024)}
    table = replay_table(replay_teacher(counts, trials=2048, seed=5), settings, rules)
    cap, rule = table.loc["cap"], table.loc["rule"]
    assert cap["never_solved_share"] == pytest.approx(0.64, abs=0.02)
    assert cap["trials"] / len(counts) == pytest.approx(262, rel=0.03)
    assert rule["trials"] < 0.8 * cap["trials"]
    assert rule["achieving_ratio"] > cap["achieving_ratio"] - 0.005
    assert rule["hard_correct"] > 0.95 * cap["hard_correct"]


def test_a_replayed_pool_that_stopped_at_quotas_is_not_easier_than_its_teacher() -> None:
    """True pass rate 0.20, quota 4: the plain share reads 0.25, the mean of the estimates is 0.20."""
    truth = teacher_of([0.2] * 4000, trials=400)
    outcomes, plain = [], []
    for name, (correct, trials) in cut_by_policy(truth, ConstantPolicy(400, trials=2, quota=4)).items():
        first = sum(truth.verdicts[name][:2])
        outcomes.append(QueryOutcome(name, "uniform", 1, 2, first, 1 - first / 2, 4, 400, trials, correct, "met"))
        plain.append(correct / trials)
    replayed = replay_teacher(outcomes, trials=8, seed=1).pass_rates
    assert np.mean(plain) == pytest.approx(0.25, abs=0.01)
    assert np.mean(list(replayed.values())) == pytest.approx(0.20, abs=0.004)


def test_pass_rates_of_outcomes_by_hand() -> None:
    def outcome(query_id: str, difficulty: int, quota: int | None, correct: int, trials: int) -> QueryOutcome:
        return QueryOutcome(query_id, "uniform", 1, 8, difficulty, 0.5, quota, 40, trials, correct, "met")

    outcomes = [
        outcome("quota", 2, 4, 4, 16), outcome("cap", 1, 4, 3, 40), outcome("early", 6, 4, 4, 5),
        outcome("one", 0, 1, 1, 20), outcome("fixed", 3, None, 5, 10), outcome("both", 1, 4, 4, 10),
        outcome("both", 1, None, 6, 30),
    ]  # fmt: skip
    assert replay_teacher(outcomes, trials=1, seed=1).pass_rates == {
        "quota": 3 / 15, "cap": 3 / 40, "early": 6 / 8, "one": 0.0, "fixed": 0.5, "both": 0.2,
    }  # fmt: skip

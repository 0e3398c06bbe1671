"""Bias tables against values worked out by hand and against simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartlib import analysis
from dartlib.analysis import (
    accuracy_by_level,
    accuracy_table,
    achieving_table,
    bias_summary,
    bias_table,
    comparison_table,
    cost_table,
    gini,
    pass_at_k_table,
    pass_rates,
    rank_table,
    verdict_table,
    vrt_prediction_table,
)
from dartlib.statistics import wilson_interval


def outcome(query_id, strategy, level, n_correct, *, quota=None, n_trials=4, status="drawn", fail_rate=0.5):
    return {
        "query_id": query_id,
        "strategy": strategy,
        "level": level,
        "n_difficulty": 4,
        "n_difficulty_correct": round(4 * (1 - fail_rate)),
        "fail_rate": fail_rate,
        "quota": quota,
        "cap": 8,
        "n_trials": n_trials,
        "n_correct": n_correct,
        "status": status,
    }


def trials(query_id, verdicts, level=1):
    names = {"c": "correct", "w": "wrong", "n": "no_answer"}
    return [
        {"query_id": query_id, "trial": number, "level": level, "verdict": names[letter]}
        for number, letter in enumerate(verdicts)
    ]


OUTCOMES = pd.DataFrame(
    [
        outcome("a", "uniform", 1, 2, quota=2, n_trials=2, status="met", fail_rate=0.0),
        outcome("b", "uniform", 2, 2, quota=2, n_trials=6, status="met", fail_rate=0.75),
        outcome("c", "uniform", 2, 0, quota=2, n_trials=8, status="cap", fail_rate=1.0),
        outcome("a", "vrt", 1, 4, fail_rate=0.0),
        outcome("b", "vrt", 2, 1, fail_rate=0.75),
        outcome("c", "vrt", 2, 0, fail_rate=1.0),
    ]
)
SAMPLES = pd.DataFrame(trials("a", "cccc") + trials("b", "wcwwwc", 2) + trials("c", "wwwwwwwn", 2))


def test_bias_table_by_hand():
    table = bias_table(OUTCOMES).set_index(["strategy", "group"])
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["vrt", "uniform"]  # the order of the method
    hard = table.loc[("uniform", "2")]
    assert (hard["queries"], hard["responses"]) == (2, 2)
    assert (hard["mean"], hard["quota"], hard["shortfall"]) == (1.0, 2.0, 1.0)
    assert (hard["share"], hard["query_share"], hard["coverage"]) == (0.5, pytest.approx(2 / 3), 0.5)
    assert (hard["coverage_low"], hard["coverage_high"]) == wilson_interval(1, 2)
    assert (hard["mean_low"], hard["mean_high"]) == (
        0.0,
        2.0,
    )  # of 0 and 2: resampling gives the extremes
    assert table.loc[("vrt", "1"), "share"] == pytest.approx(4 / 5)
    assert np.isnan(table.loc[("vrt", "1"), "quota"])
    assert table.groupby("strategy")["share"].sum().tolist() == pytest.approx([1.0, 1.0])


def test_bias_summary_by_hand():
    summary = bias_summary(OUTCOMES).set_index("strategy")
    assert summary.loc["uniform", "achieving_ratio"] == pytest.approx(2 / 3)
    assert np.isnan(summary.loc["vrt", "achieving_ratio"])
    assert summary.loc["vrt", "coverage"] == pytest.approx(2 / 3)
    assert summary.loc["vrt", ["hardest_share", "hardest_query_share"]].tolist() == pytest.approx([1 / 5, 2 / 3])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_gini_is_the_mean_absolute_difference(counts):
    mean = np.mean(counts)
    pairs = np.abs(np.subtract.outer(counts, counts)).mean()
    assert gini(counts) == pytest.approx(pairs / (2 * mean) if mean else 0.0, abs=1e-12)


def test_without_levels_groups_are_fail_rate_bins():
    frame = OUTCOMES.assign(level=None)
    table = bias_table(frame)
    uniform = table[table["strategy"] == "uniform"].set_index("group")
    assert list(uniform.index) == ["0–0.2", "0.6–0.8", "0.8–1"]
    assert analysis.tables.difficulty_groups(frame)[1] == "fail rate"
    edges = pd.DataFrame({"fail_rate": [1 - 0.8, 1 - 0.4, 0.8, 1.0]})
    assert list(analysis.tables.difficulty_groups(edges)[0]) == ["0.2–0.4", "0.6–0.8", "0.8–1", "0.8–1"]


def test_rows_without_a_level_form_their_own_group():
    frame = OUTCOMES.assign(level=[1, 2, None, 1, 2, None])
    assert set(bias_table(frame)["group"]) == {"1", "2", "none"}


def test_rank_counts_vrt_on_trials_that_did_not_make_the_rank():
    outcomes = pd.DataFrame([outcome("a", "vrt", 1, 5, n_trials=8), outcome("b", "vrt", 1, 1, n_trials=8, fail_rate=1)])
    samples = pd.DataFrame(trials("a", "cwcwccwc") + trials("b", "wwwwwwwc"))
    table = rank_table(outcomes, samples)
    assert table["query_id"].tolist() == ["b", "a"]
    assert table["responses"].tolist() == [2.0, 6.0]  # 1 and 3 of the last four trials, scaled to eight
    assert table["held_out"].all()
    plain = rank_table(OUTCOMES, SAMPLES)  # VRT has no other trials here
    assert not plain["held_out"].any()
    assert plain[plain["strategy"] == "vrt"]["responses"].tolist() == [0.0, 1.0, 4.0]


def test_pass_rates_use_a_fixed_number_of_trials():
    rates = pass_rates(SAMPLES, 4).set_index("query_id")
    assert rates["pass_rate"].to_dict() == {"a": 1.0, "b": 0.25, "c": 0.0}
    assert list(pass_rates(SAMPLES, 6)["query_id"]) == ["b", "c"]  # a has only four trials


def test_pass_at_k_by_hand():
    table = pass_at_k_table(pass_rates(SAMPLES, 4)).set_index(["group", "k"])["pass_at_k"]
    assert table[("2", 1)] == pytest.approx(1 / 8)  # b: 1 of 4, c: 0 of 4
    assert table[("2", 2)] == pytest.approx((1 - 3 / 6) / 2)
    assert table[("all", 4)] == pytest.approx(2 / 3)


def test_prediction_agrees_with_simulation_where_one_rate_does_not():
    generator = np.random.default_rng(3)
    rows = []
    for number in range(1500):
        p = generator.beta(0.3, 1.2)
        rows += trials(f"q{number}", ["c" if hit else "w" for hit in generator.random(32) < p])
    row = vrt_prediction_table(pd.DataFrame(rows), 32).iloc[0]
    assert row["n"] == 16
    assert row["predicted"] == pytest.approx(row["responses"], rel=0.05)
    assert row["coverage_spread"] == pytest.approx(row["coverage"], abs=0.03)
    assert row["coverage_one_rate"] > row["coverage"] + 0.3


def test_cost_counts_the_difficulty_trials():
    cost = cost_table(OUTCOMES).set_index(["strategy", "group"])["trials"]
    assert cost[("uniform", "1")] == 4  # met after two trials, but four measured the difficulty
    assert cost[("uniform", "2")] == 6 + 8
    assert cost[("vrt", "2")] == 8


def test_achieving_ratio_by_cap_by_hand():
    table = achieving_table(OUTCOMES, SAMPLES).set_index("cap")
    assert list(table.index) == [4, 8]
    assert table["achieving_ratio"].tolist() == pytest.approx([1 / 3, 2 / 3])  # a after 2 trials, b after 6
    assert table["trials"].tolist() == [12, 4 + 6 + 8]
    stuck = OUTCOMES.assign(status=lambda frame: frame["status"].replace("cap", "stuck"))
    stuck.loc[stuck["query_id"] == "c", ["n_trials", "quota"]] = [3, None]
    assert achieving_table(stuck, SAMPLES).set_index("cap").loc[8, ["trials", "achieving_ratio"]].tolist() == [
        13,
        pytest.approx(2 / 3),
    ]


def test_a_query_that_was_given_up_stays_so_at_every_cap():
    """c was given up after 5 trials; another strategy drew it on and found two correct ones at trials 6 and 7."""
    given_up = OUTCOMES.assign(status=lambda frame: frame["status"].replace("cap", "given up"))
    given_up.loc[(given_up["query_id"] == "c") & (given_up["strategy"] == "uniform"), ["n_trials", "cap"]] = 5
    samples = pd.DataFrame(trials("a", "cccc") + trials("b", "wcwwwc", 2) + trials("c", "wwwwwwcc", 2))
    table = achieving_table(given_up, samples).set_index("cap")
    assert table["achieving_ratio"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert table["trials"].tolist() == [12, 4 + 6 + 5]


def test_a_fail_rate_from_elsewhere_costs_no_trials_here():
    known = OUTCOMES.assign(n_difficulty=lambda frame: frame["n_difficulty"].where(frame["query_id"] != "a", 0))
    assert achieving_table(known, SAMPLES).set_index("cap").loc[8, "trials"] == 2 + 6 + 8
    assert cost_table(known).set_index(["strategy", "group"])["trials"][("uniform", "1")] == 2


def test_all_five_verdicts_are_counted():
    table = verdict_table({"synthesis": SAMPLES}, {"synthesis": 2}).set_index("verdict")
    assert table["count"].to_dict() == {"correct": 6, "wrong": 11, "no_answer": 1, "timeout": 0, "error": 2}
    assert table["share"].sum() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="maybe"):
        verdict_table({"x": pd.DataFrame({"verdict": ["maybe"]})})


def items():
    rows = []
    for model, verdicts in {"base": "wwcw", "vrt-seed1": "cwcw", "prop2diff-seed1": "ccwc"}.items():
        for number, row in enumerate(trials(model, verdicts)):
            rows.append(row | {"model": model, "query_id": f"q{number}", "source": "s", "level": 1 + number // 2})
    return pd.DataFrame(rows)


def test_accuracy_table_counts_and_gives_wilson_intervals() -> None:
    items = pd.DataFrame(
        {
            "source": ["a"] * 4 + ["b"] * 2,
            "query_id": list("pqrstu"),
            "level": [1, 1, 2, 2, 1, 1],
            "verdict": ["correct", "wrong"] * 2 + ["no_answer"] * 2,
        }
    )
    table = accuracy_table(items).set_index("source")
    assert table.loc["a", ["n", "correct", "accuracy"]].tolist() == [4, 2, 0.5]
    assert table.loc["a", "accuracy_low"] == pytest.approx(0.15, abs=0.005)  # Wilson 2/4: 0.150 to 0.850
    assert table.loc["a", "accuracy_high"] == pytest.approx(0.85, abs=0.005)
    assert table.loc["b", "accuracy"] == 0 and table.loc["b", "accuracy_low"] == 0
    assert accuracy_table(items, by=("source", "level")).n.tolist() == [2, 2, 2]


def test_several_samples_of_a_question_are_one_item():
    verdicts = ["correct", "wrong", "correct", "correct", "wrong", "wrong", "correct", "wrong"]
    items = pd.DataFrame({"source": "a", "query_id": list("ppqqrrss"), "trial": [0, 1] * 4, "verdict": verdicts})
    row = accuracy_table(items).iloc[0]
    assert (row["n"], row["correct"], row["accuracy"]) == (4, 4, 0.5)
    assert row["accuracy_low"] < wilson_interval(4, 8)[0]  # 8 samples are not 8 questions
    pair = pd.concat([items.assign(model="x"), items.assign(model="y", verdict="correct")])
    found = comparison_table(pair, [("x", "y")], "a").iloc[0]
    assert (found["items"], found["difference"]) == (4, 0.5)


def test_accuracy_by_hand():
    table = accuracy_by_level(items()).set_index(["model", "group"])
    assert table["accuracy"].to_dict()[("vrt-seed1", "1")] == 0.5
    assert table.loc[("prop2diff-seed1", "all"), ["n", "accuracy"]].tolist() == [4, 0.75]
    assert list(dict.fromkeys(accuracy_by_level(items())["model"])) == ["base", "vrt-seed1", "prop2diff-seed1"]
    low, high = wilson_interval(3, 4)
    assert table.loc[("prop2diff-seed1", "all"), ["accuracy_low", "accuracy_high"]].tolist() == [low, high]


def test_comparison_is_paired_by_item():
    row = comparison_table(items(), [("vrt-seed1", "prop2diff-seed1")], "s").iloc[0]
    assert (row["items"], row["difference"], row["p_value"]) == (4, 0.25, 1.0)  # two gained, one lost
    with pytest.raises(ValueError, match="same items"):
        comparison_table(items().iloc[:-1], [("vrt-seed1", "prop2diff-seed1")], "s")

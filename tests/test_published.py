"""The published numbers: complete, internally consistent, each with source and mark."""

from __future__ import annotations

import pytest

from dartlib.published import MARKS, load_published, published_names

ROWS = {
    "average_accuracy": 10,
    "calibrated_pass_rates": 14973,
    "coverage": 19,
    "dataset_comparison": 9,
    "main_results": 219,
    "metamathqa_by_level": 36,
    "one_response_coverage": 86,
    "pass_at_k": 52,
    "responses_by_rank": 63,
    "responses_per_query": 63,
    "scaling": 98,
    "sizes": 29,
    "synthesis_cost": 24,
    "training_time": 4,
}


def test_the_list_of_tables():
    assert published_names() == sorted(ROWS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_value_has_source_and_mark(name):
    table = load_published(name)
    assert len(table) == ROWS[name]
    assert table["value"].notna().all()
    assert set(table["mark"]) <= set(MARKS)
    assert (table["source"].str.len() > 5).all()
    assert not table.drop(columns="value").duplicated().any()


def test_unknown_name_gets_the_closest():
    with pytest.raises(ValueError, match="'main_results'"):
        load_published("main_result")
    with pytest.raises(ValueError, match="valid: average_accuracy"):
        load_published("zzz")


def test_printed_averages_are_the_means_of_the_six_scores():
    wide = load_published("main_results").pivot(index="model", columns="benchmark", values="value")
    complete = wide.dropna()
    assert len(complete) == 29
    means = complete.drop(columns="AVG").mean(axis=1)
    # printed with one decimal from one-decimal scores
    assert (means - complete["AVG"]).abs().max() <= 0.0501


def test_figure_1_left_repeats_table_2():
    main = load_published("main_results")
    main = main[main["benchmark"] == "AVG"].set_index("model")["value"]
    names = {"vrt": "{}-VRT", "uniform": "DART {} Uniform", "prop2diff": "DART {} Prop2Diff"}
    for row in load_published("average_accuracy").itertuples():
        assert main[names.get(row.data, "{}-" + row.data).format(row.base_model)] == row.value


def test_metamathqa_levels_add_up():
    wide = load_published("metamathqa_by_level").pivot(index="level", columns="quantity", values="value")
    levels = wide.drop(index="all")
    for column in ["queries", "covered_queries", "responses"]:
        assert levels[column].sum() == wide.loc["all", column]
    assert levels["response_share"].sum() == pytest.approx(100.0)
    assert (100 * wide["covered_queries"] / wide["queries"] - wide["coverage"]).abs().max() < 0.06
    assert (100 * wide["responses"] / 75_000 - wide["response_share"]).abs().max() < 0.06
    assert (wide["responses"] / wide["queries"] - wide["responses_per_query"]).abs().max() < 0.06


def test_sizes_add_up():
    sizes = load_published("sizes").set_index(["data", "quantity"])["value"]
    for name in ["DART-Math-Uniform", "DART-Math-Hard"]:
        parts = sizes[(f"{name} MATH part", "rows")] + sizes[(f"{name} GSM8K part", "rows")]
        assert parts == sizes[(name, "rows")]
    assert sum(sizes[(f"MATH train level {level}", "queries")] for level in range(1, 6)) == 7500
    assert sizes[("MATH + GSM8K train", "queries")] == 7500 + 7473
    assert sizes[("VRT", "trials")] == 14_973 * 52


def test_coverage_and_tokens_follow_from_the_other_tables():
    coverage, sizes = load_published("coverage"), load_published("sizes").set_index(["data", "quantity"])["value"]
    vrt = coverage[coverage["quantity"] == "uncovered_queries"].sort_values("trials")
    assert vrt["value"].is_monotonic_decreasing
    at_52 = 100 * (1 - vrt.set_index("trials")["value"].loc[[32, 64]] / 7500)  # 32 and 64 trials enclose 52
    assert at_52[32] - 0.01 <= 86 <= at_52[64]
    levels = coverage[(coverage["data"] == "DART-Math pool") & (coverage["quantity"] == "coverage")]
    queries = [sizes[(f"MATH train level {n}", "queries")] for n in range(1, 6)]
    covered = (levels["value"] / 100 * queries).sum()
    (counted,) = coverage[coverage["quantity"] == "covered_queries"]["value"]
    assert covered == pytest.approx(counted, abs=8)
    for name in ["DART-Math-Hard", "DART-Math-Uniform"]:
        for part in ["query", "response"]:
            total = sizes[(name, f"mean {part} tokens")] * sizes[(name, "rows")]
            assert total == pytest.approx(sizes[(name, f"{part} tokens")], rel=0.001)


def test_responses_per_query_times_queries_gives_the_rows():
    queries = {"MATH level 1": 565, "MATH level 2": 1349, "MATH level 3": 1592, "MATH level 4": 1690}
    queries |= {"MATH level 5": 2304, "GSM8K": 7473}
    wide = load_published("responses_per_query").pivot(index="data", columns="quantity", values="value")
    for name in wide.index:
        total = sum(wide.loc[name, column] * count for column, count in queries.items())
        assert total == pytest.approx(wide.loc[name, "rows"], rel=0.006)


def test_cost_and_pass_at_k_rise():
    cost = load_published("synthesis_cost").sort_values("cap")
    assert cost.groupby(["strategy", "quantity"])["value"].apply(lambda v: v.is_monotonic_increasing).all()
    curves = load_published("pass_at_k").sort_values("k")
    assert curves.groupby(["model", "temperature"])["value"].apply(lambda v: v.is_monotonic_increasing).all()
    assert curves["value"].between(0, 100).all()


def test_one_response_coverage_repeats_figure_3():
    scaling, coverage = load_published("scaling"), load_published("one_response_coverage")
    columns = ["training_samples", "value"]
    for name in ["vrt", "prop2diff"]:
        left = scaling[(scaling["base_model"] == "Mistral-7B") & (scaling["strategy"] == name)][columns].to_numpy()
        right = coverage[(coverage["benchmark"] == "MATH") & (coverage["series"] == name)][columns].to_numpy()
        assert (left == right).all() and len(left) == 11

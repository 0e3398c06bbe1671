"""VRT from pass rates alone: rates that are read, predictions worked out by hand, and figures of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dartlib import analysis


def outcomes(levels: list[float], counts: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"query_id": [str(i) for i in range(len(counts))], "level": levels, "n_correct": counts})


def rates(levels: list[float], shares: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"level": levels, "pass_rate": shares}, dtype=float)


def test_prediction_by_hand() -> None:
    """16 responses; a trial of each query gives 2 * 0.75 + 2 * 0.25 = 2 of them: n is 8."""
    table = analysis.rate_prediction_table(outcomes([1, 1, 5, 5, 3], [8, 6, 2, 0, 9]), rates([1, 5, 5], [0.75, 0.5, 0]))
    easy, hard = table.to_dict("records")
    assert [(row["group"], row["queries"], row["n"]) for row in (easy, hard)] == [("1", 2, 8.0), ("5", 2, 8.0)]
    assert (easy["predicted"], hard["predicted"]) == (6.0, 2.0)
    assert (easy["responses"], hard["responses"]) == (7.0, 1.0)
    assert (easy["coverage"], hard["coverage"]) == (1.0, 0.5)
    assert hard["coverage_spread"] == pytest.approx((1 - 0.5**8) / 2)
    assert hard["coverage_one_rate"] == pytest.approx(1 - 0.75**8)


def test_without_levels_all_queries_are_one_group() -> None:
    (row,) = analysis.rate_prediction_table(outcomes([np.nan] * 2, [3, 1]), rates([1, 5], [1, 0])).to_dict("records")
    assert (row["group"], row["n"], row["predicted"], row["coverage_spread"]) == ("all", 4.0, 2.0, 0.5)
    with pytest.raises(analysis.AnalysisError, match="no level in common"):
        analysis.rate_prediction_table(outcomes([2.0], [1]), rates([1], [1]))


def test_a_set_drawn_from_the_rates_agrees_with_them() -> None:
    generator = np.random.default_rng(5)
    p, levels = generator.beta(0.4, 0.8, 4000), np.repeat([1.0, 5.0], 2000)
    p[2000:] **= 2
    table = analysis.rate_prediction_table(outcomes(list(levels), list(generator.binomial(15, p))), rates(levels, p))
    assert table["n"].iloc[0] == pytest.approx(15, abs=0.3)
    assert table["predicted"].to_numpy() == pytest.approx(table["responses"].to_numpy(), rel=0.03)
    assert table["coverage_spread"].to_numpy() == pytest.approx(table["coverage"].to_numpy(), abs=0.02)
    assert (table["coverage_one_rate"] > table["coverage"] + 0.1).all()


def test_figures_name_set_numbers_and_groups() -> None:
    levels = [1.0, 1.0, 5.0, 5.0]
    figure = analysis.rate_prediction_figure(outcomes(levels, [8, 6, 2, 0]), rates(levels, [1, 0.5, 0.5, 0]), "a $set$")
    figure.draw_without_rendering()
    assert figure.get_suptitle() == r"a \$set\$ (4 queries) against VRT at the pass rates of 4"
    assert [axis.get_xlabel() for axis in figure.axes] == ["level (queries)"] * 2
    one = analysis.rate_prediction_figure(outcomes([np.nan], [8]), rates([np.nan], [1]), "vrt")
    assert [axis.get_xlabel() for axis in one.axes] == ["queries"] * 2

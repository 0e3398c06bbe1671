"""VRT from pass rates alone: rates that are read, predictions worked out by hand, and figures of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib import analysis
from dartlib.records import RecordError


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


def test_published_query_info_is_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(tmp_path))
    info = [("a", 1, 10, 4), ("b", 5, 10, 0), ("c", 5, None, None), ("d", 2, 0, 0)]
    names = ("query_id", "level", "tot_n_samples", "tot_n_corrects")
    rows = [dict(zip(names, row, strict=True)) | {"domain": "Algebra"} for row in info]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "dart-math-pool-math-query-info.parquet")
    said: list[str] = []
    read = analysis.read_rates("dart-math-pool-math-query-info", log=said.append)
    assert read.to_dict("list") == {"level": [1.0, 5.0], "pass_rate": [0.4, 0.0]}
    assert len(said) == 1 and said[0].endswith("2 of 4 queries left out: no trials")


def test_own_files_of_rates_and_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "rates.jsonl"

    def write(*rows: dict[str, object]) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    read = analysis.read_rates(write({"pass_rate": 0.25, "level": "Level 3"}, {"pass_rate": 1, "level": "Level ?"}))
    assert read["pass_rate"].tolist() == [0.25, 1.0] and read["level"].tolist()[0] == 3 and read["level"].isna()[1]
    with pytest.raises(
        RecordError,
        match=r"line 1: no column pass_rate or correct .* for pass_rate \(found: query, trials\): rename one$",
    ):
        analysis.read_rates(write({"query": "a", "trials": 3}))
    with pytest.raises(analysis.AnalysisError, match=r"line 2: a pass rate of 1.5 is not between 0 and 1"):
        analysis.read_rates(write({"trials": 2, "correct": 1}, {"trials": 2, "correct": 3}))
    with pytest.raises(analysis.AnalysisError, match=r"line 1: pass_rate is 'high', expected a number"):
        analysis.read_rates(write({"pass_rate": "high"}))
    with pytest.raises(analysis.AnalysisError, match="no query with a pass rate"):
        analysis.read_rates(write({"trials": 0, "correct": 0}), log=lambda line: None)
    with pytest.raises(analysis.AnalysisError, match=r"and not a known data set \(dart-math-pool-math-query"):
        analysis.read_rates(tmp_path / "absent.jsonl")


def test_figures_name_set_numbers_and_groups() -> None:
    levels = [1.0, 1.0, 5.0, 5.0]
    figure = analysis.rate_prediction_figure(outcomes(levels, [8, 6, 2, 0]), rates(levels, [1, 0.5, 0.5, 0]), "a $set$")
    figure.draw_without_rendering()
    assert figure.get_suptitle() == r"a \$set\$ (4 queries) against VRT at the pass rates of 4"
    assert [axis.get_xlabel() for axis in figure.axes] == ["level (queries)"] * 2
    one = analysis.rate_prediction_figure(outcomes([np.nan], [8]), rates([np.nan], [1]), "vrt")
    assert [axis.get_xlabel() for axis in one.axes] == ["queries"] * 2

"""Composition of data sets, Gini bands, tokens from a sample, pools of models; figures of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib import analysis
from dartlib.published import load_published
from dartlib.records import RecordError, make_queries
from dartlib.statistics import bootstrap_interval


def outcomes(name: str = "set") -> pd.DataFrame:
    """Level 1: three queries with 4, 2 and 0 responses; level 5: one with 2 responses, one of them a repeat."""
    return pd.DataFrame(
        {
            "query_id": ["a", "b", "c", "d"], "query": ["a", "b", "c", "d"], "strategy": name, "level": [1, 1, 1, 5],
            "n_correct": [4, 2, 0, 2], "characters": [40, 40, 0, 100], "tokens": [8.0, 8.0, np.nan, 30.0],
            "distinct": [4, 2, 0, 1], "fail_rate": np.nan, "quota": np.nan, "status": "drawn",
        }
    )  # fmt: skip


def test_composition_by_hand() -> None:
    easy, hard = analysis.composition_table(outcomes()).to_dict("records")
    assert (easy["queries"], easy["responses"], easy["share"], easy["query_share"]) == (3, 6, 0.75, 0.75)
    assert (easy["characters"], hard["characters"]) == (80 / 6, 50.0)
    assert easy["character_share"] == pytest.approx(80 / 180)
    assert (easy["tokens"], hard["tokens"]) == (16 / 6, 15.0)
    assert (easy["repeats"], hard["repeats"]) == (0.0, 0.5)


def test_bands_are_those_of_resampling_queries() -> None:
    """Against the plain bootstrap, row by row, of the same data."""
    generator = np.random.default_rng(1)
    frame = pd.DataFrame({"level": generator.integers(1, 4, 400), "n_correct": generator.poisson(3, 400)})
    frame = frame.assign(query_id=frame.index.astype(str), strategy="s", characters=10, tokens=np.nan, distinct=1)
    table = analysis.composition_table(frame).set_index("group")
    rows = np.stack([frame["level"], frame["n_correct"]], axis=1)
    low, high = bootstrap_interval(rows, lambda part: part[part[:, 0] == 2, 1].sum() / part[:, 1].sum(), seed=5)
    assert table.loc["2", "share_low"] == pytest.approx(low, abs=0.006)
    assert table.loc["2", "share_high"] == pytest.approx(high, abs=0.006)
    low, high = bootstrap_interval(frame["n_correct"], analysis.gini, seed=5)
    assert analysis.gini_band(frame["n_correct"]) == pytest.approx((low, high), abs=0.006)


def test_token_sample_finds_the_exact_ratio(tmp_path: Path) -> None:
    """One token per four characters on level 1, per two on level 5: the sample must find both, and the shares."""
    rows = [{"query": f"easy {i}", "response": "word" * (1 + i % 5)} for i in range(300)]
    rows += [{"query": f"hard {i}", "response": "xy" * (10 + i % 7)} for i in range(300)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    levels = [
        {"query": row["query"], "reference_answer": "1", "level": 1 if "easy" in row["query"] else 5} for row in rows
    ]
    found = analysis.read_responses(tmp_path / "set.parquet", asked=make_queries(levels, source="s", version="1"))

    def count(text: str) -> int:
        return text.count("word") + text.count("xy")

    whole = analysis.token_table(found, count, rows=100, seed=3)
    assert whole.equals(analysis.token_table(found, count, rows=100, seed=3))
    table = whole.set_index("group")
    assert table["sampled"].sum() == 100
    assert table.loc["1", "tokens"] == pytest.approx(np.mean([1 + i % 5 for i in range(300)]))
    assert table.loc["5", "tokens"] == pytest.approx(np.mean([10 + i % 7 for i in range(300)]))
    assert table["token_share"].sum() == pytest.approx(1)
    other = found.sampled_texts(100, seed=4)["query_id"].tolist()
    assert other != found.sampled_texts(100, seed=3)["query_id"].tolist()


def pool_files(folder: Path) -> list[Path]:
    right = {"strong": (1, 1, 0), "weak": (1, 0, 0)}
    files = []
    for model, solved in right.items():
        rows = [
            {
                "query": f"Q{n}?",
                "reference_answer": str(n),
                "response": f'{{"answer": "{n if hit else 99}"}}',
                "model": model,
            }
            for n, hit in enumerate(solved)
        ]
        files.append(folder / f"{model}.jsonl")
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def test_a_pool_of_models_is_graded_once(tmp_path: Path) -> None:
    files, target = pool_files(tmp_path), tmp_path / "pool.parquet"
    queries = analysis.grade_model_pool(files, target, level=5)
    solved = analysis.solver_table(target)
    assert list(solved.columns) == ["strong", "weak"]
    assert solved.sum(axis=1).to_dict() == {"Q2?": 0, "Q1?": 1, "Q0?": 2}
    before = target.stat().st_mtime_ns
    assert analysis.grade_model_pool(files, target, level=5) == queries and target.stat().st_mtime_ns == before
    found = analysis.read_responses(target, asked=queries, columns={"correct": "verdict"})
    assert found.outcomes["n_correct"].tolist() == [2, 1, 0] and found.counts["models"] == 2
    files[0].write_text(files[0].read_text().replace('\\"0\\"', '\\"5\\"'))
    analysis.grade_model_pool(files, target, level=5)
    assert analysis.solver_table(target).sum(axis=1).to_dict()["Q0?"] == 1, "other files keep no old verdicts"
    files[0].write_text(files[0].read_text().replace('"reference_answer": "2"', '"reference_answer": "3"'))
    with pytest.raises(RecordError, match="another reference_answer than elsewhere"):
        analysis.grade_model_pool(files, target)
    files[0].write_text('{"query": "Q0?", "response": "r", "model": "m"}\n')
    with pytest.raises(RecordError, match=r"strong.jsonl, line 1: no column reference_answer or"):
        analysis.grade_model_pool(files, target)
    frame = pd.read_parquet(target)
    frame.iloc[:-1].to_parquet(tmp_path / "part.parquet")
    with pytest.raises(analysis.AnalysisError, match="1 responses are missing"):
        analysis.solver_table(tmp_path / "part.parquet")


def test_figures_draw_sets_side_by_side_with_published_panels(tmp_path: Path) -> None:
    both = pd.concat([outcomes(), outcomes("other <b>$x$")])
    table = analysis.composition_table(both)
    figure = analysis.response_share_figure(table, "level", load_published("metamathqa_by_level"))
    printed = {text.get_text() for text in figure.axes[1].texts}
    assert printed == {"15.6", "29.2", "26.0", "18.7", "10.5"}
    for drawn in (figure, analysis.lengths_figure(table, "level")):
        drawn.draw_without_rendering()
    analysis.grade_model_pool(pool_files(tmp_path), tmp_path / "pool.parquet")
    solvers = analysis.solvers_figure(analysis.solver_table(tmp_path / "pool.parquet"))
    assert [text.get_text() for text in solvers.axes[1].texts] == ["1", "1", "1"]
    ranks = analysis.responses_by_rank_figure(both, None, load_published("responses_by_rank"))
    assert len(ranks.axes) == 3 and len(ranks.axes[-1].lines) == 3  # a panel per set, and the published one


def test_what_a_figure_shows_is_said_in_computed_words() -> None:
    """Uniform: quotas of 4; level 1 is met, level 2 lacks 1 of 4, level 3 has none of its 8."""
    uniform = {"strategy": "uniform", "level": [1, 2, 3, 3], "n_correct": [4, 3, 0, 0], "quota": 4, "status": "cap"}
    vrt = {"strategy": "vrt", "level": [1, 2, 3, 3], "n_correct": [2, 7, 1, 0], "quota": np.nan, "status": "drawn"}
    frame = pd.concat([pd.DataFrame(part).assign(query_id=list("abcd")) for part in (vrt, uniform)])
    assert analysis.bias_in_words(frame).splitlines() == [
        "vrt: 2 responses per query at level 1, 0.5 at 3 (goes up and down)",
        "uniform: 4 responses per query at level 1, 0 at 3 (falls); 9 of 16 wanted are missing, 89% of them at level 3",
    ]
    whole = pd.DataFrame(vrt).assign(query_id=list("abcd"), level=np.nan, fail_rate=np.nan)
    assert analysis.bias_in_words(whole) == "vrt: 2.5 responses per query"


def test_queries_of_equal_difficulty_share_their_rank() -> None:
    frame = outcomes().assign(fail_rate=[0.5, 1.0, 0.5, 0.25])
    table = analysis.rank_table(frame).set_index("query_id")
    assert table["tied_rank"].to_dict() == {"a": 2.5, "b": 1.0, "c": 2.5, "d": 4.0}

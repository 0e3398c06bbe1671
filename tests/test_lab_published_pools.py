"""Cutting the published pools: files made here with the published columns, counts worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dartlib.lab import cut_published_pool
from dartlib.records import RecordError

# query -> (level, trials, correct, rows in the pool)
MATH = {"easy": (1, 100, 90, 90), "hard": (5, 100, 4, 4), "never": (5, 100, 0, 0)}


def published_row(query_id: str, level: int, number: int, correct: bool) -> dict[str, object]:
    return {
        "query": f"question {query_id}", "query4test": False, "query_src_agent": "human", "query_src_method": "x",
        "domain": "Algebra", "stage": "train", "gt_ans": "4", "query_metadata": {"level": level},
        "resp": f" response {number} ", "resp_src_agent": "deepseek", "resp_src_method": "x", "ans_correct": correct,
        "ration_type": "CoT", "proc_correct_prob": None,
        "resp_metadata": {"maxlen": "2048", "task_idx": "0", "temperature": "1.6", "top_p": "0.95"},
        "ans": "4", "query_id": query_id, "resp_id": f"{query_id}-{number}",
    }  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    rows = [
        published_row(name, level, number, True) for name, (level, _, _, held) in MATH.items() for number in range(held)
    ]
    rows.insert(3, published_row("easy", 1, 999, False))  # never in the published files; would not be taken
    halves = [tmp_path / "pool-0.parquet", tmp_path / "pool-1.parquet"]
    for path, part in zip(halves, (rows[:50], rows[50:]), strict=True):
        pq.write_table(pa.Table.from_pylist(part), path)
    info = [
        {"query_id": name, "level": level, "domain": "Algebra", "n_samples_list": [trials],
         "n_corrects_list": [correct], "tot_n_samples": trials, "tot_n_corrects": correct,
         "pass_rate": correct / trials or None, "pass_rate_bernoulli_std": 0.1}
        for name, (level, trials, correct, _) in MATH.items()
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(info), tmp_path / "info.parquet")
    return halves, [tmp_path / "info.parquet"]


def test_uniform_takes_the_first_k_correct_responses(files) -> None:
    rows, summary = cut_published_pool("uniform", *files, quota=40, source="dart-math-pool-math")
    assert [row.query_id for row in rows] == ["easy"] * 40 + ["hard"] * 4
    assert [row.response for row in rows[:4]] == ["response 0", "response 1", "response 2", "response 3"]
    assert [row.trial for row in rows[40:]] == [0, 1, 2, 3] and rows[40].level == 5
    assert (rows[0].pass_rate, rows[0].strategy, rows[0].source) == (0.9, "uniform", "dart-math-pool-math")
    found = summary.set_index("query_id")
    assert found["rows"].to_dict() == {"easy": 40, "hard": 4, "never": 0}
    assert found["available"].to_dict() == {"easy": 90, "hard": 4, "never": 0}


def test_prop2diff_takes_its_quota_from_the_published_pass_rates(files) -> None:
    rows, summary = cut_published_pool("prop2diff", *files, quota=192, source="s")
    # 192 * 0.1 = 19.2; 192 * 0.96 = 184.32; never solved: 192
    assert summary.set_index("query_id")["quota"].to_dict() == {"easy": 19, "hard": 184, "never": 192}
    assert summary.set_index("query_id")["rows"].to_dict() == {"easy": 19, "hard": 4, "never": 0}
    assert len(rows) == 23


def test_vrt_is_refused_with_the_reason(files) -> None:
    with pytest.raises(ValueError, match="correct responses only.*sample with vrt instead"):
        cut_published_pool("vrt", *files, quota=52, source="s")


def test_gsm8k_has_steps_in_place_of_levels(tmp_path: Path) -> None:
    row = published_row("q", 1, 0, True) | {"query_metadata": {"n_step": 3}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "pool.parquet")
    info = {"query_id": "q", "n_steps": 3.0, "tot_n_samples": 4, "tot_n_corrects": 1, "pass_rate": 0.25}
    pq.write_table(pa.Table.from_pylist([info]), tmp_path / "info.parquet")
    rows, _ = cut_published_pool(
        "uniform", [tmp_path / "pool.parquet"], [tmp_path / "info.parquet"], quota=2, source="s"
    )
    assert len(rows) == 1 and rows[0].level is None


def test_files_of_another_kind_are_named(files, tmp_path: Path) -> None:
    pool, info = files
    with pytest.raises(RecordError, match=r"info\.parquet: no column 'query'"):
        cut_published_pool("uniform", info, info, quota=1, source="s")
    with pytest.raises(RecordError, match=r"pool-0\.parquet: no column 'tot_n_samples'"):
        cut_published_pool("uniform", pool, pool, quota=1, source="s")
    with pytest.raises(RecordError, match="missing.parquet: no such file"):
        cut_published_pool("uniform", [tmp_path / "missing.parquet"], info, quota=1, source="s")
    other = {"query_id": "other", "tot_n_samples": 4, "tot_n_corrects": 1, "pass_rate": 0.25}
    pq.write_table(pa.Table.from_pylist([other]), tmp_path / "other.parquet")
    with pytest.raises(RecordError, match="'easy' is not in the query-info files"):
        cut_published_pool("uniform", pool, [tmp_path / "other.parquet"], quota=1, source="s")

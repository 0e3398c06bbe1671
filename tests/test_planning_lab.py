"""06_planning_lab run headlessly on the committed reference synthesis, with a published pool made here."""

from __future__ import annotations

import json
from pathlib import Path

import papermill
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_lab_plans_from_a_finished_synthesis_and_cuts_a_published_pool(tmp_path: Path) -> None:
    """Quota 2 of an easy query with 9 correct of 10 and a hard one with 1 of 10: three rows for uniform."""
    pool = [
        {"query_id": name, "query": name, "resp": f"r{number}", "ans_correct": True, "query_metadata": {"level": level}}
        for name, level, held in (("easy", 1, 9), ("hard", 5, 1))
        for number in range(held)
    ]
    info = {"query_id": ["easy", "hard"], "tot_n_samples": [10, 10], "tot_n_corrects": [9, 1], "pass_rate": [0.9, 0.1]}
    for part, table in {"pool": pa.Table.from_pylist(pool), "query-info": pa.table(info)}.items():
        (tmp_path / "published" / part).mkdir(parents=True)
        pq.write_table(table, tmp_path / "published" / part / "0.parquet")
    values = {
        "RUN_FOLDER": "papermill_runs/reference",
        "STAGE_FOLDER": str(tmp_path / "lab"),
        "PASS_RATES": str(tmp_path / "published"),
        "QUOTAS": {"uniform": 2, "prop2diff": 4},
    }
    papermill.execute_notebook(
        str(REPOSITORY / "notebooks" / "06_planning_lab.ipynb"),
        str(tmp_path / "lab.ipynb"),
        parameters=values,
        cwd=REPOSITORY / "notebooks",
        progress_bar=False,
    )
    metrics = json.loads((tmp_path / "lab" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["published_rows"] == {"uniform": 3, "prop2diff": 2}
    assert metrics["recorded_rates"] == 2 and metrics["temperatures"] == []
    reference = json.loads((REPOSITORY / "papermill_runs/reference/02_synthesis/metrics.json").read_text())
    assert metrics["queries"] == reference["queries"] and metrics["matched_rows"] == min(reference["rows"].values())
    assert set(metrics["costs"]) == {f"{name} at {cap}" for name in ("uniform", "prop2diff") for cap in (96, 768)}

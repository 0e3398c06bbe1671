"""`dartlib regrade POOL --diff`: stored responses judged again, and every verdict that flipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_sampling_pool import SETTING, some_queries, trial

from dartlib.grading import pool
from dartlib.pipeline.cli import main
from dartlib.records import Verdict
from dartlib.sampling.pool import PoolWriter


def test_flipped_verdicts_are_listed_without_sampling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = some_queries(2)  # references 0 and 1; answers go 0, 1, 2, 0, …
    writer = PoolWriter(tmp_path, SETTING)
    writer.add_queries(queries)
    for query in queries:
        for number in range(3):
            writer.add_trial(trial(query, number))
    writer.flush()
    with monkeypatch.context() as older:  # a grader that found every answer wrong
        older.setattr(pool, "GRADER_VERSION", "0")
        older.setattr(pool, "read_response", lambda *_, **__: ("-", (Verdict.WRONG, "number")))
        assert main(["regrade", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["regrading 6 of 6 rows", "none -> wrong: 6"]
    assert main(["regrade", str(tmp_path), "--diff"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:1] == ["regrading 6 of 6 rows"] and {"wrong -> correct: 2", "wrong -> wrong: 4"} == set(lines[1:3])
    assert lines[3] == "2 of 6 verdicts flipped"
    # query 0 was right at trial 0, query 1 at trial 1
    assert {tuple(line.split("\t")) for line in lines[4:]} == {
        (queries[0].query_id, "0", "wrong", "correct", "0", "0"),
        (queries[1].query_id, "1", "wrong", "correct", "1", "1"),
    }
    assert main(["regrade", str(tmp_path), "--diff"]) == 0
    assert "0 of 6 verdicts flipped" in capsys.readouterr().out

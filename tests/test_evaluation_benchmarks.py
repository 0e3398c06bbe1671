"""The six real benchmark files from end to end with the real embedded model: killed, resumed, recounted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dartlib.evaluation import compare_results, read_result
from dartlib.queries import benchmark_names
from dartlib.sampling import open_pool

ITEMS, SAMPLES = 20, 2


def flushed(folder: Path) -> dict[tuple[str, str, int], str]:
    """(pool, query, trial) -> response of every flushed trial, over the pools of all prompts."""
    rows = {}
    for setting in folder.glob("pool/*/setting.json"):
        for row in open_pool(setting.parent).trials(["query_id", "trial", "response"]).to_pylist():
            rows[setting.parent.name, row["query_id"], row["trial"]] = row["response"]
    return rows


def start(folder: Path, data: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        str(Path(__file__).with_name("evaluation_run.py")),
        str(folder),
        str(ITEMS),
        str(SAMPLES),
    ]
    environment = {**os.environ, "DARTLIB_DATA_DIR": str(data / "benchmarks")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.model
@pytest.mark.timeout(600)
def test_six_benchmarks_killed_and_resumed(tmp_path: Path, test_data: Path, embedded: Path) -> None:
    child = start(tmp_path, test_data)
    while len(flushed(tmp_path)) < 40:
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = flushed(tmp_path)
    assert not (tmp_path / "result.json").exists() and len(before) < 6 * ITEMS * SAMPLES
    assert start(tmp_path, test_data).wait() == 0
    after = flushed(tmp_path)
    assert len(after) == 6 * ITEMS * SAMPLES and before.items() <= after.items()

    result = read_result(tmp_path)
    assert list(result.benchmarks) == benchmark_names()
    items = result.items
    assert sorted(items.groupby(["benchmark", "query_id"]).size().unique()) == [SAMPLES]
    for name, found in result.benchmarks.items():
        own = items[items["benchmark"] == name]
        right = (own["verdict"] == "correct").groupby(own["query_id"]).sum()
        assert found["scores"]["avg@2"]["value"] == pytest.approx(right.sum() / (ITEMS * SAMPLES))
        assert found["scores"]["pass@2"]["value"] == pytest.approx((right > 0).mean())
        assert found["scores"]["avg@2"]["value"] <= found["scores"]["pass@2"]["value"]
        assert sum(found["verdicts"].values()) == sum(found["finish_reasons"].values()) == ITEMS * SAMPLES
        assert found["unusable"]["cut"] == found["finish_reasons"].get("length", 0)
        assert own["n_tokens"].max() <= 128 and own["prompt_digest"].nunique() == ITEMS
    notes = compare_results([tmp_path]).notes
    assert len(notes) == 6 and all("20 of its" in note and "cap of 128" in note for note in notes)

"""Five kill -9 of a run with a real vLLM server: nothing flushed is lost or changed, and every quota is exact.

Real engines may answer a seed differently in another batch, so the promise is about what was flushed, not about equal
data sets: those are tested with the stub engine.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import vllm_run
from stub_run import pool_rows

from dartlib.records import QueryOutcome, SftRow, read_records

TESTS = Path(__file__).resolve().parent
KILLS = 5
NEW_TRIALS = 20  # the first trial of a run goes alone: a kill is to hit many in flight
pytestmark = [pytest.mark.endurance, pytest.mark.timeout(1800)]


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, str(TESTS / "vllm_run.py"), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after_new_trials(folder: Path, choose: random.Random) -> tuple[int, float]:
    """Start a run, let it flush some new trials, kill it at a random instant; (new trials, seconds it lived)."""
    before = len(pool_rows(folder))
    started = time.monotonic()
    process = start(folder)
    try:
        while len(pool_rows(folder)) < before + NEW_TRIALS:
            assert process.poll() is None, "the run ended before it could be killed: ask it for more trials"
            assert time.monotonic() - started < 400
            time.sleep(0.2)
        time.sleep(choose.uniform(0, 4))
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return len(pool_rows(folder)) - before, time.monotonic() - started


def test_five_kills_of_a_run_with_vllm(tmp_path: Path, embedded: Path) -> None:
    choose = random.Random(7)
    flushed: dict[tuple[str, int], str] = {}
    for number in range(KILLS):
        new, seconds = kill_after_new_trials(tmp_path, choose)
        rows = pool_rows(tmp_path)
        assert {key: rows.get(key) for key in flushed} == flushed
        flushed = rows
        print(
            f"kill {number + 1} after {seconds:.1f} s: {new} new trials flushed, {len(rows)} in all, earlier unchanged"
        )
    assert start(tmp_path).wait(900) == 0
    rows = pool_rows(tmp_path)
    assert {key: rows[key] for key in flushed} == flushed
    outcomes = read_records(tmp_path / "outcomes.parquet", QueryOutcome)
    quotas = [outcome for outcome in outcomes if outcome.quota is not None]
    assert len(outcomes) == 90 and {outcome.status for outcome in outcomes} <= {"met", "cap", "drawn"}
    for outcome in quotas:
        assert outcome.n_correct == outcome.quota if outcome.status == "met" else outcome.n_correct < outcome.quota
        assert outcome.n_trials <= vllm_run.SETTINGS.trial_cap
    for strategy in vllm_run.SETTINGS.strategies:
        data = read_records(tmp_path / "datasets" / f"{strategy}.parquet", SftRow)
        assert len(data) == sum(outcome.n_correct for outcome in outcomes if outcome.strategy == strategy)
        assert len({(row.query_id, row.trial) for row in data}) == len(data)
        assert all(rows[row.query_id, row.trial].strip() == row.response for row in data)
    met = sum(outcome.status == "met" for outcome in quotas)
    print(f"finished: {len(rows)} trials, {met} of {len(quotas)} quotas met exactly, the others at the cap")

"""What breaks a long run: kill -9, TERM, Ctrl-C, full disks, clocks, endpoints, a second run. The engine is a stub."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stub_run
from stub_engine import SAMPLING, TEMPLATE, StubEngine, numbered_queries
from test_engines_endpoints import FakeServer

from dartlib.engines import endpoints, run
from dartlib.sampling import Demand, open_pool, runner, sample, shards

TESTS = Path(__file__).resolve().parent


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(TESTS / "stub_run.py"), str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def start_and_wait_for_trials(folder: Path) -> subprocess.Popen[str]:
    """A run of about 20 s that flushes nothing by itself, once it has its first 16 replies."""
    process = start(folder, "0.3", "1000")
    assert process.stdout is not None
    assert "under way\n" in iter(process.stdout.readline, "")  # its other lines are of its progress
    assert process.poll() is None
    return process


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    stub_run.make(folder, slots=1)
    return stub_run.digest(folder)


@pytest.mark.slow
def test_fifty_kills_change_no_data_set(tmp_path: Path, uninterrupted: dict[str, str]) -> None:
    done = start(tmp_path, "--kill", "50", "1")
    out, errors = done.communicate(timeout=240)
    assert done.returncode == 0, errors
    told = json.loads(out)
    print(f"{told['kills']} kills, {told['finished_runs']} runs came to their end")
    assert told["kills"] == 50 and told["finished_runs"] >= 1
    for digest in told["digests"]:
        assert digest == uninterrupted


def test_term_flushes_and_exits_with_143(tmp_path: Path) -> None:
    process = start_and_wait_for_trials(tmp_path)
    assert stub_run.pool_rows(tmp_path) == {}
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert time.monotonic() - sent < 5
    assert len(stub_run.pool_rows(tmp_path)) >= 16


def test_ctrl_c_ends_within_three_seconds_with_the_pool_whole_and_a_rerun_goes_on(
    tmp_path: Path, uninterrupted: dict[str, str]
) -> None:
    process = start_and_wait_for_trials(tmp_path)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - sent < 3 and errors.strip().endswith("KeyboardInterrupt")
    kept = stub_run.pool_rows(tmp_path)
    assert len(kept) >= 16
    stub_run.make(tmp_path)
    rows = stub_run.pool_rows(tmp_path)
    assert {key: rows[key] for key in kept} == kept and stub_run.digest(tmp_path) == uninterrupted


def test_a_second_run_on_one_pool_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    first = start_and_wait_for_trials(tmp_path)
    second = start(tmp_path)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1 and f"is in use by process {first.pid}" in errors.splitlines()[-1]
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 143


def test_a_full_disk_stops_with_one_clear_line_and_the_next_run_goes_on(
    tmp_path: Path, uninterrupted: dict[str, str]
) -> None:
    """The kernel refuses to let any file grow beyond 16 kB: a write fails in the middle of a shard."""
    limit = 16 * 1024
    process = start(tmp_path, "0.002", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = process.communicate(timeout=60)
    last = errors.strip().splitlines()[-1]
    assert process.returncode == 1 and "make room and run again" in last and "/pool/" in last
    kept = stub_run.pool_rows(tmp_path)
    assert kept and not list(tmp_path.rglob(".*.tmp"))
    stub_run.make(tmp_path)
    rows = stub_run.pool_rows(tmp_path)
    assert {key: rows[key] for key in kept} == kept and stub_run.digest(tmp_path) == uninterrupted


def test_a_clock_that_goes_backwards_changes_nothing(
    tmp_path: Path, uninterrupted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time()
    calls = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real - 60 * next(calls))
    monkeypatch.setattr(runner, "FLUSH_SECONDS", 0.02)
    monkeypatch.setattr(shards, "MERGE_COUNT", 4)
    stub_run.make(tmp_path, delay=0.005)
    stub_run.make(tmp_path)
    assert next(calls) > 0 and stub_run.digest(tmp_path) == uninterrupted


class Quota:
    """Two fixed trials, then on to two correct ones, at most six trials."""

    def demand(self, query_id, prefix):
        return Demand(2, 2, 6)


def draw_from(pool: Path, behave: Callable[[int, dict[str, Any]], tuple[int, Any]], monkeypatch, **options: Any):
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(endpoints, "_FIRST_REST_SECONDS", 0.01)
    server = FakeServer(behave)
    try:
        engine = run(endpoints.connect([server.url], slots=4, **options))
        return sample(
            numbered_queries([1.0, 0.5, 0.0]),
            engine=engine,
            template=TEMPLATE,
            sampling=SAMPLING,
            sampling_seed=3,
            policy=Quota(),
            pool_folder=pool,
            log=lambda line: None,
        )
    finally:
        server.stop()


def right_answers(number: int, body: dict[str, Any]) -> tuple[int, Any]:
    """The stub engine's own replies, sent by a server."""
    reply = run_stub(body)
    return 200, {"choices": [{"text": reply, "finish_reason": "stop"}], "usage": {"completion_tokens": 5}}


def run_stub(body: dict[str, Any]) -> str:
    import asyncio

    return asyncio.run(StubEngine().complete(body["prompt"], SAMPLING, body["seed"])).text


def faulty(kind: str) -> Callable[[int, dict[str, Any]], tuple[int, Any]]:
    """Every third request fails in this way, the others are answered."""

    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        if number % 3:
            return right_answers(number, body)
        if kind == "hangs":
            time.sleep(2)
        return {"500": (500, {"error": "out of memory"}), "closes": (299, b'{"choices": [{"te')}.get(kind, (500, {}))

    return behave


@pytest.mark.parametrize("kind", ["500", "hangs", "closes"])
def test_an_endpoint_that_fails_now_and_then_changes_no_trial(tmp_path: Path, monkeypatch, kind: str) -> None:
    clean = draw_from(tmp_path / "clean", right_answers, monkeypatch)
    report = draw_from(tmp_path / kind, faulty(kind), monkeypatch, request_seconds=0.4)
    assert report.finished == 3 and report.failed_requests >= 3 and report.stuck == []
    attempts = open_pool(report.pool).attempts().to_pylist()
    assert len(attempts) == report.failed_requests == report.verdicts["error"]
    expected = {"500": "out of memory", "hangs": "ReadTimeout", "closes": "RemoteProtocolError"}[kind]
    assert all(expected in attempt["reason"] for attempt in attempts)
    columns = ["query_id", "trial", "response", "verdict"]
    found = [open_pool(one.pool).samples(columns=columns).set_index(columns[:2]) for one in (clean, report)]
    both = found[0].index.intersection(found[1].index)  # speculation behind the last needed trial may differ
    assert len(both) >= 10 and found[0].loc[both].equals(found[1].loc[both])


def test_empty_text_is_a_trial_without_answer_and_ends_at_the_cap(tmp_path: Path, monkeypatch) -> None:
    empty = {"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": 0}}
    report = draw_from(tmp_path, lambda number, body: (200, empty), monkeypatch)
    assert report.verdicts["no_answer"] == report.trials_in_pool == 18  # three queries, six trials each
    assert set(open_pool(report.pool).samples()["reason"]) == {"no_final_answer"}

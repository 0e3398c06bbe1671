"""What breaks a long run: kill -9, TERM, Ctrl-C, full disks, clocks, endpoints, a second run. The engine is a stub."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stub_run
from stub_engine import SAMPLING, TEMPLATE, StubEngine, numbered_queries
from stub_servers import CORRUPTIONS, Behaviour, Corrupting, FakeServer, Sent, completion, corrupted, stub_text

from dartlib.engines import EngineError, endpoints, run
from dartlib.sampling import Demand, SamplingError, guards, open_pool, runner, sample, shards

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
    assert stub_run.digest(tmp_path) == uninterrupted and next(calls) == 0, "nothing reads the clock on the wall"


class Quota:
    """Two fixed trials, then on to two correct ones, at most six trials."""

    def demand(self, query_id, prefix):
        return Demand(2, 2, 6)


def draw_from(pool: Path, behave: Behaviour, monkeypatch, *, rates=(1.0, 0.5, 0.0), tokenizes=False, **options: Any):
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(endpoints, "_FIRST_REST_SECONDS", 0.01)
    server = FakeServer(behave, tokenizes=tokenizes)
    server.tokens = [1, 2]
    try:
        engine = run(endpoints.connect([server.url], slots=4, say=lambda line: None, **options))
        return sample(
            numbered_queries(rates),
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
    return 200, completion(stub_text(body["prompt"], body["seed"]))


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


@pytest.mark.slow
def test_a_server_that_corrupts_a_third_of_its_replies_gives_the_same_data_sets(
    tmp_path: Path, uninterrupted: dict[str, str], monkeypatch
) -> None:
    """Late, cut, twice, half surrogates, foreign ends, stop strings left in, streams, errors: each many times."""
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(endpoints, "_FIRST_REST_SECONDS", 0.01)
    behave = Corrupting(share=0.33, late=2.5)
    server = FakeServer(behave)
    options = {
        "name": "stub",
        "weights": "stub-weights",
        "slots": 16,
        "request_seconds": 2.0,
    }  # a busy machine answers late, too
    engine = run(endpoints.connect([server.url], say=lambda line: None, **options))
    try:
        report = stub_run.make(tmp_path, engine=engine)
    finally:
        server.stop()
    assert min(behave.done.values()) >= 20, behave.done
    assert report.sampling.stuck == [] and stub_run.digest(tmp_path) == uninterrupted
    clean = {
        (row["query_id"], row["trial"]): row["seed"] for row in open_pool(report.sampling.pool).trials().to_pylist()
    }
    for (query_id, trial), text in stub_run.pool_rows(tmp_path).items():
        assert text.startswith(f" Seed {clean[query_id, trial]}. The answer is ") and len(text) < 60


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_one_odd_reply_is_one_failed_request_and_no_other_reply_is_lost(tmp_path: Path, monkeypatch, kind: str) -> None:
    def behave(number: int, body: dict[str, Any]) -> Any:
        good = right_answers(number, body)
        return corrupted(kind, good[1], late=0.7) if number == 5 else good

    report = draw_from(tmp_path / "pool", behave, monkeypatch, request_seconds=0.5)
    clean = draw_from(tmp_path / "clean", right_answers, monkeypatch)
    harmless = ("twice", "past_stop", "stream", "huge", "busy")  # these are read, or were no attempt
    assert report.stuck == [] and report.failed_requests == (kind not in harmless)
    texts = [open_pool(one.pool).samples(columns=["query_id", "trial", "response"]) for one in (report, clean)]
    found = [frame.set_index(["query_id", "trial"])["response"].to_dict() for frame in texts]
    assert len(found[0].keys() & found[1].keys()) >= 10
    assert all(found[1].get(key, text) == text for key, text in found[0].items())


def test_half_a_surrogate_pair_that_a_server_insists_on_is_kept_as_a_replacement_character(
    tmp_path: Path, monkeypatch
) -> None:
    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion(stub_text(body["prompt"], body["seed"]) + (" \ud83d" if body["seed"] % 3 == 0 else ""))

    report = draw_from(tmp_path, behave, monkeypatch)
    rows = open_pool(report.pool).trials().to_pylist()
    assert report.stuck == [] and report.finished == 3 and any(row["seed"] % 3 == 0 for row in rows)
    for row in rows:
        assert row["response"].endswith(".") if row["seed"] % 3 else row["response"].endswith(". \ufffd")


def test_what_a_content_filter_cuts_again_and_again_is_a_cut_reply_and_makes_no_query_stuck(
    tmp_path: Path, monkeypatch
) -> None:
    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        text = stub_text(body["prompt"], body["seed"])
        return 200, completion(text, "content_filter" if "rate 0.0" in body["prompt"] else "stop")

    report = draw_from(tmp_path, behave, monkeypatch)
    assert report.stuck == [] and report.finished == 3
    ends = open_pool(report.pool).samples(columns=["query_id", "finish_reason", "verdict"])
    assert set(
        map(tuple, ends[ends["query_id"] == numbered_queries([1.0, 0.5, 0.0])[2].query_id].to_numpy()[:, 1:])
    ) == {("length", "no_answer")}


def test_a_next_dialogue_turn_is_not_graded_and_not_stored(tmp_path: Path, monkeypatch) -> None:
    """The own answer is 8, and wrong; the turn made up behind the stop string ends with the reference."""

    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion(" So the answer is 8.\n\nUser: What is 3 + 4?\nThe answer is 7.", "length", 64)

    report = draw_from(tmp_path, behave, monkeypatch)
    samples = open_pool(report.pool).samples()
    assert set(samples["response"]) == {" So the answer is 8."} and set(samples["verdict"]) == {"wrong"}
    assert set(samples["n_tokens"]) == {64} and set(samples["finish_reason"]) == {"stop"}


class Bare(StubEngine):
    """An engine of somebody else, which knows nothing of stop strings, and gives odd characters at first."""

    odd: set[int] = set()

    async def complete(self, prompt, sampling, seed):
        reply = await super().complete(prompt, sampling, seed)
        if seed % 5 == 0 and seed not in self.odd:
            self.odd.add(seed)
            return replace(reply, text=reply.text + "\udc00")
        return replace(reply, text=reply.text + "\n\nThe answer is 7.")


def test_stop_strings_are_enforced_for_every_engine(tmp_path: Path, uninterrupted, monkeypatch) -> None:
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.001)
    stub_run.make(tmp_path, engine=Bare(slots=16))
    assert stub_run.digest(tmp_path) == uninterrupted


def unusable(number: int, body: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"error": {"message": "the weights are on fire"}}


@pytest.mark.parametrize("tokenizes", [False, True])
def test_a_server_that_never_gives_a_usable_reply_is_told_over_all_queries(
    tmp_path: Path, monkeypatch, tokenizes: bool
) -> None:
    """30 queries, with small numbers: neither a tokenize route that works nor the next query renews the patience."""
    monkeypatch.setattr(guards, "FIRST_PATIENCE_SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(SamplingError, match="no usable reply for . s; the last failure was: .*the weights are on fire"):
        draw_from(tmp_path, unusable, monkeypatch, rates=[0.5] * 30, tokenizes=tokenizes)
    assert 1.0 < time.monotonic() - started < 3.0
    assert len({row["query_id"] for row in open_pool(tmp_path).attempts().to_pylist()}) > 1


@pytest.mark.slow
def test_thirty_queries_that_nobody_answers_end_within_a_minute(tmp_path: Path) -> None:
    """The same with the real waiting times."""
    server = FakeServer(unusable, tokenizes=True)
    engine = run(endpoints.connect([server.url], say=lambda line: None))
    started = time.monotonic()
    with pytest.raises(SamplingError, match="the weights are on fire"):
        stub_run.make(tmp_path, engine=engine)
    assert time.monotonic() - started < 60
    server.stop()


def test_a_refused_key_or_a_missing_route_is_told_at_once(tmp_path: Path, monkeypatch) -> None:
    for status, says in ((401, "bad key"), (404, "no route")):
        with pytest.raises(SamplingError, match=f"the engine cannot answer: .*HTTP {status}, {says}"):
            draw_from(tmp_path / says, lambda number, body: (status, {"error": says}), monkeypatch, rates=[0.5] * 30)  # noqa: B023


def test_the_same_status_from_a_server_that_has_answered_is_a_passing_fault(tmp_path: Path, monkeypatch) -> None:
    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        return (404, {"error": "no route"}) if number % 4 == 0 else right_answers(number, body)

    report = draw_from(tmp_path, behave, monkeypatch)
    assert report.stuck == [] and report.finished == 3 and report.failed_requests > 3


def test_a_rate_limit_without_end_is_told_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(guards, "FIRST_PATIENCE_SECONDS", 0.5)

    def behave(number: int, body: dict[str, Any]) -> Sent:
        return Sent(429, {"error": {"message": "insufficient_quota"}}, {"Retry-After": "0.2"})

    with pytest.raises(SamplingError, match="insufficient_quota"):
        draw_from(tmp_path, behave, monkeypatch)


def test_an_engine_that_worked_and_then_breaks_down_is_waited_for_longer(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(guards, "FIRST_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(guards, "PATIENCE_SECONDS", 1.0)
    engine = StubEngine(slots=4, fault=lambda number: fail(number, 12, 10**6))
    started = time.monotonic()
    with pytest.raises(SamplingError, match="a stub outage"):
        draw_stub(tmp_path, engine, monkeypatch)
    assert 1.0 < time.monotonic() - started < 4.0
    assert draw_stub(tmp_path, StubEngine(slots=4, fault=lambda number: fail(number, 3, 8)), monkeypatch).stuck == []


def fail(number: int, first: int, last: int) -> None:
    if first <= number < last:
        raise EngineError("a stub outage")


def draw_stub(pool: Path, engine, monkeypatch, **options: Any):
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.05)
    return sample(
        numbered_queries([0.5] * 30),
        engine=engine,
        template=TEMPLATE,
        sampling=SAMPLING,
        sampling_seed=3,
        policy=Quota(),
        pool_folder=pool,
        log=lambda line: None,
        **options,
    )


@pytest.mark.slow
def test_a_server_that_is_away_for_a_while_makes_no_query_stuck(tmp_path: Path, monkeypatch) -> None:
    """Requests that meet no server are no attempts, and the pace afterwards is that of before."""
    monkeypatch.setattr(runner, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.05)

    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        if number == 40:
            threading.Thread(target=restart).start()
        time.sleep(0.02)
        return right_answers(number, body)

    def restart() -> None:
        server.stop()
        time.sleep(3)
        server.start()

    server = FakeServer(behave)
    engine = run(endpoints.connect([server.url], slots=16, say=lambda line: None))
    started = time.monotonic()
    report = draw_stub(tmp_path, engine, monkeypatch)
    server.stop()
    assert report.stuck == [] and report.finished == 30 and report.trials_new > 80
    assert 3 < time.monotonic() - started < 15


class Rambling(StubEngine):
    """So many of ten replies are cut or hold no answer."""

    share = 7

    async def complete(self, prompt, sampling, seed):
        reply = await super().complete(prompt, sampling, seed)
        if seed % 10 >= self.share:
            return reply
        return replace(reply, text=" Well, that is", finish_reason="length" if seed % 2 else "stop")


def test_mostly_unusable_replies_stop_the_run_early_with_three_examples(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(SamplingError) as caught:
        draw_stub(tmp_path, Rambling(slots=4), monkeypatch)
    told = str(caught.value)
    assert told.count(" Well, that is") == 3 and "allow_unusable" in told and "(length)" in told + "(stop)"
    assert 48 <= open_pool(tmp_path).trials().num_rows < 70
    with pytest.raises(SamplingError, match="Well, that is"):  # again after a restart, at once
        draw_stub(tmp_path, Rambling(slots=4), monkeypatch)
    assert open_pool(tmp_path).trials().num_rows < 80
    assert draw_stub(tmp_path, Rambling(slots=4), monkeypatch, allow_unusable=True).finished == 30
    with pytest.raises(SamplingError, match="Well, that is"):
        stub_run.make(tmp_path / "synthesis", engine=Rambling(slots=4))


def test_a_share_that_may_be_chance_or_comes_late_stops_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Rambling, "share", 4)
    assert draw_stub(tmp_path, Rambling(slots=4), monkeypatch).finished == 30


@pytest.mark.slow
def test_notebook_02_fails_while_queries_are_stuck_and_the_same_call_completes_it(tmp_path: Path) -> None:
    """One of twelve problems is refused for good: everything else is drawn, told, and kept for the next run."""
    import papermill

    problems = tmp_path / "problems.jsonl"
    rates = [round(0.3 + n / 20, 2) for n in range(12)]
    rows = [{"query": query.query, "reference_answer": "7"} for query in numbered_queries(rates)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refuses = True

    def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        if refuses and "number 3 " in body["prompt"]:
            return 400, {"error": {"message": "this prompt is too long for me"}}
        return right_answers(number, body)

    server = FakeServer(behave)
    stage = tmp_path / "stage"
    stage.mkdir()
    parameters = {
        "QUERIES": str(problems),
        "ENGINE": server.url,
        "RUN_FOLDER": str(tmp_path),
        "STAGE_FOLDER": str(stage),
    }
    parameters |= {"DIFFICULTY_TRIALS": 4, "VRT_TRIALS": 4, "UNIFORM_QUOTA": 2, "PROP2DIFF_QUOTA": 3, "TRIAL_CAP": 8}

    def execute() -> None:
        notebook = TESTS.parent / "notebooks" / "02_synthesis.ipynb"
        options: dict[str, Any] = {"kernel_name": "python3", "progress_bar": False, "cwd": str(tmp_path)}
        papermill.execute_notebook(str(notebook), str(tmp_path / "executed.ipynb"), parameters, **options)

    with pytest.raises(papermill.PapermillExecutionError, match="1 queries are stuck"):
        execute()
    first = json.loads((stage / "metrics.json").read_text())
    assert first["stuck"] == 1 and "too long for me" in (tmp_path / "executed.ipynb").read_text()
    refuses = False
    asked = len(server.bodies)
    execute()
    server.stop()
    assert json.loads((stage / "metrics.json").read_text())["stuck"] == 0
    assert {"number 3 " in body["prompt"] for body in server.bodies[asked:]} == {True}

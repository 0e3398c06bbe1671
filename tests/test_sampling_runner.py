"""The asynchronous shell: pool contents, resume, retries, faults. The engine here is a stub and says so."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from stub_engine import SAMPLING, TEMPLATE, StubEngine, fail_first, numbered_queries

from dartlib import records
from dartlib.grading import GRADER_VERSION
from dartlib.leases import Lease, LeaseHeld
from dartlib.sampling import Budget, Demand, SamplingError, open_pool, runner, sample, trial_seed


class Quota:
    """Four fixed trials, then on to three correct ones, at most twelve trials."""

    def demand(self, query_id, prefix):
        return Demand(4, 3, 12)


def draw(pool: Path, engine: StubEngine, rates=(1.0, 0.5, 0.2, 0.0), policy=None, log=lambda line: None, budget=None):
    return sample(
        numbered_queries(rates),
        engine=engine,
        template=TEMPLATE,
        sampling=SAMPLING,
        sampling_seed=3,
        policy=policy or Quota(),
        pool_folder=pool,
        budget=budget,
        log=log,
    )


def pool_rows(path: Path, rates=(1.0, 0.5, 0.2, 0.0)):
    frame = open_pool(path).samples(numbered_queries(rates), GRADER_VERSION)
    return {(row.query_id, row.trial): (row.response, row.verdict) for row in frame.itertuples()}


def test_every_trial_has_its_own_seed_text_and_grade(tmp_path: Path) -> None:
    report = draw(tmp_path / "pool", StubEngine())
    rows = open_pool(tmp_path / "pool").trials().to_pylist()
    assert report.trials_new == report.trials_in_pool == len(rows)
    assert len({row["seed"] for row in rows}) == len(rows)
    assert all(row["seed"] == trial_seed(3, row["query_id"], row["trial"]) for row in rows)
    always, never = numbered_queries((1.0, 0.5, 0.2, 0.0))[0], numbered_queries((1.0, 0.5, 0.2, 0.0))[3]
    assert sum(row["query_id"] == always.query_id for row in rows) == 4  # fixed trials, quota met among them
    assert sum(row["query_id"] == never.query_id for row in rows) == 12  # the cap
    assert sum(report.verdicts.values()) == len(rows)
    assert report.verdicts["correct"] == sum(" 7." in row["response"] for row in rows)


def test_seeds_depend_on_sampling_seed_query_and_trial() -> None:
    base = trial_seed(1, "a", 0)
    assert len({base, trial_seed(2, "a", 0), trial_seed(1, "b", 0), trial_seed(1, "a", 1)}) == 4
    assert base == trial_seed(1, "a", 0) and 0 <= base < 2**31


def test_concurrency_and_arrival_order_do_not_change_what_counts(tmp_path: Path) -> None:
    one_by_one = draw(tmp_path / "a", StubEngine(slots=1))
    wild = draw(tmp_path / "b", StubEngine(slots=50, timing=9, delay=0.01))
    a, b = pool_rows(tmp_path / "a"), pool_rows(tmp_path / "b")
    assert {key: b[key] for key in a} == a  # speculation may only add trials behind the meeting index
    assert wild.wasted_trials == len(b) - len(a) and one_by_one.wasted_trials == 0


def test_a_second_call_asks_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "pool", StubEngine())
    again = StubEngine()
    report = draw(tmp_path / "pool", again)
    assert again.requests == 0 and report.trials_new == 0 and report.finished == 4


def test_a_raised_quota_goes_on_from_the_pool(tmp_path: Path) -> None:
    class Raised:
        def demand(self, query_id, prefix):
            return Demand(4, 6, 24)

    first = draw(tmp_path / "pool", StubEngine())
    before = pool_rows(tmp_path / "pool")
    report = draw(tmp_path / "pool", StubEngine(), policy=Raised())
    after = pool_rows(tmp_path / "pool")
    assert report.trials_in_pool == first.trials_in_pool + report.trials_new > first.trials_in_pool
    assert {key: after[key] for key in before} == before


def test_failed_requests_are_retried_and_logged_but_are_no_trials(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.001)
    clean = draw(tmp_path / "clean", StubEngine(slots=1))
    report = draw(tmp_path / "pool", StubEngine(slots=1, fault=fail_first(3)))
    attempts = open_pool(tmp_path / "pool").attempts().to_pylist()
    assert [row["attempt"] for row in attempts] == [0, 1, 2] and report.failed_requests == 3
    assert report.verdicts["error"] == 3
    assert report.trials_in_pool == clean.trials_in_pool
    assert pool_rows(tmp_path / "pool") == pool_rows(tmp_path / "clean")


def test_a_query_without_reply_is_stuck_then_finished_by_the_next_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(runner, "FIRST_RETRY_SECONDS", 0.001)
    healthy = StubEngine(slots=1)
    draw(tmp_path / "pool", healthy, rates=(1.0,))
    lines: list[str] = []
    report = draw(tmp_path / "pool", StubEngine(slots=1, fault=fail_first(5)), log=lines.append)
    assert len(report.stuck) == 1 and any("stuck" in line for line in lines)
    again = draw(tmp_path / "pool", StubEngine(fault=fail_first(10**6, retryable=False)))
    assert again.stuck and again.trials_new == 0  # nothing new, but what the pool holds can still be cut
    assert draw(tmp_path / "pool", StubEngine()).stuck == []


def test_an_engine_that_never_answers_raises_its_reason(tmp_path: Path) -> None:
    with pytest.raises(SamplingError, match="stub says no"):
        draw(tmp_path / "pool", StubEngine(fault=fail_first(10**6, retryable=False)))


def test_a_fault_of_ours_keeps_what_was_drawn_and_the_next_call_goes_on(tmp_path: Path) -> None:
    def break_down(number: int) -> None:
        if number == 9:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        draw(tmp_path / "pool", StubEngine(slots=2, fault=break_down))
    kept = pool_rows(tmp_path / "pool")
    assert len(kept) >= 7
    engine = StubEngine()
    report = draw(tmp_path / "pool", engine)
    assert report.finished == 4 and engine.requests == report.trials_in_pool - len(kept)
    assert {key: value for key, value in pool_rows(tmp_path / "pool").items() if key in kept} == kept


def test_disk_full_while_flushing_stops_with_the_cause_and_loses_nothing_flushed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(runner, "FLUSH_SECONDS", 0.02)
    real, calls = records.write_table_atomically, []

    def write(path, table):
        calls.append(path)
        if len(calls) > 3:  # after the first flush: queries, trials, grades
            raise OSError(28, "No space left on device")
        real(path, table)

    monkeypatch.setattr(records, "write_table_atomically", write)
    with pytest.raises(OSError, match="No space left"):
        draw(tmp_path / "pool", StubEngine(slots=2, delay=0.05))
    monkeypatch.setattr(records, "write_table_atomically", real)
    kept = pool_rows(tmp_path / "pool")
    assert kept
    assert draw(tmp_path / "pool", StubEngine()).finished == 4
    assert {key: value for key, value in pool_rows(tmp_path / "pool").items() if key in kept} == kept


def test_a_failed_flush_keeps_rows_and_never_overwrites_a_shard(tmp_path: Path, monkeypatch) -> None:
    from dartlib.sampling.pool import PoolWriter, Setting

    setting = Setting("w", "t", 1.0, 1.0, 8, (), 0)
    writer = PoolWriter(tmp_path, setting)
    trial = records.Trial("q", 0, 1, setting.identity, "text", "stop", 1, None, "stub", 0.0)
    real = records.write_table_atomically
    writer.add_trial(trial)
    writer.add_grade(records.Grade("q", 0, "7", "correct", "", "k", trial.response_hash))

    def refuse_grades(path, table):
        if path.name.startswith("grades"):
            raise OSError(28, "No space left on device")
        real(path, table)

    monkeypatch.setattr(records, "write_table_atomically", refuse_grades)
    with pytest.raises(OSError):
        writer.flush()
    monkeypatch.setattr(records, "write_table_atomically", real)
    writer.add_trial(records.Trial("q", 1, 2, setting.identity, "text", "stop", 1, None, "stub", 0.0))
    writer.flush()
    assert open_pool(tmp_path).trials()["trial"].to_pylist() == [0, 1]
    assert open_pool(tmp_path)._whole("grades")["trial"].to_pylist() == [0]


def test_a_changed_reference_is_regraded_without_asking(tmp_path: Path) -> None:
    draw(tmp_path / "pool", StubEngine(), rates=(0.5,))
    query = numbered_queries((0.5,))[0]
    corrected = records.Query(**{**records.asdict(query), "reference_answer": "8"})
    engine, lines = StubEngine(), []
    before = {key: verdict for key, (_, verdict) in pool_rows(tmp_path / "pool", (0.5,)).items()}
    sample(
        [corrected],
        engine=engine,
        template=TEMPLATE,
        sampling=SAMPLING,
        sampling_seed=3,
        policy=FixedFour(),
        pool_folder=tmp_path / "pool",
        log=lines.append,
    )
    assert engine.requests == 0
    assert any(f"regrading {len(before)} rows" in line for line in lines)
    after = open_pool(tmp_path / "pool").samples([corrected], GRADER_VERSION)
    flipped = {"correct": "wrong", "wrong": "correct"}
    assert {(row.query_id, row.trial): row.verdict for row in after.itertuples()} == {
        key: flipped[verdict] for key, verdict in before.items()
    }


class FixedFour:
    def demand(self, query_id, prefix):
        return Demand(4, None, 12)


def test_another_setting_gets_its_own_folder(tmp_path: Path) -> None:
    draw(tmp_path / "pool", StubEngine())
    other = StubEngine()
    other.weights = "other-weights"
    draw(tmp_path / "pool", other)
    assert len(list((tmp_path / "pool").glob("*/setting.json"))) == 2
    with pytest.raises(Exception, match="expected one setting"):
        open_pool(tmp_path / "pool")


def test_one_coordinator_per_pool(tmp_path: Path) -> None:
    report = draw(tmp_path / "pool", StubEngine())
    with Lease(report.pool, purpose="a test"), pytest.raises(LeaseHeld, match="a test"):
        draw(tmp_path / "pool", StubEngine())
    draw(tmp_path / "pool", StubEngine())


def test_foreign_and_torn_files_are_reported_and_left_alone(tmp_path: Path) -> None:
    report = draw(tmp_path / "pool", StubEngine())
    (report.pool / "trials-000099.parquet").write_bytes(b"PAR1 torn")
    (report.pool / "trials-mine.parquet").write_bytes(b"not ours")
    reader = open_pool(report.pool)
    assert reader.trials().num_rows == report.trials_in_pool
    assert len(reader.unreadable) == 2 and (report.pool / "trials-000099.parquet").exists()


def test_samples_filters_and_show_reads_one_query(tmp_path: Path) -> None:
    draw(tmp_path / "pool", StubEngine())
    queries = numbered_queries((1.0, 0.5, 0.2, 0.0))
    reader = open_pool(tmp_path / "pool")
    wrong = reader.samples(queries, GRADER_VERSION, where="verdict == 'wrong' and level == 4")
    assert len(wrong) == 12 and set(wrong["query_id"]) == {queries[3].query_id}
    shown = reader.show(queries[0].query_id, queries, GRADER_VERSION)
    assert list(shown["trial"]) == [0, 1, 2, 3] and set(shown["verdict"]) == {"correct"}


def test_slots_bound_the_requests_in_flight_and_it_runs_from_any_thread(tmp_path: Path) -> None:
    engine = StubEngine(slots=3, delay=0.002)
    thread = threading.Thread(target=lambda: draw(tmp_path / "pool", engine))
    thread.start()
    thread.join(60)
    assert not thread.is_alive() and engine.most_in_flight == 3


def test_the_first_trial_goes_alone_to_fill_the_prefix_cache(tmp_path: Path) -> None:
    in_flight: list[int] = []
    engine = StubEngine(slots=8, delay=0.002, fault=lambda number: in_flight.append(engine.in_flight))
    draw(tmp_path / "pool", engine)
    assert in_flight[:2] == [1, 1] and max(in_flight) == 8


def test_where_no_prefix_is_remembered_no_trial_goes_alone(tmp_path: Path) -> None:
    in_flight: list[int] = []
    engine = StubEngine(slots=8, delay=0.002, fault=lambda number: in_flight.append(engine.in_flight))
    engine.remembers_prefixes = False
    draw(tmp_path / "pool", engine)
    assert in_flight[:8] == [*range(1, 9)]


def test_a_token_budget_ends_the_run_cleanly_and_can_be_raised(tmp_path: Path) -> None:
    """Stub responses have 5 tokens: 60 tokens are 12 trials, whatever is in flight. Raised, the run goes on."""
    lines: list[str] = []
    report = draw(tmp_path / "pool", StubEngine(slots=3, delay=0.001), budget=Budget(tokens=60), log=lines.append)
    assert report.budget_spent and report.tokens_new == 60 and not report.stuck
    assert any("budget of 60 tokens is spent" in line for line in lines)
    same = draw(tmp_path / "pool", StubEngine(slots=3), budget=Budget(tokens=60))
    assert same.budget_spent and same.trials_new == 0, "tokens of earlier calls count"
    rest = draw(tmp_path / "pool", StubEngine(slots=7), budget=Budget(tokens=10_000, hours=1.0))
    whole = draw(tmp_path / "whole", StubEngine(slots=1))
    assert not rest.budget_spent and not whole.budget_spent
    assert rest.finished == 4 and rest.trials_in_pool == rest.trials_new + 12
    ended, uninterrupted = pool_rows(report.pool), pool_rows(whole.pool)
    assert {key: ended[key] for key in uninterrupted} == uninterrupted


def test_an_hour_budget_hands_out_nothing_once_it_is_over(tmp_path: Path) -> None:
    draw(tmp_path / "warm", StubEngine())  # everything is imported
    report = draw(tmp_path / "pool", StubEngine(slots=2, delay=2.0), budget=Budget(hours=0.3 / 3600))
    assert report.budget_spent and 0 < report.trials_in_pool <= 3 and report.finished < 4


def test_a_budget_that_is_not_needed_is_not_spent(tmp_path: Path) -> None:
    report = draw(tmp_path / "pool", StubEngine(), budget=Budget(tokens=10**6))
    assert not report.budget_spent and report.finished == 4
    with pytest.raises(ValueError, match="0 tokens allows nothing"):
        Budget(tokens=0)

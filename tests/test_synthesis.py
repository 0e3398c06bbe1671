"""Allocation, cutting and cards: values worked out by hand, and one pool for all strategies."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_engine import SAMPLING, TEMPLATE, StubEngine, numbered_queries

from dartlib.queries import Overlap
from dartlib.records import Counts, Query, QueryOutcome, RecordError, Sample, SftRow, read_records, write_records
from dartlib.sampling import Budget
from dartlib.synthesis import (
    MEASURED_VERIFIER,
    StoppingRule,
    StrategyPolicy,
    StrategySettings,
    allocation,
    cut,
    match_dataset,
    power_quotas,
    prop2diff_quotas,
    read_prefixes,
    rows_of,
    synthesize,
    uniform_quotas,
)
from dartlib.synthesis.card import CardTexts
from dartlib.synthesis.curation import Prefix
from dartlib.synthesis.synthesize import write_datasets

SETTINGS = StrategySettings(
    strategies=("vrt", "uniform", "prop2diff"),
    difficulty_trials=4,
    vrt_trials=6,
    uniform_quota=2,
    prop2diff_quota=8,
    trial_cap=10,
)


def test_worked_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(allocation).failed == 0
    assert doctest.testmod(allocation).attempted >= 4


@pytest.mark.parametrize(
    ("rate", "k_p", "expected"),
    [
        (0.0, 192, 1),  # floor of one: the easiest query keeps a synthetic response
        (0.003, 192, 1),
        (0.5, 192, 96),
        (0.999, 192, 191),  # truncation, not rounding: the paper's figure tops out at 191
        (1.0, 192, 192),
        (1 - 0.7, 10, 3),  # 10 * (1 - 0.7) is 2.9999… in floating point and still means 3
    ],
)
def test_prop2diff_truncates_with_a_floor_of_one(rate: float, k_p: int, expected: int) -> None:
    assert prop2diff_quotas({"q": rate}, k_p=k_p) == {"q": expected}


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), min_size=1), st.integers(1, 200))
def test_the_power_family_holds_uniform_and_prop2diff(rates: dict[str, float], k: int) -> None:
    assert power_quotas(rates, k=k, beta=0) == uniform_quotas(rates, k_u=k)
    assert power_quotas(rates, k=k, beta=1) == prop2diff_quotas(rates, k_p=k)


@given(st.lists(st.floats(0, 1), min_size=2), st.integers(1, 200), st.floats(0, 4))
def test_a_harder_query_never_gets_less(rates: list[float], k: int, beta: float) -> None:
    quotas = power_quotas({str(i): rate for i, rate in enumerate(sorted(rates))}, k=k, beta=beta)
    assert list(quotas.values()) == sorted(quotas.values())


@pytest.mark.parametrize("field", ["difficulty_trials", "vrt_trials", "uniform_quota", "prop2diff_quota", "trial_cap"])
def test_settings_refuse_zero_by_name(field: str) -> None:
    values = dict(
        strategies=("vrt",), difficulty_trials=1, vrt_trials=1, uniform_quota=1, prop2diff_quota=1, trial_cap=1
    )
    with pytest.raises(ValueError, match=field):
        StrategySettings(**{**values, field: 0})


def test_settings_refuse_an_unknown_strategy_and_a_low_cap() -> None:
    with pytest.raises(ValueError, match="choose from vrt, uniform, prop2diff"):
        StrategySettings(("best_of",), 1, 1, 1, 1, 8)
    with pytest.raises(ValueError, match="raise it"):
        StrategySettings(("uniform",), 16, 1, 1, 1, 8)
    StrategySettings(("uniform",), 4, 100, 1, 1, 8)  # VRT's number does not matter when VRT is not drawn


def write_samples(path: Path, *rows: tuple[str, int, str]) -> Path:
    """A file of samples from (query_id, trial, flag); "1" is a correct one."""
    verdicts = {"1": "correct", "0": "wrong"}
    samples = [Sample(name, n, 1, verdicts[flag], "7", 5, "stop", f" text {n}") for name, n, flag in rows]
    write_records(path, samples, Sample)
    return path


def cut_one(
    strategy: str, flags: str, stuck: bool = False, settings: StrategySettings = SETTINGS
) -> tuple[list[int], QueryOutcome]:
    """Trials (the query's are the first rows) and outcome of one query."""
    query = numbered_queries([0.5])[0]
    prefixes = {query.query_id: Prefix(0, [flag == "1" for flag in flags])}
    chosen = cut(strategy, [query], prefixes, StrategyPolicy(settings), [query.query_id] if stuck else [])
    return chosen.rows.tolist(), chosen.outcomes[0]


def test_vrt_is_the_first_n_trials_whatever_lies_behind() -> None:
    trials, outcome = cut_one("vrt", "0110011111")
    assert trials == [1, 2, 5]
    assert (outcome.n_trials, outcome.quota, outcome.status) == (6, None, "drawn")


def test_uniform_ends_at_the_trial_that_meets_the_quota() -> None:
    trials, outcome = cut_one("uniform", "0110011111")
    assert trials == [1, 2]
    assert (outcome.n_trials, outcome.n_correct, outcome.quota, outcome.status) == (3, 2, 2, "met")


def test_prop2diff_takes_its_quota_from_the_difficulty_trials_alone() -> None:
    # 2 of the 4 difficulty trials fail: quota 8 * 0.5 = 4, met at trial 6; later trials change nothing
    trials, outcome = cut_one("prop2diff", "0110011111")
    assert trials == [1, 2, 5, 6]
    assert (outcome.fail_rate, outcome.quota, outcome.n_trials, outcome.status) == (0.5, 4, 7, "met")


def test_the_cap_ends_a_query_that_stays_below_its_quota() -> None:
    trials, outcome = cut_one("prop2diff", "00000000011")  # quota 8, trial 10 lies behind the cap of 10
    assert trials == [9]
    assert (outcome.fail_rate, outcome.quota, outcome.n_trials, outcome.status) == (1.0, 8, 10, "cap")


def test_a_stuck_query_ends_before_the_missing_trial_and_is_listed(tmp_path: Path) -> None:
    query = numbered_queries([0.5])[0]
    rows = [(query.query_id, trial, flag) for trial, flag in enumerate("010001111") if trial != 6]
    prefixes = read_prefixes(write_samples(tmp_path / "samples.parquet", *rows))
    chosen = cut("prop2diff", [query], prefixes, StrategyPolicy(SETTINGS), [query.query_id])
    assert chosen.rows.tolist() == [1, 5]
    assert chosen.outcomes[0].status == "stuck" and chosen.outcomes[0].n_trials == 6


def test_prefixes_know_where_their_query_begins_and_other_orders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.parquet"
    rows = [("b", 0, "0"), ("b", 1, "1"), ("b", 3, "1"), ("a", 1, "1"), ("c", 0, "1")]
    found = read_prefixes(write_samples(path, *rows))
    assert found == {"b": Prefix(0, [False, True]), "a": Prefix(3, []), "c": Prefix(4, [True])}
    for wrong in ([rows[0], rows[4], rows[1]], [rows[1], rows[0]], [rows[0], rows[0]]):
        with pytest.raises(RecordError, match="samples.parquet: its rows are not by query, then trial"):
            read_prefixes(write_samples(path, *wrong))
    assert read_prefixes(write_samples(path)) == {}


def test_without_all_difficulty_trials_a_query_gives_no_rows() -> None:
    trials, outcome = cut_one("uniform", "11")
    assert trials == [] and outcome.status == "budget" and outcome.n_difficulty == 2


def test_rows_carry_the_published_columns_and_the_difficulty_pass_rate(tmp_path: Path) -> None:
    query = numbered_queries([0.5])[0]
    rows = [(query.query_id, trial, flag) for trial, flag in enumerate("0111")]
    samples = write_samples(tmp_path / "samples.parquet", *rows)
    chosen = cut("uniform", [query], read_prefixes(samples), StrategyPolicy(SETTINGS))
    origin = (query.query_id, 1, query.source, query.level, 0.75, "uniform")
    assert next(rows_of(samples, chosen, [query])) == SftRow(query.query, "text 1", *origin)


def make(
    folder: Path, engine: StubEngine, settings: StrategySettings = SETTINGS, rates=(1.0, 0.6, 0.3, 0.1, 0.0), **options
):
    return synthesize(
        numbered_queries(rates),
        engine=engine,
        template=TEMPLATE,
        sampling=SAMPLING,
        sampling_seed=1,
        settings=settings,
        output_folder=folder,
        rebuild="make again",
        licences={"teacher": "none"},
        teacher="Stub 1B",
        log=lambda line: None,
        **options,
    )


def test_one_pool_serves_all_strategies_and_each_equals_its_own_run(tmp_path: Path) -> None:
    """Data sets cut from the shared pool equal those of a run for that strategy alone, under other timing."""
    together = make(tmp_path / "all", StubEngine(slots=20, delay=0.005, timing=4))
    for strategy in SETTINGS.strategies:
        alone = StrategySettings((strategy,), 4, 6, 2, 8, 10)
        report = make(tmp_path / strategy, StubEngine(slots=1), alone)
        assert read_records(report.datasets[strategy], SftRow) == read_records(together.datasets[strategy], SftRow)
    outcomes = read_records(tmp_path / "all" / "outcomes.parquet", QueryOutcome)
    assert outcomes == list(together.outcomes) and len(outcomes) == 15
    for strategy, count in together.rows.items():
        assert count == sum(outcome.n_correct for outcome in outcomes if outcome.strategy == strategy)


def test_the_jsonl_equals_the_parquet_and_the_card_tells_the_shortfall(tmp_path: Path) -> None:
    report = make(tmp_path, StubEngine())
    rows = read_records(report.datasets["prop2diff"], SftRow)
    lines = (tmp_path / "datasets" / "prop2diff.jsonl").read_text().splitlines()
    assert [SftRow(**json.loads(line)) for line in lines] == rows
    card = (tmp_path / "datasets" / "prop2diff.md").read_text()
    never = next(o for o in report.outcomes if o.strategy == "prop2diff" and o.n_correct == 0)
    assert f"`{never.query_id}` (0/8)" in card
    assert "`stop`: ('\\n\\n',)" in card, "the template's stop strings, which were in force"
    assert "`teacher`: 'Stub 1B'" in card and "`teacher_weights`: 'stub-weights'" in card
    assert "`prop2diff_quota`: 8" in card and "uniform_quota" not in card
    assert "reasoning is not checked" in card and "make again" in card


def test_a_second_call_changes_no_byte(tmp_path: Path) -> None:
    make(tmp_path, StubEngine())
    before = {path: path.read_bytes() for path in (tmp_path / "datasets").iterdir()}
    engine = StubEngine(slots=3)
    make(tmp_path, engine)
    assert engine.requests == 0
    assert {path: path.read_bytes() for path in (tmp_path / "datasets").iterdir()} == before


def test_a_stopping_rule_gives_up_by_the_numbered_trials_alone(tmp_path: Path) -> None:
    """The same rows, outcomes and listed queries at any concurrency; hopeless queries end before the cap."""
    settings = StrategySettings(("vrt", "uniform", "prop2diff"), 8, 10, 4, 12, 80)
    rates = [0.0] * 6 + [0.03] * 6 + [0.5] * 8 + [0.9] * 5
    reports = [
        make(
            tmp_path / str(slots),
            StubEngine(slots=slots, delay=0.0005, timing=slots),
            settings,
            rates,
            stopping=StoppingRule(threshold=0.5, patience=20),
        )
        for slots in (1, 30)
    ]
    assert reports[0].outcomes == reports[1].outcomes and reports[0].unmet.equals(reports[1].unmet)
    for report in reports:  # drawn in two parts, reported as one call
        assert report.sampling.trials_new == report.sampling.trials_in_pool
    for strategy, path in reports[0].datasets.items():
        assert read_records(path, SftRow) == read_records(reports[1].datasets[strategy], SftRow)
    never = {query.query_id for query in numbered_queries(rates)[:6]}
    ended = [outcome for outcome in reports[0].outcomes if outcome.query_id in never and outcome.quota]
    assert {outcome.status for outcome in ended} == {"given up"}
    assert all(20 <= outcome.n_trials < 80 for outcome in ended)
    assert set(reports[0].unmet.query_id) >= never
    card = (tmp_path / "1" / "datasets" / "uniform.md").read_text()
    assert "by given up" in card
    vrt = [outcome for outcome in reports[0].outcomes if outcome.strategy == "vrt"]
    assert {(outcome.status, outcome.n_trials) for outcome in vrt} == {("drawn", 10)}


def test_known_counts_serve_as_difficulty(tmp_path: Path) -> None:
    """Quotas follow from the given pass rates and no difficulty trials are drawn."""
    queries = numbered_queries([0.9, 0.9])
    counts = {queries[0].query_id: Counts(25, 100), queries[1].query_id: Counts(100, 100)}
    settings = StrategySettings(("prop2diff",), 8, 1, 1, 8, 40)
    report = make(tmp_path, StubEngine(slots=1), settings, [0.9, 0.9], known_counts=counts)
    assert [(outcome.fail_rate, outcome.quota) for outcome in report.outcomes] == [(0.75, 6), (0.0, 1)]
    assert all(outcome.status == "met" and outcome.n_trials < 12 for outcome in report.outcomes)
    assert report.outcomes[1].n_trials <= 3
    # none of the trials drawn here measured a fail rate, so none is told as if it had
    assert {(outcome.n_difficulty, outcome.n_difficulty_correct) for outcome in report.outcomes} == {(0, 0)}


def test_known_counts_of_another_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known counts of 1 queries that are not given, the first 'stranger'"):
        make(tmp_path, StubEngine(), known_counts={"stranger": Counts(1, 2)})


def test_overlaps_and_the_verifier_reach_the_cards(tmp_path: Path) -> None:
    overlap = Overlap("gsm8k-test", 1319, 1, 3, 20, 13, ())
    make(tmp_path, StubEngine(), overlaps=[overlap], verifier=MEASURED_VERIFIER)
    for strategy in SETTINGS.strategies:
        card = (tmp_path / "datasets" / f"{strategy}.md").read_text()
        assert "gsm8k-test: 1 of 1319 questions whole, 3 sharing 13 words" in card
        assert "truly right (95 % interval)" in card and MEASURED_VERIFIER.source in card


def test_a_budget_leaves_data_sets_that_say_so(tmp_path: Path) -> None:
    report = make(tmp_path, StubEngine(slots=2), budget=Budget(tokens=100))
    assert report.sampling.budget_spent
    assert "budget" in {outcome.status for outcome in report.outcomes}
    whole = make(tmp_path, StubEngine(slots=2))
    assert "budget" not in {outcome.status for outcome in whole.outcomes}


def test_the_exponent_bends_prop2diff() -> None:
    """Fail rate 1/4: a quota of 8 becomes 8 at beta 0, 4 at 1/2, 2 at 1 and 1 (the floor) at 2."""
    for exponent, quota in ((0.0, 8), (0.5, 4), (1.0, 2), (2.0, 1)):
        settings = StrategySettings(("prop2diff",), 4, 1, 1, 8, 10, exponent)
        assert cut_one("prop2diff", "1110", settings=settings)[1].quota == quota


@pytest.mark.parametrize("tokens", [60, 400, 1200])
def test_a_budget_met_on_the_way_changes_no_data_set(tmp_path: Path, tokens: int) -> None:
    """Ended in the difficulty trials or behind them, then raised: the outcomes of a run without a budget."""
    rule, rates = StoppingRule(threshold=0.5, patience=20), [0.0] * 6 + [0.03] * 6 + [0.5] * 8 + [0.9] * 5
    settings = StrategySettings(("uniform", "prop2diff"), 8, 1, 4, 12, 80)
    ended = make(tmp_path / "a", StubEngine(slots=9), settings, rates, stopping=rule, budget=Budget(tokens=tokens))
    assert ended.sampling.budget_spent and ended.sampling.trials_in_pool <= tokens // 5 + 9
    raised = make(tmp_path / "a", StubEngine(slots=4), settings, rates, stopping=rule)
    whole = make(tmp_path / "b", StubEngine(slots=30), settings, rates, stopping=rule)
    assert raised.outcomes == whole.outcomes
    for strategy, path in raised.datasets.items():
        assert path.read_bytes() == whole.datasets[strategy].read_bytes()


@pytest.mark.parametrize("given", ["known counts", "stopping rule"])
def test_matched_sets_follow_the_policy_that_drew_the_pool(tmp_path: Path, given: str) -> None:
    """With difficulty from elsewhere no query has its difficulty trials; a given-up query must stay given up."""
    rates = [0.9] * 4 + [0.5] * 4 + [0.0] * 4
    queries, options = numbered_queries(rates), {"stopping": StoppingRule(threshold=0.5, patience=20)}
    if given == "known counts":
        options = {"known_counts": {q.query_id: Counts(round(8 * r), 8) for q, r in zip(queries, rates, strict=True)}}
    report = make(tmp_path, StubEngine(), StrategySettings(("uniform", "prop2diff"), 8, 1, 4, 12, 80), rates, **options)
    prefixes = read_prefixes(tmp_path / "samples.parquet")
    for strategy, count in report.rows.items():
        whole = match_dataset(strategy, queries, prefixes, report.policy, total=count, seed=1)
        rows = list(rows_of(tmp_path / "samples.parquet", whole.cut, queries))
        assert rows == read_records(report.datasets[strategy], SftRow)
        half = match_dataset(strategy, queries, prefixes, report.policy, total=count // 2, seed=1)
        assert sum(half.after.values()) == count // 2 <= sum(half.before.values())


def test_throughput_is_told_from_the_pool_also_when_nothing_was_drawn(tmp_path: Path) -> None:
    """Stub responses: 5 tokens in half a second, two at a time."""

    class Timed(StubEngine):
        async def complete(self, prompt, sampling, seed):
            return replace(await super().complete(prompt, sampling, seed), seconds=0.5)

    assert make(tmp_path, Timed(slots=2)).tokens_per_second == 20
    again = make(tmp_path, Timed(slots=2))
    assert again.sampling.trials_new == 0 and again.tokens_per_second == 20
    assert make(tmp_path / "untimed", StubEngine()).tokens_per_second is None


def test_the_committed_pool_gives_the_committed_data_sets(tmp_path: Path) -> None:
    """The reference run's samples, cut again: rows equal by value, outcomes too."""
    reference = Path(__file__).parents[1] / "papermill_runs" / "reference" / "02_synthesis"
    manifest = json.loads((reference / "manifest.json").read_text())["parameters"]
    names = ("DIFFICULTY_TRIALS", "VRT_TRIALS", "UNIFORM_QUOTA", "PROP2DIFF_QUOTA", "TRIAL_CAP")
    settings = StrategySettings(tuple(manifest["STRATEGIES"]), *(manifest[name] for name in names))
    queries = read_records(reference / "queries.parquet", Query)
    place = {query.query_id: number for number, query in enumerate(queries)}
    samples = read_records(reference / "samples.parquet", Sample)
    samples.sort(key=lambda one: (place[one.query_id], one.trial))
    write_records(tmp_path / "samples.parquet", samples, Sample)
    texts = CardTexts("again", {"queries": "see their source"}, {})
    rows, outcomes = write_datasets(tmp_path, queries, StrategyPolicy(settings), texts, log=lambda line: None)
    assert outcomes == read_records(reference / "outcomes.parquet", QueryOutcome)
    for strategy, count in rows.items():
        made, kept = ((folder / "datasets" / f"{strategy}.jsonl").read_text() for folder in (tmp_path, reference))
        assert made == kept and len(made.splitlines()) == count
        assert [SftRow(**json.loads(line)) for line in kept.splitlines()] == read_records(
            tmp_path / "datasets" / f"{strategy}.parquet", SftRow
        )


def test_a_strategy_has_its_name_in_every_table() -> None:
    """Who adds one to STRATEGIES is told what is still to be written."""
    from dartlib.analysis import style
    from dartlib.records import STRATEGIES
    from dartlib.synthesis import card, strategies

    named = [strategies.SIZE_SETTINGS, card._HOW, style._NAMES, style._LOOKS]
    assert all(set(STRATEGIES) <= set(table) for table in named)

"""From queries to data sets: draw one pool for all chosen strategies, then cut each data set from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dartlib.engines import Engine, SamplingParameters
from dartlib.files import write_table_atomically, write_text_atomically
from dartlib.grading import GRADER_VERSION
from dartlib.queries import Overlap, Template
from dartlib.records import Query, QueryOutcome, write_records
from dartlib.sampling import Budget, Policy, SamplingReport, open_pool, sample
from dartlib.synthesis.card import data_card
from dartlib.synthesis.curation import Sample, cut, prefixes
from dartlib.synthesis.difficulty import Counts, fit_priors
from dartlib.synthesis.export import write_dataset, write_front_page
from dartlib.synthesis.filters import curate
from dartlib.synthesis.stopping import FIRST_REVIEW, PosteriorStopping, StoppingRule, UnmetQuery, unmet_queries
from dartlib.synthesis.strategies import DifficultyPolicy, StrategyPolicy, StrategySettings
from dartlib.synthesis.truth import VerifierCard

if TYPE_CHECKING:
    import pandas as pd

_SNAPSHOT_COLUMNS = ["query_id", "trial", "level", "verdict", "answer", "n_tokens", "finish_reason", "response"]


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What a synthesis left behind: the sampling report, and per strategy the data set's path and row count."""

    sampling: SamplingReport
    datasets: Mapping[str, Path]
    rows: Mapping[str, int]
    outcomes: Sequence[QueryOutcome]
    unmet: Sequence[UnmetQuery]  # below their quota, with their posterior


def synthesize(
    queries: Sequence[Query],
    *,
    engine: Engine,
    template: Template,
    sampling: SamplingParameters,
    sampling_seed: int,
    settings: StrategySettings,
    output_folder: Path,
    rebuild: str,
    licences: Mapping[str, str],
    pool_folder: Path | None = None,
    known_counts: Counts | None = None,
    stopping: StoppingRule | None = None,
    budget: Budget | None = None,
    deduplicate: str = "off",
    drop_flags: Sequence[str] = (),
    verifier: VerifierCard | None = None,
    overlaps: Sequence[Overlap] = (),
    allow_unusable: bool = False,
    log: Callable[[str], None] = print,
) -> SynthesisReport:
    """Sample until every chosen strategy is served, then write its data sets under ``output_folder``.

    Writes ``queries.parquet``, ``pool/``, ``samples.parquet`` (trials with grades), ``outcomes.parquet``, and per
    strategy ``datasets/<strategy>.parquet``, ``.jsonl`` and ``.md`` (its card), with a ``README.md`` that makes the
    folder a data set of the Hub. Killed and called again it goes on from the pool. ``pool_folder`` lets several runs
    share one pool. ``deduplicate`` and ``drop_flags`` filter the rows (see `curate`), after the quotas were met.
    ``verifier`` lets the cards estimate how many answers are truly right, ``overlaps`` lets them name benchmarks among
    the queries. ``known_counts`` (correct, trials) measured elsewhere, by ``query_id``, serve as difficulty in place of
    the difficulty trials of the queries they name; all must be among ``queries``. ``stopping`` gives
    queries up before the cap, by populations fitted on the difficulty trials, which are then drawn first. ``budget``
    ends the sampling; called again with a larger one it goes on. ``allow_unusable``: go on although most replies are
    cut or hold no answer. While ``report.sampling.stuck`` names queries, the data sets are not final.

    Raises what ``sample`` raises, and ValueError for counts of a query that is not there.
    """
    levels = _levels(queries)
    known = dict(known_counts or {})
    if strangers := sorted(known.keys() - levels.keys()):
        raise ValueError(f"known counts of {len(strangers)} queries that are not given, the first {strangers[0]!r}")
    write_records(output_folder / "queries.parquet", queries, Query)

    def draw(policy: Policy, allowed: Budget | None) -> SamplingReport:
        return sample(
            queries,
            engine=engine,
            template=template,
            sampling=sampling,
            sampling_seed=sampling_seed,
            policy=policy,
            pool_folder=pool_folder or output_folder / "pool",
            budget=allowed,
            allow_unusable=allow_unusable,
            log=log,
        )

    report, policy = _draw_pool(draw, queries, settings, known, stopping, budget)
    frame = open_pool(report.pool).samples(queries, GRADER_VERSION)
    _write_snapshot(output_folder / "samples.parquet", frame)
    samples_by_query = prefixes(_samples(frame))
    parameters = {"teacher": engine.weights, "engine": engine.name, "template": template.name}
    parameters |= asdict(sampling) | {"sampling_seed": sampling_seed, "grader": GRADER_VERSION}
    all_outcomes: list[QueryOutcome] = []
    rows_of = {}
    for strategy in settings.strategies:
        rows, outcomes = cut(strategy, queries, samples_by_query, settings, report.stuck, policy)
        rows, dropped = curate(rows, deduplicate=deduplicate, drop=drop_flags)
        stem = output_folder / "datasets" / strategy
        write_dataset(stem, rows)
        card = data_card(
            strategy,
            rows,
            outcomes,
            parameters=parameters | _own_settings(strategy, settings),
            rebuild=rebuild,
            licences=licences,
            verifier=verifier,
            dropped=dropped,
            overlaps=overlaps,
        )
        write_text_atomically(stem.with_suffix(".md"), card)
        all_outcomes += outcomes
        rows_of[strategy] = len(rows)
        log(f"{strategy}: {len(rows)} responses to {sum(o.n_correct > 0 for o in outcomes)} of {len(queries)} queries")
    write_front_page(output_folder / "datasets", settings.strategies, licences)
    write_records(output_folder / "outcomes.parquet", all_outcomes, QueryOutcome)
    paths = {strategy: output_folder / "datasets" / f"{strategy}.parquet" for strategy in settings.strategies}
    measured = _difficulty_counts(samples_by_query, settings.difficulty_trials) | known
    unmet = unmet_queries(all_outcomes, fit_priors(measured, levels)) if measured else []
    return SynthesisReport(report, paths, rows_of, all_outcomes, unmet)


def _draw_pool(
    draw: Callable[[Policy, Budget | None], SamplingReport],
    queries: Sequence[Query],
    settings: StrategySettings,
    known: Counts,
    stopping: StoppingRule | None,
    budget: Budget | None,
) -> tuple[SamplingReport, StrategyPolicy]:
    """Draw until every strategy is served; with a stopping rule, first the difficulty trials its populations need."""
    rates = {query_id: 1 - correct / trials for query_id, (correct, trials) in known.items()}
    policy = StrategyPolicy(settings, fail_rates=rates)
    if stopping is None:
        return draw(policy, budget), policy
    report = draw(DifficultyPolicy(settings, known), budget)
    samples = prefixes(_samples(open_pool(report.pool).samples(queries, GRADER_VERSION)))
    counts = _difficulty_counts(samples, settings.difficulty_trials) | dict(known)
    if report.budget_spent or not counts:
        return report, policy
    levels = _levels(queries)
    rule = PosteriorStopping(stopping, fit_priors(counts, levels), max(settings.difficulty_trials, FIRST_REVIEW))
    policy = StrategyPolicy(settings, fail_rates=rates, stopping=rule, levels=levels)
    if budget is not None and budget.hours is not None:
        budget = replace(budget, hours=max(1e-6, budget.hours - report.seconds / 3600))
    return _both(report, draw(policy, budget)), policy


def _both(first: SamplingReport, second: SamplingReport) -> SamplingReport:
    """The second report, its counts of this call with those of the first."""
    names = ("trials_new", "tokens_new", "seconds", "failed_requests")
    return replace(second, **{name: getattr(first, name) + getattr(second, name) for name in names})


def _levels(queries: Sequence[Query]) -> dict[str, int | None]:
    return {query.query_id: query.level for query in queries}


def _difficulty_counts(
    samples_by_query: Mapping[str, Sequence[Sample]], difficulty_trials: int
) -> dict[str, tuple[int, int]]:
    """(correct, n_d) over exactly the difficulty trials, of the queries that have them all."""
    return {
        query_id: (sum(sample.correct for sample in samples[:difficulty_trials]), difficulty_trials)
        for query_id, samples in samples_by_query.items()
        if len(samples) >= difficulty_trials
    }


def _own_settings(strategy: str, settings: StrategySettings) -> dict[str, object]:
    """The settings that decide this strategy's data set."""
    own = {"vrt": ["vrt_trials"], "uniform": ["uniform_quota"], "prop2diff": ["prop2diff_quota", "exponent"]}[strategy]
    own += ["difficulty_trials"] + ([] if strategy == "vrt" else ["trial_cap"])
    return {name: getattr(settings, name) for name in own}


def _samples(frame: pd.DataFrame) -> list[Sample]:
    columns = frame[["query_id", "trial", "verdict", "response"]]
    return [Sample(*row) for row in columns.itertuples(index=False, name=None)]


def _write_snapshot(path: Path, frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame[_SNAPSHOT_COLUMNS], preserve_index=False)
    write_table_atomically(path, table)

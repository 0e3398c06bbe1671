"""From queries to data sets: draw one pool for all chosen strategies, then cut each data set from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dartlib.engines import Engine, SamplingParameters
from dartlib.grading import GRADER_VERSION
from dartlib.queries import Template
from dartlib.records import (
    Query,
    QueryOutcome,
    write_records,
    write_table_atomically,
    write_text_atomically,
)
from dartlib.sampling import SamplingReport, open_pool, sample
from dartlib.synthesis.card import data_card
from dartlib.synthesis.curation import Sample, cut, prefixes
from dartlib.synthesis.export import write_dataset, write_front_page
from dartlib.synthesis.filters import curate
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings
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
    deduplicate: str = "off",
    drop_flags: Sequence[str] = (),
    verifier: VerifierCard | None = None,
    log: Callable[[str], None] = print,
) -> SynthesisReport:
    """Sample until every chosen strategy is served, then write its data sets under ``output_folder``.

    Writes ``queries.parquet``, ``pool/``, ``samples.parquet`` (trials with grades), ``outcomes.parquet``, and per
    strategy ``datasets/<strategy>.parquet``, ``.jsonl`` and ``.md`` (its card), with a ``README.md`` that makes the
    folder a data set of the Hub. Killed and called again it goes on from the pool. ``pool_folder`` lets several runs
    share one pool. ``deduplicate`` and ``drop_flags`` filter the rows (see `curate`), after the quotas were met.
    ``verifier`` lets the cards estimate how many answers are truly right. Raises what ``sample`` raises.
    """
    write_records(output_folder / "queries.parquet", queries, Query)
    report = sample(
        queries,
        engine=engine,
        template=template,
        sampling=sampling,
        sampling_seed=sampling_seed,
        policy=StrategyPolicy(settings),
        pool_folder=pool_folder or output_folder / "pool",
        log=log,
    )
    frame = open_pool(report.pool).samples(queries, GRADER_VERSION)
    _write_snapshot(output_folder / "samples.parquet", frame)
    samples_by_query = prefixes(_samples(frame))
    parameters = {"teacher": engine.weights, "engine": engine.name, "template": template.name}
    parameters |= asdict(sampling) | {"sampling_seed": sampling_seed, "grader": GRADER_VERSION}
    all_outcomes: list[QueryOutcome] = []
    counts = {}
    for strategy in settings.strategies:
        rows, outcomes = cut(strategy, queries, samples_by_query, settings, report.stuck)
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
        )
        write_text_atomically(stem.with_suffix(".md"), card)
        all_outcomes += outcomes
        counts[strategy] = len(rows)
        log(f"{strategy}: {len(rows)} responses to {sum(o.n_correct > 0 for o in outcomes)} of {len(queries)} queries")
    write_front_page(output_folder / "datasets", settings.strategies, licences)
    write_records(output_folder / "outcomes.parquet", all_outcomes, QueryOutcome)
    paths = {strategy: output_folder / "datasets" / f"{strategy}.parquet" for strategy in settings.strategies}
    return SynthesisReport(report, paths, counts, all_outcomes)


def _own_settings(strategy: str, settings: StrategySettings) -> dict[str, object]:
    """The settings that decide this strategy's data set."""
    own = {"vrt": ["vrt_trials"], "uniform": ["uniform_quota"], "prop2diff": ["prop2diff_quota"]}[strategy]
    own += ["difficulty_trials"] + ([] if strategy == "vrt" else ["trial_cap"])
    return {name: getattr(settings, name) for name in own}


def _samples(frame: pd.DataFrame) -> list[Sample]:
    columns = frame[["query_id", "trial", "verdict", "response"]]
    return [Sample(*row) for row in columns.itertuples(index=False, name=None)]


def _write_snapshot(path: Path, frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame[_SNAPSHOT_COLUMNS], preserve_index=False)
    write_table_atomically(path, table)

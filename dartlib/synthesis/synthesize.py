"""From queries to data sets: draw one pool for all chosen strategies, then cut each data set from it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from dartlib.engines import Engine, SamplingParameters
from dartlib.files import write_text_atomically
from dartlib.grading import GRADER_VERSION
from dartlib.queries import Overlap, Template
from dartlib.records import Counts, Query, QueryOutcome, write_records
from dartlib.sampling import Budget, ConstantPolicy, Policy, PoolReader, SamplingReport, open_pool, read_setting, sample
from dartlib.synthesis.card import CardTexts, data_card, front_page
from dartlib.synthesis.curation import curate, cut, difficulty_counts, prefixes_of, read_prefixes, rows_of
from dartlib.synthesis.datasets import Tally, write_dataset
from dartlib.synthesis.difficulty import fit_priors
from dartlib.synthesis.stopping import FIRST_REVIEW, PosteriorStopping, StoppingRule, unmet_queries
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings
from dartlib.synthesis.verifier import VerifierCard

_HASHES = ("weights", "template")  # of a setting: cards tell their names


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What a synthesis left behind: the sampling report, and per strategy the data set's path and row count.

    ``policy`` is what the pool was drawn by. ``tokens_per_second`` is the throughput with all slots busy, from the
    pool's own records, so that a call which had nothing left to draw tells it, too; None where nothing was timed.
    """

    sampling: SamplingReport
    datasets: Mapping[str, Path]
    rows: Mapping[str, int]
    outcomes: Sequence[QueryOutcome]
    unmet: pd.DataFrame | None  # below their quota, with their posterior; None where no difficulty is known
    policy: StrategyPolicy
    tokens_per_second: float | None


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
    teacher: str | None = None,
    pool_folder: Path | None = None,
    known_counts: Mapping[str, Counts] | None = None,
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
    folder a data set of the Hub. Killed and called again it goes on from the pool. ``teacher`` is the model's name for
    the cards, beside the hash of its weights. ``pool_folder`` lets several runs share one pool. ``deduplicate`` and
    ``drop_flags`` filter the rows (see `curate`), after the quotas were met.
    ``verifier`` lets the cards estimate how many answers are truly right, ``overlaps`` lets them name benchmarks among
    the queries. ``known_counts`` measured elsewhere, by ``query_id``, serve as difficulty in place of the difficulty
    trials of the queries they name; all must be among ``queries``. ``stopping`` gives
    queries up before the cap, by populations fitted on the difficulty trials, which are then drawn first. ``budget``
    ends the sampling; called again with a larger one it goes on. ``allow_unusable``: go on although most replies are
    cut or hold no answer. While ``report.sampling.stuck`` names queries, the data sets are not final.

    Raises what ``sample`` raises, and ValueError for counts of a query that is not there.
    """
    levels = {query.query_id: query.level for query in queries}
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
    pool = open_pool(report.pool)
    samples = output_folder / "samples.parquet"
    pool.write_samples(samples, queries, GRADER_VERSION)
    for name in pool.unreadable:
        log(f"pool {report.setting}: left out {name}; move it away and run again: its trials will be drawn again")
    parameters: dict[str, object] = {"teacher": teacher or engine.weights, "teacher_weights": engine.weights}
    parameters |= {"engine": engine.name, "template": template.name, "grader": GRADER_VERSION}
    parameters |= {key: value for key, value in asdict(read_setting(report.pool)).items() if key not in _HASHES}
    texts = CardTexts(rebuild, licences, parameters, verifier, overlaps)
    filters = {"deduplicate": deduplicate, "drop": drop_flags}
    rows, outcomes = write_datasets(output_folder, queries, policy, texts, report.stuck, filters=filters, log=log)
    measured = difficulty_counts(read_prefixes(samples), settings.difficulty_trials) | known
    return SynthesisReport(
        sampling=report,
        datasets={strategy: output_folder / "datasets" / f"{strategy}.parquet" for strategy in settings.strategies},
        rows=rows,
        outcomes=outcomes,
        unmet=unmet_queries(outcomes, fit_priors(measured, levels)) if measured else None,
        policy=policy,
        tokens_per_second=_throughput(pool, engine.slots),
    )


def write_datasets(
    output_folder: Path,
    queries: Sequence[Query],
    policy: StrategyPolicy,
    texts: CardTexts,
    stuck: Collection[str] = (),
    *,
    filters: Mapping[str, Any] = {},
    log: Callable[[str], None] = print,
) -> tuple[dict[str, int], list[QueryOutcome]]:
    """Cut every strategy's data set from ``samples.parquet`` in ``output_folder``: files, cards, ``outcomes.parquet``.

    ``policy`` is the one that drew the pool; ``filters`` are those of `curate`. Returns rows by strategy, and outcomes.
    """
    samples, folder = output_folder / "samples.parquet", output_folder / "datasets"
    prefixes = read_prefixes(samples)
    rows: dict[str, int] = {}
    outcomes: list[QueryOutcome] = []
    for strategy in policy.settings.strategies:
        chosen, tally = cut(strategy, queries, prefixes, policy, stuck), Tally()
        kept = tally.kept(curate(rows_of(samples, chosen, queries), **filters))
        rows[strategy] = write_dataset(folder / strategy, kept)
        own = replace(texts, parameters={**texts.parameters, **policy.settings.of(strategy)})
        write_text_atomically(folder / f"{strategy}.md", data_card(strategy, tally, chosen.outcomes, own))
        outcomes += chosen.outcomes
        covered = sum(outcome.n_correct > 0 for outcome in chosen.outcomes)
        log(f"{strategy}: {rows[strategy]} responses to {covered} of {len(queries)} queries")
    write_text_atomically(folder / "README.md", front_page(rows, texts.licences))
    write_records(output_folder / "outcomes.parquet", outcomes, QueryOutcome)
    return rows, outcomes


def _draw_pool(
    draw: Callable[[Policy, Budget | None], SamplingReport],
    queries: Sequence[Query],
    settings: StrategySettings,
    known: dict[str, Counts],
    stopping: StoppingRule | None,
    budget: Budget | None,
) -> tuple[SamplingReport, StrategyPolicy]:
    """Draw until every strategy is served; with a stopping rule, first the difficulty trials its populations need."""
    policy = StrategyPolicy(
        settings,
        fail_rates={query_id: 1 - count.correct / count.trials for query_id, count in known.items()},
        levels={query.query_id: query.level for query in queries},
    )
    if stopping is None:
        return draw(policy, budget), policy
    n_d = settings.difficulty_trials
    first = {query.query_id: 0 if query.query_id in known else n_d for query in queries}
    report = draw(ConstantPolicy(settings.trial_cap, trials=first), budget)
    counts = difficulty_counts(prefixes_of(open_pool(report.pool).ledger(queries, GRADER_VERSION)), n_d) | known
    if report.budget_spent or not counts:
        return report, policy
    rule = PosteriorStopping(stopping, fit_priors(counts, policy.levels), max(n_d, FIRST_REVIEW))
    policy = replace(policy, stopping=rule)
    if budget is not None and budget.hours is not None:
        budget = replace(budget, hours=max(1e-6, budget.hours - report.seconds / 3600))
    return _both(report, draw(policy, budget)), policy


def _both(first: SamplingReport, second: SamplingReport) -> SamplingReport:
    """The second report, its counts of this call with those of the first."""
    names = ("trials_new", "tokens_new", "seconds", "failed_requests")
    return replace(second, **{name: getattr(first, name) + getattr(second, name) for name in names})


def _throughput(pool: PoolReader, slots: int) -> float | None:
    """Tokens per second of ``slots`` requests at a time, each as fast as those in the pool were."""
    tokens, seconds = (pool.trials([name])[name].to_numpy().sum() for name in ("n_tokens", "seconds"))
    return float(slots * tokens / seconds) if seconds else None

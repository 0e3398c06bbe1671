"""Cutting data sets from a pool: which numbered trials enter, and what each query got. Deterministic.

A quota data set holds the correct trials up to and including the one that meets the quota; trials behind it stay in
the pool and enter neither a data set nor a pass rate. VRT(n) is trials 0..n-1. All of it is decided by (query, trial,
correct) alone; texts are read when a data set is written, and only those that enter it.
"""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from dartlib.records import Counts, Query, QueryOutcome, RecordError, Sample, SftRow, Verdict, check_columns
from dartlib.sampling import Demand, Ledger, meeting_index
from dartlib.synthesis.allocation import fail_rate
from dartlib.synthesis.red_flags import RED_FLAGS, normalise
from dartlib.synthesis.strategies import SIZE_SETTINGS, StrategyPolicy

Places = npt.NDArray[np.int64]
DEDUPLICATIONS = ("off", "exact", "normalised")


class Prefix(NamedTuple):
    """A query's verdicts on its trials 0, 1, 2 … up to the first missing one; trial 0 is row ``first_row``."""

    first_row: int
    correct: list[bool]


@dataclass(frozen=True, slots=True)
class Cut:
    """One strategy's data set before its texts are read: rows of the samples, and what became of every query."""

    strategy: str
    rows: Places
    outcomes: Sequence[QueryOutcome]


def read_prefixes(samples: Path) -> dict[str, Prefix]:
    """The prefix of every query in a file of Sample records, from three of its columns.

    Raises RecordError when it is no such file, or its rows are not by query, then trial.
    """
    columns = check_columns(samples, Sample, ["query_id", "trial", "verdict"])
    texts = ["query_id", "verdict"]  # as numbers: no text per trial
    table = pq.read_table(samples, columns=columns, read_dictionary=texts).unify_dictionaries().combine_chunks()
    ids, verdicts = (table[name].combine_chunks() for name in texts)
    names = verdicts.dictionary.to_pylist()
    right = names.index(Verdict.CORRECT.value) if Verdict.CORRECT.value in names else -1
    owners, correct = ids.indices.to_numpy(), verdicts.indices.to_numpy() == right
    if (np.diff(owners) < 0).any() or ((np.diff(owners) == 0) & (np.diff(table["trial"].to_numpy()) <= 0)).any():
        raise RecordError(f"{samples}: its rows are not by query, then trial: make it again")
    return _prefixes(ids.dictionary.to_pylist(), owners, table["trial"].to_numpy(), correct)


def prefixes_of(ledger: Ledger) -> dict[str, Prefix]:
    """The prefix of every query of a pool, up to the first trial that is missing or not graded."""
    return _prefixes(ledger.query_ids, *ledger.graded_arrays())


def _prefixes(names: Sequence[str], owners: Any, trials: Any, correct: Any) -> dict[str, Prefix]:
    starts = np.searchsorted(owners, np.arange(len(names) + 1))
    found = {}
    for name, start, end in zip(names, starts.tolist(), starts[1:].tolist(), strict=False):
        gaps = np.flatnonzero(trials[start:end] != np.arange(end - start))
        found[name] = Prefix(start, correct[start : start + gaps[0] if len(gaps) else end].tolist())
    return found


def difficulty_counts(prefixes: Mapping[str, Prefix], difficulty_trials: int) -> dict[str, Counts]:
    """Counts over exactly the difficulty trials, of the queries that have them all."""
    return {
        query_id: Counts(sum(prefix.correct[:difficulty_trials]), difficulty_trials)
        for query_id, prefix in prefixes.items()
        if len(prefix.correct) >= difficulty_trials
    }


def cut(
    strategy: str,
    queries: Sequence[Query],
    prefixes: Mapping[str, Prefix],
    policy: StrategyPolicy,
    stuck: Collection[str] = (),
) -> Cut:
    """One strategy's data set and what became of every query, in the order of ``queries``.

    ``policy`` is the one that drew the pool. A query whose difficulty is not known gives no rows.
    """
    rows, outcomes = [np.zeros(0, np.int64)], []
    for query in queries:
        prefix = prefixes.get(query.query_id, Prefix(0, []))
        outcome, chosen = _cut_query(strategy, query, prefix.correct, policy, query.query_id in stuck)
        outcomes.append(outcome)
        rows.append(prefix.first_row + np.array(chosen, np.int64))
    return Cut(strategy, np.concatenate(rows), outcomes)


def _cut_query(
    strategy: str, query: Query, verdicts: Sequence[bool], policy: StrategyPolicy, is_stuck: bool
) -> tuple[QueryOutcome, list[int]]:
    """One query's outcome and the correct trials that enter the data set."""
    settings = policy.settings
    measured = [] if query.query_id in policy.fail_rates else verdicts[: settings.difficulty_trials]
    rate = policy.fail_rate(query.query_id, verdicts)
    asked = policy.strategy_demand(strategy, query.query_id, verdicts)
    demand = asked or Demand(1, None, settings.trial_cap)
    index = meeting_index(verdicts, demand) if asked else None
    n_trials = len(verdicts) if index is None else index + 1
    chosen = [trial for trial in range(n_trials) if verdicts[trial]] if asked else []
    outcome = QueryOutcome(
        query_id=query.query_id,
        strategy=strategy,
        level=query.level,
        n_difficulty=len(measured),
        n_difficulty_correct=sum(measured),
        fail_rate=rate if rate is not None else fail_rate(measured) if measured else 1.0,
        quota=demand.quota,
        cap=demand.cap,
        n_trials=n_trials,
        n_correct=len(chosen),
        status=_status(demand, index, len(chosen), is_stuck, settings.trial_cap),
    )
    return outcome, chosen


def _status(demand: Demand, index: int | None, n_correct: int, is_stuck: bool, trial_cap: int) -> str:
    if index is None:
        return "stuck" if is_stuck else "budget"
    if demand.quota is None:
        return "drawn"
    if n_correct >= demand.quota:
        return "met"
    return "cap" if demand.cap == trial_cap else "given up"


@dataclass(frozen=True, slots=True)
class MatchedSet:
    """A data set cut to size: ``k`` that was needed, and rows per level before and after dropping."""

    cut: Cut
    k: int
    before: Mapping[int | None, int]
    after: Mapping[int | None, int]


def match_dataset(
    strategy: str,
    queries: Sequence[Query],
    prefixes: Mapping[str, Prefix],
    policy: StrategyPolicy,
    *,
    total: int,
    seed: int,
    n_tokens: Places | None = None,
) -> MatchedSet:
    """Exactly ``total`` rows; or, with ``n_tokens`` of every row of the samples, the fewest rows that hold ``total``.

    The smallest k whose data set reaches the total, then rows dropped uniformly at random (seeded), order kept: at
    equal rows the paper's Prop2Diff set has 1.74 times the response tokens of its Uniform set, so both are worth
    making. ``policy`` is the one that drew the pool: its k is the largest that is tried. Raises ValueError when even
    that is too small: a set is never padded.
    """
    setting = SIZE_SETTINGS[strategy]
    largest = getattr(policy.settings, setting)

    def cut_at(k: int) -> Cut:
        changed: dict[str, Any] = {setting: k}
        return cut(strategy, queries, prefixes, replace(policy, settings=replace(policy.settings, **changed)))

    def size(rows: Places) -> int:
        return len(rows) if n_tokens is None else int(n_tokens[rows].sum())

    k = 1 + bisect_left(range(1, largest + 1), total, key=lambda candidate: size(cut_at(candidate).rows))
    if k > largest:
        unit = "rows" if n_tokens is None else "response tokens"
        raise ValueError(
            f"{strategy}: {total} {unit} wanted, {setting}={largest} gives {size(cut_at(largest).rows)}: lower the "
            f"total or draw the pool with a larger {setting}"
        )
    whole = cut_at(k)
    kept = _drop(whole.rows, total, seed, n_tokens)
    levels = [outcome.level for outcome in whole.outcomes for _ in range(outcome.n_correct)]
    chosen = replace(whole, rows=whole.rows[kept])
    return MatchedSet(chosen, k, Counter(levels), Counter(levels[place] for place in kept))


def _drop(rows: Places, total: int, seed: int, n_tokens: Places | None) -> list[int]:
    """Places in ``rows`` that stay: ``total`` at random, or in random order until they hold ``total`` tokens."""
    choose = random.Random(seed)
    if n_tokens is None:
        return sorted(choose.sample(range(len(rows)), total))
    order = list(range(len(rows)))
    choose.shuffle(order)
    held = np.cumsum(n_tokens[rows[order]])
    return sorted(order[: int(np.searchsorted(held, total)) + 1])


def rows_of(samples: Path, chosen: Cut, queries: Sequence[Query]) -> Iterator[SftRow]:
    """The data set's rows with their texts, read from the samples one row group at a time.

    ``pass_rate`` is 1 - the fail rate that decided the quota.
    """
    by_id = {query.query_id: query for query in queries}
    rates = {outcome.query_id: 1 - outcome.fail_rate for outcome in chosen.outcomes}
    places = np.sort(chosen.rows)
    with pq.ParquetFile(samples) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = places[slice(*np.searchsorted(places, [start, end]))] - start
            if len(inside):
                table = file.read_row_group(group, columns=["query_id", "trial", "response"]).take(inside)
                for sample in table.to_pylist():
                    query, text = by_id[sample["query_id"]], sample["response"].strip()
                    origin = (query.query_id, sample["trial"], query.source, query.level, rates[query.query_id])
                    yield SftRow(query.query, text, *origin, chosen.strategy)
            start = end


def curate(
    rows: Iterable[SftRow], *, deduplicate: str = "off", drop: Collection[str] = ()
) -> Iterator[tuple[SftRow, str | None]]:
    """Each row with the name of the filter that drops it, None where it stays. The rows of a query lie together.

    Off by default: the paper keeps every correct response. ``deduplicate``: ``off``, ``exact`` or ``normalised``
    equality of responses to one query; the earliest trial stays. ``drop``: red flags whose rows go. A row counts for
    the first filter that drops it: flags in the order given, then ``duplicate``. Raises ValueError for an unknown name.
    """
    if deduplicate not in DEDUPLICATIONS:
        raise ValueError(f"deduplicate is {deduplicate!r}: choose from {', '.join(DEDUPLICATIONS)}")
    if unknown := sorted(set(drop) - set(RED_FLAGS)):
        raise ValueError(f"unknown red flag {unknown[0]!r}: choose from {', '.join(RED_FLAGS)}")
    key = {"off": None, "exact": str.strip, "normalised": normalise}[deduplicate]
    query_id, seen = "", set[str]()
    for row in rows:
        if row.query_id != query_id:
            query_id, seen = row.query_id, set()
        reason = next((name for name in drop if RED_FLAGS[name](row.response)), None)
        if reason is None and key is not None:
            text = key(row.response)
            reason = "duplicate" if text in seen else None
            seen.add(text)
        yield row, reason

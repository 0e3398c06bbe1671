"""Cutting data sets from a pool: which numbered trials enter, and what each query got. Deterministic.

A quota data set holds the correct trials up to and including the one that meets the quota; trials behind it stay in
the pool and enter neither a data set nor a pass rate. VRT(n) is trials 0..n-1.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dartlib.records import Query, QueryOutcome, SftRow, Verdict
from dartlib.sampling import Demand, meeting_index
from dartlib.synthesis.allocation import fail_rate
from dartlib.synthesis.strategies import StrategyPolicy, StrategySettings


@dataclass(frozen=True, slots=True)
class Sample:
    """A trial with its grade: what curation needs of it."""

    query_id: str
    trial: int
    verdict: str
    response: str

    @property
    def correct(self) -> bool:
        return self.verdict == Verdict.CORRECT.value


def prefixes(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Per query, its samples 0, 1, 2 … up to the first missing number."""
    numbered: defaultdict[str, dict[int, Sample]] = defaultdict(dict)
    for sample in samples:
        numbered[sample.query_id].setdefault(sample.trial, sample)
    result = {}
    for query_id, trials in numbered.items():
        length = next(number for number in range(len(trials) + 1) if number not in trials)
        result[query_id] = [trials[number] for number in range(length)]
    return result


def cut(
    strategy: str,
    queries: Sequence[Query],
    samples_by_query: Mapping[str, Sequence[Sample]],
    settings: StrategySettings,
    stuck: Sequence[str] = (),
    policy: StrategyPolicy | None = None,
) -> tuple[list[SftRow], list[QueryOutcome]]:
    """The rows of one strategy's data set, and what became of every query, in the order of ``queries``.

    ``pass_rate`` is correct / n_d over the difficulty trials; a query without all of them gives no rows. ``policy``
    is the one that drew the pool, where it knows more than ``settings`` (a stopping rule, given fail rates).
    """
    policy = policy or StrategyPolicy(settings)
    rows, outcomes = [], []
    for query in queries:
        samples = samples_by_query.get(query.query_id, [])
        outcome, used = _cut_query(strategy, query, samples, settings, policy, query.query_id in stuck)
        outcomes.append(outcome)
        rows += [
            SftRow(
                query=query.query,
                response=sample.response.strip(),
                query_id=query.query_id,
                trial=sample.trial,
                source=query.source,
                level=query.level,
                pass_rate=1 - outcome.fail_rate,
                strategy=strategy,
            )
            for sample in used
        ]
    return rows, outcomes


def _cut_query(
    strategy: str,
    query: Query,
    samples: Sequence[Sample],
    settings: StrategySettings,
    policy: StrategyPolicy,
    is_stuck: bool,
) -> tuple[QueryOutcome, list[Sample]]:
    """One query's outcome and the correct samples that enter the data set."""
    verdicts = [sample.correct for sample in samples]
    difficulty = verdicts[: settings.difficulty_trials]
    rate = policy.fail_rate(query.query_id, verdicts)
    asked = policy.strategy_demand(strategy, query.query_id, verdicts)
    demand = asked or Demand(1, None, settings.trial_cap)
    index = meeting_index(verdicts, demand) if asked else None
    counted = samples[: len(samples) if index is None else index + 1]
    used = [sample for sample in counted if sample.correct] if asked else []
    outcome = QueryOutcome(
        query_id=query.query_id,
        strategy=strategy,
        level=query.level,
        n_difficulty=len(difficulty),
        n_difficulty_correct=sum(difficulty),
        fail_rate=rate if rate is not None else fail_rate(difficulty) if difficulty else 1.0,
        quota=demand.quota,
        cap=demand.cap,
        n_trials=len(counted),
        n_correct=len(used),
        status=_status(demand, index, len(used), is_stuck, settings.trial_cap),
    )
    return outcome, used


def _status(demand: Demand, index: int | None, n_correct: int, is_stuck: bool, trial_cap: int) -> str:
    if index is None:
        return "stuck" if is_stuck else "budget"
    if demand.quota is None:
        return "drawn"
    if n_correct >= demand.quota:
        return "met"
    return "cap" if demand.cap == trial_cap else "given up"


def match_rows(rows: Sequence[SftRow], total: int, seed: int) -> list[SftRow]:
    """Exactly ``total`` rows, the surplus dropped uniformly at random (seeded), order kept.

    Raises ValueError when there are fewer: a smaller set is never padded.
    """
    if total > len(rows):
        raise ValueError(f"{total} rows wanted, the data set has {len(rows)}: lower the total or raise quota and cap")
    kept = sorted(random.Random(seed).sample(range(len(rows)), total))
    return [rows[index] for index in kept]

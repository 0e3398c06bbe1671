"""Asking a model benchmark questions, once greedily or several times at a temperature, and writing its result file.

An evaluation is sampling with a fixed number of trials per query: it uses the same pool, so it resumes, and more
samples go on from fewer; and the same grader as synthesis, but for one thing: as in the paper, a reply without an
explicit final answer is read by its last number. A reply cut by length is not correct.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dartlib.engines import Engine, SamplingParameters
from dartlib.evaluation.gate import EvaluationError, check_usable
from dartlib.evaluation.results import Protocol, Result, benchmark_version, write_result
from dartlib.grading import LENIENT_GRADER_VERSION
from dartlib.queries import Template, benchmark_shots, benchmark_template, find_overlaps
from dartlib.records import Item, Query, check_unique, to_table
from dartlib.sampling import Demand, SamplingReport, open_pool, sample

if TYPE_CHECKING:
    import pandas as pd

Key = TypeVar("Key", bound=Hashable)

_OF_POOL = ("query_id", "trial", "verdict", "reason", "answer", "finish_reason", "n_tokens", "response", "engine")


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The result, and what asking took: failed requests (repeated, never replies) and new tokens per second."""

    result: Result
    failed_requests: int
    tokens_per_second: float

    @property
    def items(self) -> pd.DataFrame:
        """Every graded reply, columns as in Item."""
        return self.result.items


@dataclass(frozen=True, slots=True)
class _FixedTrials:
    """Every query so many times."""

    trials: int

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        return Demand(trials=self.trials, quota=None, cap=self.trials)


def evaluate(
    queries: Sequence[Query],
    *,
    engine: Engine,
    template: Template,
    max_tokens: int,
    output_folder: Path,
    model: str = "model",
    samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    training_texts: Iterable[str] = (),
    allow_unusable: bool = False,
    log: Callable[[str], None] = print,
) -> EvaluationReport:
    """Ask all queries (of any number of benchmarks, told apart by ``source``), grade, and write ``model``'s result.

    Each question gets ``template`` with its benchmark's examples and instruction (see `benchmark_template`).
    ``training_texts``: the queries of the model's training set, whose overlap is told beside each score. The pool
    stays under ``output_folder``; the same call goes on where it was stopped.

    Raises EvaluationError when questions got no reply, when samples would be greedy copies of one another, and when
    most replies of a benchmark are unusable (then a score measures the prompt, not the model), unless allowed.
    """
    if samples > 1 and temperature == 0:
        raise EvaluationError(f"{samples} greedy samples are copies of one: give a temperature, or ask once")
    check_unique(queries)
    benchmarks = _grouped(queries, lambda query: query.source)
    versions = {name: benchmark_version(own) for name, own in benchmarks.items()}
    sampling = SamplingParameters(temperature, top_p, max_tokens)
    items: list[Item] = []
    reports = []
    for prompt, asked in _grouped(queries, lambda query: benchmark_template(query, template)).items():
        report = sample(
            asked,
            engine=engine,
            template=prompt,
            sampling=sampling,
            sampling_seed=seed,
            policy=_FixedTrials(samples),
            pool_folder=output_folder / "pool",
            lenient_grading=True,
            log=log,
        )
        _check_answered(report)
        reports.append(report)
        items += _items_of(report, asked, samples, prompt, engine.weights, versions)
    place = {query.query_id: number for number, query in enumerate(queries)}
    items.sort(key=lambda item: (place[item.query_id], item.trial))
    unusable = check_usable(to_table(items, Item).to_pandas(), allow=allow_unusable)
    protocols = {name: _protocol(name, items, template, sampling, samples, name in unusable) for name in benchmarks}
    texts = dict.fromkeys(training_texts)
    overlaps = find_overlaps(texts, benchmarks) if texts else []
    result = write_result(output_folder, model=model, items=items, protocols=protocols, overlaps=overlaps)
    seconds, tokens = sum(report.seconds for report in reports), sum(report.tokens_new for report in reports)
    return EvaluationReport(result, sum(report.failed_requests for report in reports), tokens / max(seconds, 1e-9))


def _grouped(queries: Iterable[Query], key: Callable[[Query], Key]) -> dict[Key, list[Query]]:
    found: dict[Key, list[Query]] = {}
    for query in queries:
        found.setdefault(key(query), []).append(query)
    return found


def _items_of(
    report: SamplingReport,
    asked: Sequence[Query],
    samples: int,
    prompt: Template,
    weights: str,
    versions: Mapping[str, str],
) -> Iterator[Item]:
    """The graded trials of queries that share a prompt."""
    by_id = {query.query_id: query for query in asked}
    table = open_pool(report.pool).samples_table(
        asked, LENIENT_GRADER_VERSION, columns=_OF_POOL, where=f"trial < {samples}"
    )
    for row in table.to_pylist():
        query = by_id[row["query_id"]]
        yield Item(
            **row,
            benchmark=query.source,
            benchmark_version=versions[query.source],
            level=query.level,
            domain=query.domain,
            response_hash=hashlib.sha256(row["response"].encode()).hexdigest()[:16],
            prompt_digest=hashlib.sha256(prompt.render(query.query).encode()).hexdigest()[:12],
            grader=LENIENT_GRADER_VERSION,
            weights=weights,
        )


def _check_answered(report: SamplingReport) -> None:
    """No score leaves a question out: EvaluationError names the first without a reply, and the engine's reason."""
    if report.stuck:
        failed = [row for row in open_pool(report.pool).attempts().to_pylist() if row["query_id"] == report.stuck[0]]
        raise EvaluationError(
            f"{len(report.stuck)} of {report.queries} questions got no reply, first {report.stuck[0]} "
            f"({failed[-1]['reason']}): mend that and run it again, or leave them out"
        )


def _protocol(
    benchmark: str,
    items: Sequence[Item],
    template: Template,
    sampling: SamplingParameters,
    samples: int,
    unusable: bool,
) -> Protocol:
    own = [item for item in items if item.benchmark == benchmark]
    prompts = sorted({f"{item.query_id} {item.prompt_digest}" for item in own})
    return Protocol(
        benchmark_version=own[0].benchmark_version,
        items=len(prompts),
        template=template.name,
        shots=benchmark_shots(benchmark, template),
        prompt_digest=hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:12],
        stop=template.stop,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        samples=samples,
        grader=own[0].grader,
        engine=", ".join(sorted({item.engine for item in own})),
        unusable_allowed=unusable,
    )

"""Asking a model benchmark questions, once greedily or several times at a temperature, and writing its result file.

An evaluation is sampling with a fixed number of trials per query: it uses the same pool, so it resumes, and more
samples go on from fewer; and the same grader as synthesis, but for one thing: as in the paper, a reply without an
explicit final answer is read by its last number. A reply cut by length is not correct.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dartlib.engines import Engine, SamplingParameters
from dartlib.evaluation.gate import EvaluationError, check_usable
from dartlib.evaluation.results import Protocol, Result, benchmark_version, write_result
from dartlib.files import text_digest
from dartlib.grading import LENIENT_GRADER_VERSION
from dartlib.queries import Template, benchmark_shots, benchmark_template, find_overlaps
from dartlib.records import Item, Query, check_unique, response_hash, to_table
from dartlib.sampling import ConstantPolicy, SamplingReport, open_pool, sample

Key = TypeVar("Key", bound=Hashable)

_OF_POOL = ("query_id", "trial", "verdict", "reason", "answer", "finish_reason", "n_tokens", "response", "engine")


def evaluate(
    queries: Sequence[Query],
    *,
    engine: Engine,
    template: Template,
    sampling: SamplingParameters,
    output_folder: Path,
    model: str = "model",
    samples: int = 1,
    seed: int = 0,
    training_texts: Iterable[str] = (),
    allow_unusable: bool = False,
    log: Callable[[str], None] = print,
) -> Result:
    """Ask all queries (of any number of benchmarks, told apart by ``source``), grade, and write ``model``'s result.

    Each question gets ``template`` with its benchmark's examples and instruction (see `benchmark_template`).
    ``training_texts``: the queries of the model's training set, whose overlap is told beside each score. The pool
    stays under ``output_folder``; the same call goes on where it was stopped.

    Raises EvaluationError when questions got no reply, when samples would be greedy copies of one another, and when
    most replies of a benchmark are unusable (then a score measures the prompt, not the model), unless allowed.
    """
    if samples > 1 and sampling.temperature == 0:
        raise EvaluationError(f"{samples} greedy samples are copies of one: give a temperature, or ask once")
    check_unique(queries)
    benchmarks = _grouped(queries, lambda query: query.source)
    versions = {name: benchmark_version(own) for name, own in benchmarks.items()}
    items: list[Item] = []
    failed = 0
    for prompt, asked in _grouped(queries, lambda query: benchmark_template(query, template)).items():
        report = sample(
            asked,
            engine=engine,
            template=prompt,
            sampling=sampling,
            sampling_seed=seed,
            policy=ConstantPolicy(samples, trials=samples),
            pool_folder=output_folder / "pool",
            lenient_grading=True,
            allow_unusable=True,  # judged below, per benchmark
            log=log,
        )
        failed += report.failed_requests
        about = {query.query_id: _about(query, prompt, versions) | {"weights": engine.weights} for query in asked}
        items += [Item(**row, **about[row["query_id"]]) for row in _replies(report, asked, samples)]
    place = {query.query_id: number for number, query in enumerate(queries)}
    items.sort(key=lambda item: (place[item.query_id], item.trial))
    unusable = check_usable(to_table(items, Item).to_pandas(), allow=allow_unusable)
    protocols = {name: _protocol(name, items, template, sampling, name in unusable) for name in benchmarks}
    texts = dict.fromkeys(training_texts)
    overlaps = find_overlaps(texts, benchmarks) if texts else []
    return write_result(output_folder, model, items, protocols, overlaps=overlaps, failed_requests=failed)


def _grouped(queries: Iterable[Query], key: Callable[[Query], Key]) -> dict[Key, list[Query]]:
    found: dict[Key, list[Query]] = {}
    for query in queries:
        found.setdefault(key(query), []).append(query)
    return found


def _replies(report: SamplingReport, asked: Sequence[Query], samples: int) -> Iterator[dict[str, Any]]:
    """The graded trials, as far as an Item takes them from the pool.

    No score leaves a question out: EvaluationError names the first without a reply, and the engine's reason.
    """
    pool = open_pool(report.pool)
    if report.stuck:
        failed = [row for row in pool.attempts().to_pylist() if row["query_id"] == report.stuck[0]]
        raise EvaluationError(
            f"{len(report.stuck)} of {len(asked)} questions got no reply, first {report.stuck[0]} "
            f"({failed[-1]['reason']}): mend that and run it again, or leave them out"
        )
    frame = pool.samples(asked, LENIENT_GRADER_VERSION, columns=_OF_POOL, where=f"trial < {samples}")
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        own = {str(name): value for name, value in row.items()}
        yield own | {"response_hash": response_hash(row["response"]), "grader": LENIENT_GRADER_VERSION}


def _about(query: Query, prompt: Template, versions: Mapping[str, str]) -> dict[str, Any]:
    """What an Item says of its question."""
    found = {"benchmark": query.source, "benchmark_version": versions[query.source], "level": query.level}
    return found | {"domain": query.domain, "prompt_digest": text_digest(prompt.render(query.query), 12)}


def _protocol(
    benchmark: str, items: Sequence[Item], template: Template, sampling: SamplingParameters, unusable: bool
) -> Protocol:
    own = [item for item in items if item.benchmark == benchmark]
    prompts = sorted({f"{item.query_id} {item.prompt_digest}" for item in own})
    return Protocol(
        benchmark_version=own[0].benchmark_version,
        items=len(prompts),
        template=template.name,
        shots=benchmark_shots(benchmark, template),
        prompt_digest=text_digest("\n".join(prompts), 12),
        stop=template.stop,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        samples=len(own) // len(prompts),
        grader=own[0].grader,
        engine=", ".join(sorted({item.engine for item in own})),
        unusable_allowed=unusable,
    )

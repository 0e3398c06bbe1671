"""Asking a model each benchmark question once, greedily, and scoring it with intervals.

An evaluation is sampling with one trial per query at temperature 0: it uses the same pool, so it resumes, and the
same grader as synthesis, but for one thing: as in the paper, a reply without an explicit final answer is read by its
last number. A reply cut by length is not correct.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dartlib.engines import Engine, SamplingParameters
from dartlib.files import write_table_atomically
from dartlib.grading import LENIENT_GRADER_VERSION
from dartlib.queries import Template
from dartlib.records import Query, Verdict
from dartlib.sampling import Demand, SamplingReport, open_pool, sample

if TYPE_CHECKING:
    import pandas as pd

ITEM_COLUMNS = ["query_id", "source", "level", "verdict", "answer", "reference_answer", "n_tokens", "response"]


class EvaluationError(RuntimeError):
    """The evaluation says nothing about the model; the message shows replies and what to look at."""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Per-item results (columns ``ITEM_COLUMNS``) and what the sampling took."""

    items: pd.DataFrame
    sampling: SamplingReport


class _OneTrial:
    """Every query once."""

    def demand(self, query_id: str, prefix: Sequence[bool]) -> Demand:
        return Demand(trials=1, quota=None, cap=1)


def evaluate(
    queries: Sequence[Query],
    *,
    engine: Engine,
    template: Template,
    max_tokens: int,
    output_folder: Path,
    max_unusable_share: float = 0.5,
    log: Callable[[str], None] = print,
) -> EvaluationReport:
    """Greedy answers to all queries, graded; writes ``items.parquet`` and keeps the pool under ``output_folder``.

    Raises EvaluationError when more than ``max_unusable_share`` of the replies are cut by length or hold no
    answer: then the score measures the prompt or the stop strings, not the model.
    """
    report = sample(
        queries,
        engine=engine,
        template=template,
        sampling=SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=max_tokens),
        sampling_seed=0,
        policy=_OneTrial(),
        pool_folder=output_folder / "pool",
        lenient_grading=True,
        allow_unusable=True,  # judged below, over all items
        log=log,
    )
    items = open_pool(report.pool).samples(queries, LENIENT_GRADER_VERSION)[ITEM_COLUMNS]
    if len(items) != len(queries):
        raise EvaluationError(f"{len(queries) - len(items)} of {len(queries)} queries got no reply: run it again")
    _check_usable(items, max_unusable_share)
    table = pa.Table.from_pandas(items, preserve_index=False)
    write_table_atomically(output_folder / "items.parquet", table)
    return EvaluationReport(items, report)


def _check_usable(items: pd.DataFrame, limit: float) -> None:
    unusable = items[items["verdict"] == Verdict.NO_ANSWER.value]
    if len(unusable) > limit * len(items):
        examples = "\n".join(f"  {text[:200]!r}" for text in unusable["response"].head(3))
        raise EvaluationError(
            f"{len(unusable)} of {len(items)} replies are cut by length or hold no answer: check template, stop "
            f"strings and max_tokens. Three of them:\n{examples}"
        )

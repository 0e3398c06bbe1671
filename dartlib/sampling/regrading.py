"""Grading a pool again, without its engine: after a newer grader or a corrected reference answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dartlib.grading import GradingPool
from dartlib.leases import Lease
from dartlib.records import Grade, Query, Verdict
from dartlib.sampling.pool import LENIENT, PoolError, PoolWriter, grader_key, read_setting
from dartlib.sampling.reader import open_pool

if TYPE_CHECKING:
    import pandas as pd


def regrade(
    path: Path, queries: Sequence[Query] | None = None, *, workers: int = 1, log: Callable[[str], None] = print
) -> pd.DataFrame:
    """Grade every trial that has no grade by the present grader and reference; older grades stay beside it.

    ``queries`` (default: those that the pool keeps) may carry corrected references. What was graded leniently (an
    evaluation's pool) is graded leniently again. Returns how verdicts moved:
    columns before, after, trials ("none": never graded). Killed, it goes on where it was. Raises LeaseHeld while a
    run fills the pool.
    """
    import pandas as pd

    reader = open_pool(path)
    setting = read_setting(reader.folder)
    if reader.folder.name != setting.identity:
        raise PoolError(f"{reader.folder}: this folder was renamed: call it {setting.identity} again")
    asked = reader.queries() if queries is None else list(queries)
    before = reader.ledger(asked)
    lenient = len(reader.samples(asked, columns=["trial"], where=f"grader.str.endswith('{LENIENT}')")) > 0
    with Lease(reader.folder, purpose="regrading"), GradingPool(workers=workers, lenient=lenient) as grading:
        writer = PoolWriter(reader.folder.parent, setting)
        writer.add_queries(asked)
        ledger = reader.ledger(asked, grading.version)
        log(f"regrading {ledger.ungraded} of {len(ledger)} rows")
        by_id = {query.query_id: query for query in asked}
        for trials in reader.ungraded(asked, grading.version):
            items = [(by_id[trial.query_id], trial.response, trial.finish_reason) for trial in trials]
            for (query, _, _), trial, graded in zip(items, trials, grading.grade_many(items), strict=True):
                answer, verdict, reason = graded
                key = grader_key(grading.version, query)
                judged = (trial.query_id, trial.trial, answer, verdict.value, reason, key, trial.response_hash)
                writer.add_grade(Grade(*judged))
            writer.flush()
        writer.compact()
        after = reader.ledger(asked, grading.version)
    names = np.array([*(verdict.value for verdict in Verdict), "none"])  # place -1 is the last one
    moved = pd.DataFrame({"before": names[before.verdicts], "after": names[after.verdicts]})
    return moved.value_counts().rename("trials").reset_index()


def show_regrading(path: Path, *, diff: bool, log: Callable[[str], None] = print) -> int:
    """Regrade a pool and tell how many verdicts moved; ``diff``: then every flipped row, one a line, with tabs.

    A row reads: query id, trial, verdict before, verdict now, reference, answer. Returns the exit code.
    """
    columns = ["query_id", "trial", "verdict", "reference_answer", "answer"]
    before = open_pool(path).samples(columns=columns)
    for row in regrade(path, log=log).itertuples():
        log(f"{row.before} -> {row.after}: {row.trials:,}")
    if diff:
        both = before.merge(
            open_pool(path).samples(columns=columns), on=["query_id", "trial"], suffixes=("_before", "")
        )
        verdicts = both[["verdict_before", "verdict"]].fillna("none")
        flipped = both[verdicts["verdict_before"] != verdicts["verdict"]].fillna("none")
        log(f"{len(flipped):,} of {len(both):,} verdicts flipped")
        for row in flipped.itertuples():
            fields = (row.query_id, row.trial, row.verdict_before, row.verdict, row.reference_answer, row.answer)
            log("\t".join(" ".join(str(field).split()) for field in fields))
    return 0

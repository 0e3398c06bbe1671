"""Measure every level of every ladder with the embedded teacher: `make bench NAME=ladder` (about 10 minutes).

Rows compare what was seen now with the table in ``dartlib/queries/ladder.py``, which was filled from such a run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from dartlib.engines import Completion, Engine, SamplingParameters, open_engine, run
from dartlib.grading import GradingPool
from dartlib.queries import LADDERS, build_ladder, get_template
from dartlib.records import Query, Verdict
from dartlib.statistics import wilson_interval

TEMPLATE = get_template("ladder-fewshot")
SAMPLING = SamplingParameters(temperature=0.5, top_p=1.0, max_tokens=64, stop=TEMPLATE.stop)
QUERIES = 40  # the smallest level has 43
TRIALS = 15  # for each query
CONCURRENCY = 128


async def ask(engine: Engine, queries: list[Query]) -> list[Completion]:
    """``TRIALS`` replies to every query, query by query."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def attempt(query: Query, trial: int) -> Completion:
        async with slots:
            prompt = await engine.encode(TEMPLATE.render(query.query))
            return await engine.complete(prompt, SAMPLING, seed=int(query.query_id[:6], 16) * TRIALS + trial)

    await attempt(queries[0], TRIALS)  # alone: it fills the cache of the common prefix
    return await asyncio.gather(*(attempt(query, trial) for query in queries for trial in range(TRIALS)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory() as logs,
        open_engine("auto", "embedded", log_folder=Path(logs)) as engine,
        GradingPool() as grader,
    ):
        levels = [(name, rung) for name, rungs in LADDERS.items() for rung in rungs]
        for name, rung in levels:
            if name == "arithmetic-hard" and rung in LADDERS["arithmetic"]:
                continue  # the two ladders share their easy levels
            if name == "steps":
                continue  # the study's own: its teacher is another one
            queries = build_ladder(ladder=name, split="train", levels=[rung.level], queries_per_level=QUERIES, seed=0)
            replies = run(ask(engine, queries))
            asked = [query for query in queries for _ in range(TRIALS)]
            graded = grader.grade_many(
                [(query, reply.text, reply.finish_reason) for query, reply in zip(asked, replies, strict=True)]
            )
            correct = sum(verdict is Verdict.CORRECT for _, verdict, _ in graded)
            rate, reference = correct / len(asked), rung.correct / rung.trials
            low, high = wilson_interval(correct, len(asked))
            print(f"{name} {rung.level}: {correct} of {len(asked)}, {rate:.3f} [{low:.3f}, {high:.3f}]", flush=True)
            rows.append(
                {
                    "metric": f"pass_rate_{name}_{rung.level}",
                    "ours": rate,
                    "reference": reference,
                    "reference_name": "table in dartlib.queries",
                    "ratio": rate / reference,
                    "unit": "share correct",
                }
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

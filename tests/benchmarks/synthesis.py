"""Does the scheduler keep a real server busy? `make bench NAME=synthesis` (about 10 minutes on 2 cores).

``busy``: tokens per second of `sample` before its tail, over those of a script that knows the very same requests
beforehand and does nothing but send them to the same server with the same concurrency; median of three of each, taken
in turns. The tail begins when the slots are full for the last time: from there on there is not enough left to ask.
``wall_vs_rounds``: wall time of `sample` over that of meeting the same quotas in rounds: every query below its quota
gets as many trials as its quota, all are awaited, all are graded, and the next round begins.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _rows import json_path, report, row

from dartlib.engines import Completion, Engine, SamplingParameters, open_engine, run
from dartlib.grading import GradingPool
from dartlib.queries import build_ladder, get_template
from dartlib.records import Query, Verdict
from dartlib.sampling import ConstantPolicy, SamplingReport, sample

TEMPLATE = get_template("ladder-fewshot")
SAMPLING = SamplingParameters(temperature=0.5, top_p=1.0, max_tokens=64, stop=TEMPLATE.stop)
LEVELS, QUERIES_PER_LEVEL = (1, 2, 3, 4), 16
QUOTA, CAP = 3, 16
SLOTS = 32  # far fewer than trials, so that the time before the tail is most of it
REPEATS = 3


@dataclass
class Recorder:
    """An engine that passes everything on and notes every request: what was asked, when it began and ended."""

    engine: Engine
    slots: int = SLOTS
    asked: list[tuple[Sequence[int] | str, int]] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    ended: list[tuple[float, int]] = field(default_factory=list)  # time, tokens
    full: list[float] = field(default_factory=list)  # when a request began that filled the last slot

    def __post_init__(self) -> None:
        self.name, self.weights = self.engine.name, self.engine.weights

    async def encode(self, text: str) -> Sequence[int] | str:
        return await self.engine.encode(text)

    async def complete(self, prompt: Sequence[int] | str, sampling: SamplingParameters, seed: int) -> Completion:
        self.asked.append((prompt, seed))
        self.began.append(time.monotonic())
        if len(self.began) - len(self.ended) >= self.slots:
            self.full.append(time.monotonic())
        reply = await self.engine.complete(prompt, sampling, seed)
        self.ended.append((time.monotonic(), reply.n_tokens))
        return reply

    async def close(self) -> None:
        await self.engine.close()

    def speed(self) -> float:
        """Tokens per second of the requests that ended before the tail; the first request goes alone in `sample`."""
        first, tail = self.began[1], self.full[-1]
        return sum(tokens for end, tokens in self.ended if first < end <= tail) / (tail - first)

    def share_before_tail(self) -> float:
        """How much of the requests began before the tail."""
        return sum(began <= self.full[-1] for began in self.began) / len(self.began)


def ours(engine: Engine, queries: list[Query], seed: int, folder: Path) -> tuple[Recorder, SamplingReport]:
    """`sample` until every quota or the cap is met."""
    recorder = Recorder(engine)
    policy = ConstantPolicy(CAP, quota=QUOTA)
    done = sample(
        queries,
        engine=recorder,
        template=TEMPLATE,
        sampling=SAMPLING,
        sampling_seed=seed,
        policy=policy,
        pool_folder=folder,
        log=lambda line: None,
    )
    return recorder, done


async def saturate(engine: Engine, asked: Sequence[tuple[Sequence[int] | str, int]]) -> Recorder:
    """The same requests, all known beforehand: nothing but the server and a semaphore."""
    recorder, slots = Recorder(engine), asyncio.Semaphore(SLOTS)

    async def attempt(prompt: Sequence[int] | str, seed: int) -> None:
        async with slots:
            await recorder.complete(prompt, SAMPLING, seed)

    await asyncio.gather(*(attempt(prompt, seed) for prompt, seed in asked))
    return recorder


async def rounds(engine: Engine, queries: list[Query], seed: int, grader: GradingPool) -> tuple[float, int]:
    """(seconds, trials) of meeting the quotas by rounds with a barrier after each."""
    started, trials = time.monotonic(), 0
    slots = asyncio.Semaphore(SLOTS)
    correct, tried = ({query.query_id: 0 for query in queries} for _ in range(2))

    async def attempt(query: Query, trial: int) -> Completion:
        async with slots:
            prompt = await engine.encode(TEMPLATE.render(query.query))
            return await engine.complete(prompt, SAMPLING, seed * 1_000_003 + int(query.query_id[:6], 16) + trial)

    while True:
        below = [query for query in queries if correct[query.query_id] < QUOTA and tried[query.query_id] < CAP]
        if not below:
            return time.monotonic() - started, trials
        asked = [query for query in below for _ in range(min(QUOTA, CAP - tried[query.query_id]))]
        replies = await asyncio.gather(*(attempt(query, trials + place) for place, query in enumerate(asked)))
        trials += len(asked)
        batch = [(query, reply.text, reply.finish_reason) for query, reply in zip(asked, replies, strict=True)]
        for query, (_, verdict, _) in zip(asked, await asyncio.to_thread(grader.grade_many, batch), strict=True):
            tried[query.query_id] += 1
            correct[query.query_id] += verdict is Verdict.CORRECT


def main() -> None:
    path = json_path(__doc__)
    queries = build_ladder(
        ladder="arithmetic", split="train", levels=LEVELS, queries_per_level=QUERIES_PER_LEVEL, seed=0
    )
    speeds: list[tuple[float, float]] = []
    walls: list[tuple[float, float]] = []
    counts: list[tuple[int, int]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_engine("vllm", "embedded", log_folder=Path(folder)) as engine,
        GradingPool() as grader,
    ):
        warm = [(run(engine.encode(TEMPLATE.render(query.query))), 0) for query in queries]
        run(saturate(engine, warm))  # every prompt is in the server's cache from here on
        for repeat in range(1, REPEATS + 1):
            recorder, done = ours(engine, queries, repeat, Path(folder) / "pool")
            alone = run(saturate(engine, recorder.asked))
            seconds, trials = run(rounds(engine, queries, repeat, grader))
            speeds.append((recorder.speed(), alone.speed()))
            walls.append((done.seconds, seconds))
            counts.append((done.trials_new, trials))
            print(
                f"{repeat}: {recorder.share_before_tail():.0%} before the tail, ours {recorder.speed():.1f} tokens/s, "
                f"script {alone.speed():.1f}; "
                f"{done.trials_new} trials in {done.seconds:.1f} s, rounds {trials} in {seconds:.1f} s",
                flush=True,
            )

    def medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
        left, right = zip(*pairs, strict=True)
        return statistics.median(left), statistics.median(right)

    rows = [
        row("busy", *medians(speeds), "saturating script", "tokens/s"),
        row("wall_vs_rounds", *medians(walls), "rounds with a barrier", "s"),
        row("trials_vs_rounds", *medians(counts), "rounds with a barrier", "trials"),
    ]
    report(rows, path)


if __name__ == "__main__":
    main()

"""Waste and busy share of the scheduler on the calibrated queries, beside a model of the reference loop.

Quotas are given beforehand (no difficulty trials). Both see the same numbered draws and response lengths. Waste is
trials over the least possible: the sum over queries of the quota- or cap-meeting index + 1. The loop is the
published code's: batches of 16,384 filled by cycling over unfinished queries, a strict `>` as its stop test, a
barrier after each batch. It is given two things it may not have had: exact quotas per query, and a cap that counts
while a batch is filled. Simulated trials a second are counted in seconds of one core, as the machine may be shared.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from _rows import json_path, paper_teacher, report, row
from simulated_run import Simulation, TimedTeacher, simulate

from dartlib.lab import cut_by_policy
from dartlib.sampling import ConstantPolicy
from dartlib.synthesis import prop2diff_quotas, uniform_quotas

CAP, SLOTS, BATCH = 2048, 2048, 16_384
# About the paper's machines: 32 A100 at 35,000 responses of about 400 tokens an hour each.
TOKENS_PER_SECOND = 120_000.0


def reference_loop(
    teacher: TimedTeacher, quotas: Mapping[str, int], cap: int, slots: int, tokens_per_second: float
) -> tuple[int, float]:
    """Trials and virtual seconds of the loop."""
    names = list(teacher.pass_rates)
    found = np.zeros((len(names), cap + 1), np.int16)
    for number, name in enumerate(names):
        np.cumsum(np.frombuffer(teacher.verdicts[name], np.uint8, cap), dtype=np.int16, out=found[number, 1:])
    quota = np.array([quotas[name] for name in names])
    means = np.array([teacher.mean_tokens[name] for name in names])
    offsets = np.array([teacher.offsets[name] for name in names])
    spreads = np.array(teacher.spreads)
    drawn = np.zeros(len(names), int)
    clock = 0.0
    while True:
        open_ones = np.flatnonzero((found[np.arange(len(names)), drawn] <= quota) & (drawn < cap))
        if not len(open_ones):
            return int(drawn.sum()), clock
        given = fill_batch(cap - drawn[open_ones])
        asked, lap = np.repeat(open_ones, given), np.concatenate([np.arange(count) for count in given])
        order = np.argsort(lap, kind="stable")  # lap by lap, as cycling does
        asked, trial = asked[order], (drawn[asked] + lap)[order]
        lengths = np.minimum(means[asked] * spreads[(offsets[asked] + trial) % len(spreads)], teacher.max_tokens)
        clock += batch_seconds(lengths * slots / tokens_per_second, slots)
        drawn[open_ones] += given


def fill_batch(room: np.ndarray) -> np.ndarray:
    """Trials for each unfinished query, by cycling until the batch is full or nobody has room under the cap."""
    given = np.zeros(len(room), int)
    while (left := BATCH - given.sum()) > 0 and (given < room).any():
        takers = np.flatnonzero(given < room)
        if left < len(takers):
            given[takers[:left]] += 1
        else:
            given[takers] += np.minimum(left // len(takers), (room - given)[takers])
    return given


def batch_seconds(seconds: np.ndarray, slots: int) -> float:
    """Time until the last response of a batch: a free slot takes the next request."""
    free = seconds[:slots].tolist()
    heapq.heapify(free)
    for duration in seconds[slots:].tolist():
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def measure(name: str, teacher: TimedTeacher, quotas: Mapping[str, int], slots: int) -> list[dict[str, Any]]:
    """Rows for one strategy: ours, then the loop on the same draws."""
    throughput = TOKENS_PER_SECOND * slots / SLOTS
    _ = teacher.verdicts, teacher.spreads, teacher.offsets
    started = time.process_time()
    run: Simulation = simulate(teacher, ConstantPolicy(CAP, quota=quotas), slots=slots, tokens_per_second=throughput)
    rate = run.trials / (time.process_time() - started)
    least = run.least_possible
    assert run.counted == cut_by_policy(teacher, ConstantPolicy(CAP, quota=quotas)), "timing changed what counts"
    trials, seconds = reference_loop(teacher, quotas, CAP, slots, throughput)
    share = "busy_share" if name == "uniform" else f"busy_share_{name}"
    span = "makespan" if name == "uniform" else f"makespan_{name}"
    return [
        row(f"waste_{name}", run.trials, least, "least possible", "trials"),
        row(f"loop_waste_{name}", trials, least, "least possible", "trials"),
        row(share, run.busy_share(), 1.0, "all slots busy", "share"),
        row(span, run.makespan / 3600, seconds / 3600, "reference loop", "hours"),
        row(f"simulated_per_second_{name}", rate, 50_000, "goal", "trials/CPU s"),
    ]


def main() -> None:
    path = json_path(__doc__)
    teacher, few = paper_teacher(CAP), paper_teacher(CAP, queries=100)
    fail = {query_id: 1 - rate for query_id, rate in teacher.pass_rates.items()}
    rows = measure("uniform", teacher, uniform_quotas(fail, k_u=40), SLOTS)
    rows += measure("prop2diff", teacher, prop2diff_quotas(fail, k_p=192), SLOTS)
    rows += measure("100_queries", few, uniform_quotas(few.pass_rates, k_u=40), 256)
    report(rows, path)


if __name__ == "__main__":
    main()

"""The study's teacher: the embedded model fine-tuned on constructed solutions, mostly of easy levels.

``python papermill_runs/study/teacher.py`` trains it into ``teacher/checkpoint`` (not committed), asks it queries of the
pool, and measures on out-of-domain questions what the base and it can do. Steps that are done are not repeated.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pilot
import torch

from dartlib.engines import resolve_model
from dartlib.queries import build_ladder, worked_solution
from dartlib.records import Query, SftRow, write_records
from dartlib.statistics import fit_beta, wilson_interval
from dartlib.training import Job, TrainingConfig, completed_report, train

TEACHER = Path(__file__).parent / "teacher"
POOL_QUERIES = 400  # of each level: the first of seed 1. The teacher learns from queries after them.
ROWS = {1: 250, 2: 135, 3: 70, 4: 35, 5: 10}
ASKED, TRIALS, TEMPERATURE = 40, 16, 0.7
DIFFICULTY_TRIALS, PROP2DIFF_QUOTA, CAP = 8, 8, 48  # of the plan
# Kinds of questions that no level of the ladder asks; the base solves a part of each.
OUT_OF_DOMAIN = {
    "two-digit sums": ("arithmetic", 3),
    "lcm to 10": ("divisors", 1),
    "gcd to 10": ("divisors", 2),
    "gcd to 30": ("divisors", 3),
}


def main() -> None:
    TEACHER.mkdir(exist_ok=True)
    checkpoint = trained()
    if not (TEACHER / "trials.parquet").exists():
        torch.manual_seed(1)
        queries = [query for level in pilot.LEVELS for query in train_queries(level, ASKED)]
        answers = pilot.graded_answers(checkpoint, queries, template="ladder", temperature=TEMPERATURE, trials=TRIALS)
        answers.to_parquet(TEACHER / "trials.parquet", index=False)
    tell_pass_rates(pd.read_parquet(TEACHER / "trials.parquet"))
    tell_expected_shares(pd.read_parquet(TEACHER / "trials.parquet"))
    for name, model, template in (
        ("base", resolve_model("embedded"), "ladder-fewshot"),
        ("teacher", checkpoint, "ladder"),
    ):
        tell_out_of_domain(name, model, template)


def train_queries(level: int, count: int) -> list[Query]:
    """The first train queries of a level, in the order of the pool."""
    return build_ladder(ladder=pilot.LADDER, split="train", levels=[level], queries_per_level=count, seed=1)


def trained() -> Path:
    """The teacher's checkpoint, trained if it is not there."""
    rows = [
        SftRow(query.query, worked_solution(query.query), query.query_id, 0, query.source, level, None, "constructed")
        for level, count in ROWS.items()
        for query in train_queries(level, POOL_QUERIES + count)[POOL_QUERIES:]
    ]
    write_records(TEACHER / "rows.parquet", rows, SftRow)
    config = TrainingConfig(**pilot.SETTINGS, seed=1)
    job = Job(TEACHER / "rows.parquet", resolve_model("embedded"), TEACHER, config)
    report = completed_report(job) or train(job, log=pilot.say)
    return report.checkpoint


def tell_pass_rates(trials: pd.DataFrame) -> None:
    """Pass rate by level, its spread between queries, and how many of the right responses are different texts."""
    print("| level | pass rate | 95 % | spread of queries | solved at least once | different right texts | tokens |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for level, group in trials.groupby("level"):
        right = group[group.verdict == "correct"]
        counts = (group.verdict == "correct").groupby(group.query_id).sum()
        low, high = wilson_interval(len(right), len(group))
        a, b = fit_beta(counts.tolist(), [TRIALS] * len(counts))
        spread = np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
        distinct = len(right.drop_duplicates(["query_id", "response"])) / max(1, (counts > 0).sum())
        print(
            f"| {level} | {len(right) / len(group):.3f} | {low:.3f} to {high:.3f} | {spread:.2f} | "
            f"{(counts > 0).mean():.2f} | {distinct:.2f} | {group.n_tokens.mean():.0f} |"
        )


def tell_expected_shares(trials: pd.DataFrame) -> None:
    """Simulated: shares of levels among a student's rows, and the tokens of the pool, with the plan's quotas.

    Pass rates from the beta population of each level; every query has one right text, so a student has it once at most.
    """
    draw = np.random.default_rng(0)
    rows: dict[str, list[tuple[int, int]]] = {"vrt": [], "prop2diff": []}
    tokens = 0.0
    for level, group in trials.groupby("level"):
        counts = (group.verdict == "correct").groupby(group.query_id).sum()
        rates = draw.beta(*fit_beta(counts.tolist(), [TRIALS] * len(counts)), size=POOL_QUERIES)
        for query, right in enumerate(draw.random((POOL_QUERIES, CAP)) < rates[:, None]):
            first = right[:DIFFICULTY_TRIALS]
            quota = max(1, round(PROP2DIFF_QUOTA * (1 - first.mean())))
            places = np.flatnonzero(right)[:quota]
            rows["vrt"] += [(level, query)] * int(first.sum())
            rows["prop2diff"] += [(level, query)] * len(places)
            asked = max(DIFFICULTY_TRIALS, places[-1] + 1) if len(places) == quota else CAP
            tokens += asked * group.n_tokens.mean()
    print(f"expected tokens of the pool: {tokens / 1e6:.2f} million")
    for arm, all_rows in rows.items():
        shares = np.zeros(len(pilot.LEVELS))
        for _ in range(20):
            different = list(dict.fromkeys(all_rows[place] for place in draw.permutation(len(all_rows))))
            levels = [level for level, _ in different[: pilot.ROWS]]
            shares += np.array([levels.count(level) / pilot.ROWS for level in pilot.LEVELS]) / 20
        print(f"expected shares of levels, {arm}: " + " ".join(f"{share:.2f}" for share in shares))


def tell_out_of_domain(name: str, model: Path, template: str) -> None:
    """Greedy accuracy on the kinds of questions that the ladder does not ask."""
    path = TEACHER / f"out_of_domain_{name}.json"
    if not path.exists():
        shares = {}
        for kind, (ladder, level) in OUT_OF_DOMAIN.items():
            queries = build_ladder(ladder=ladder, split="test", levels=[level], queries_per_level=30, seed=1)
            answers = pilot.graded_answers(model, queries, template=template)
            shares[kind] = [int((answers.verdict == "correct").sum()), len(answers)]
        path.write_text(json.dumps(shares) + "\n")
    print(name, path.read_text().strip())


if __name__ == "__main__":
    main()

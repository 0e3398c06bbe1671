"""Stopping rules on the same draws: the frontier of trials, achieving ratio, and what the hardest queries get.

Uniform 40 on the calibrated queries (hardest 1,000) and, where the data folder is at hand, Uniform 4 on 1,209
recorded pass rates (hardest fifth; also hardest 1,000, which are most of them). A rule's parameters are chosen on one
set of draws among those that keep the achieving ratio of the plain cap of 2,048, nine tenths of its hard yield and
its hard coverage within 0.5 points; what is reported is measured on other draws. Choosing looks at the hardest 3,000
only: no rule gives up the others. The clairvoyant keeps every response and drops each query's wrong tail; it is what
no rule can beat without losing responses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from _rows import SEED, json_path, paper_teacher, report, row

from dartlib.lab import SimulatedTeacher, cut_by_policy, judge, replay_teacher
from dartlib.lab.replay import Judgement, clairvoyant_trials
from dartlib.records import Counts
from dartlib.synthesis import StoppingRule, StrategyPolicy, StrategySettings, fit_priors, read_pass_rates
from dartlib.synthesis.stopping import PosteriorStopping

CAP, DIFFICULTY_TRIALS = 2048, 16
CAPS = (256, 512, 1024, 1536, 2048, 3072)
RULES = [
    StoppingRule(threshold, patience, price)
    for threshold, patience, price in product((0.02, 0.1, 0.3), (1024, 1536, 2048), (0.0, 300.0, 600.0))
] + [StoppingRule(threshold, 0) for threshold in (0.02, 0.1, 0.3)]
# Chosen with a little to spare, so that what holds on the draws it was chosen on holds on others.
HARD_YIELD, MARGIN = 0.9, 0.02


def judged(
    teacher: SimulatedTeacher, quota: int, cap: int, rule: StoppingRule | None, hardest: Sequence[str]
) -> tuple[Judgement, int]:
    """One rule's judgement and the clairvoyant's trials for the same responses."""
    settings = StrategySettings(("uniform",), DIFFICULTY_TRIALS, 1, quota, 1, cap)
    counts = {
        name: Counts(sum(draws[:DIFFICULTY_TRIALS]), DIFFICULTY_TRIALS) for name, draws in teacher.verdicts.items()
    }
    stopping = None if rule is None else PosteriorStopping(rule, fit_priors(counts, {}))
    counted = cut_by_policy(teacher, StrategyPolicy(settings, stopping=stopping))
    return judge(counted, dict.fromkeys(counted, quota), hardest), clairvoyant_trials(teacher, counted)


def acceptable(found: Judgement, plain: Judgement, margin: float = 0.0) -> bool:
    """The goal's conditions, beside the plain cap."""
    return (
        found.achieving_ratio >= plain.achieving_ratio
        and found.hard_correct >= (HARD_YIELD + margin) * plain.hard_correct
        and found.hard_coverage >= plain.hard_coverage - 0.005
    )


def frontier_row(data: str, name: str, found: Judgement, plain: Judgement) -> dict[str, Any]:
    axes = {axis: getattr(found, axis) for axis in ("achieving_ratio", "hard_correct", "hard_coverage")}
    made = row(f"frontier_{data}_{name}", found.trials, plain.trials, f"cap {CAP}", "trials")
    return made | axes | {"acceptable": acceptable(found, plain)}


def measure(
    data: str, choosing: SimulatedTeacher, fresh: SimulatedTeacher, quota: int, hardest: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Rows of one data set: the frontier on the first draws, the chosen rule on the second."""
    plain, _ = judged(choosing, quota, CAP, None, hardest)
    for cap in CAPS:
        yield frontier_row(data, f"cap_{cap}", judged(choosing, quota, cap, None, hardest)[0], plain)
    best: tuple[int, int, StoppingRule | None] = (plain.trials, CAP, None)
    for cap, rule in product((CAP, 3072), RULES):
        found, _ = judged(choosing, quota, cap, rule, hardest)
        name = f"posterior_{rule.threshold:g}_patience_{rule.patience}_price_{rule.price:g}_cap_{cap}"
        yield frontier_row(data, name, found, plain)
        if acceptable(found, plain, MARGIN) and found.trials < best[0]:
            best = (found.trials, cap, rule)
    _, cap, rule = best
    plain, least = judged(fresh, quota, CAP, None, hardest)
    found, _ = judged(fresh, quota, cap, rule, hardest)
    suffix = "" if data == "paper" else f"_{data}"
    yield row(f"samples_equal_yield{suffix}", found.trials, plain.trials, f"cap {CAP}, fresh draws", "trials") | {
        "rule": f"cap {cap}, {rule}",
        "acceptable_on_fresh_draws": acceptable(found, plain),
        "achieving_ratio": [found.achieving_ratio, plain.achieving_ratio],
        "hard_correct": [found.hard_correct, plain.hard_correct],
        "hard_coverage": [found.hard_coverage, plain.hard_coverage],
    }
    yield row(f"clairvoyant{suffix}", least, plain.trials, f"cap {CAP}, fresh draws", "trials")


def part_of(teacher: SimulatedTeacher, names: Sequence[str]) -> SimulatedTeacher:
    """The same draws of fewer queries."""
    part = replace(teacher, pass_rates={name: teacher.pass_rates[name] for name in names})
    part.__dict__["verdicts"] = {name: teacher.verdicts[name] for name in names}
    return part


def hardest_of(rates: Mapping[str, float], count: int) -> list[str]:
    return sorted(rates, key=rates.__getitem__)[:count]


def main() -> None:
    path = json_path(__doc__)
    first, second = (paper_teacher(max(CAPS), seed=seed) for seed in (SEED, SEED + 1))
    part = part_of(first, hardest_of(first.pass_rates, 3000))
    rows = list(measure("paper", part, second, 40, hardest_of(first.pass_rates, 1000)))
    folder = Path(os.environ.get("DARTLIB_TEST_DATA", "../shared/data"))
    recorded = folder / "replay" / "pass-rates-1209.jsonl"
    if recorded.is_file():
        counts = {rate.name: rate.counts for rate in read_pass_rates(recorded) if rate.counts}
        first, second = (replay_teacher(counts, trials=max(CAPS), seed=seed) for seed in (SEED, SEED + 1))
        for name, hardest in (("replay", len(counts) // 5), ("replay_1000", 1000)):
            rows += measure(name, first, second, 4, hardest_of(first.pass_rates, hardest))
    report(rows, path)
    for each in rows:
        if "rule" in each:
            print(each["metric"], {key: each[key] for key in list(each)[6:]})


if __name__ == "__main__":
    main()

"""The pilot of the study: can the shares of levels alone make a better student on the ladder ``steps``?

``python papermill_runs/study/pilot.py run`` trains and evaluates the students that are not there yet, one after
another; stopped at any time, the same command goes on. ``... table`` prints the table from the stored items.
The rule and the formulas are in PILOT.md beside this file, written before the first result.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import shutil
import time
from collections import defaultdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dartlib.engines import resolve_model
from dartlib.grading import GradingPool
from dartlib.queries import build_ladder, get_template, worked_solution
from dartlib.records import Query, SftRow, write_records
from dartlib.training import Job, TrainingConfig, read_examples, train

STUDENTS = Path(__file__).parent / "pilot"
ITEM_COLUMNS = ["query_id", "source", "level", "verdict", "answer", "reference_answer", "n_tokens", "response"]
LADDER, LEVELS, HARD = "steps", (1, 2, 3, 4, 5), (3, 4, 5)
VRT = (0.40, 0.30, 0.18, 0.09, 0.03)  # shares of levels 1 to 5 among the rows
ARMS = {
    "vrt": VRT,
    "prop2diff": (0.03, 0.12, 0.25, 0.30, 0.30),
    "vrt-tokens": VRT,
    # added after the verdict: the shares that the main run is expected to have (PLAN.md), closer together
    "vrt-expected": (0.35, 0.25, 0.20, 0.13, 0.07),
    "prop2diff-expected": (0.15, 0.20, 0.20, 0.26, 0.19),
}
PAIRS = (("vrt", "prop2diff"), ("vrt-tokens", "prop2diff"), ("vrt-expected", "prop2diff-expected"))
REPLICATES, ROWS, ITEMS_PER_LEVEL, MAX_TOKENS, BATCH = 4, 400, 100, 96, 128
MAIN_SEEDS, MAIN_ITEMS = 10, 600  # of the main run: replicates an arm, items on levels 3 to 5
SETTINGS: dict[str, Any] = {
    "template": "ladder",
    "learning_rate": 1e-4,
    "epochs": 1,
    "max_tokens_per_pack": 256,
    "packs_per_step": 2,
    "packs_per_forward": 2,
    "precision": "bf16",
}


def run() -> None:
    """Train and evaluate every student of the pilot that has no ``metrics.json`` yet."""
    STUDENTS.mkdir(exist_ok=True)
    with open(STUDENTS / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for arms in (("vrt", "prop2diff"), ("vrt-tokens",), ("vrt-expected", "prop2diff-expected")):
            for replicate, arm in product(range(1, REPLICATES + 1), arms):
                if not (STUDENTS / f"{arm}-{replicate}" / "metrics.json").exists():
                    make_student(arm, replicate)


def make_student(arm: str, replicate: int) -> None:
    """One student from its rows to its graded items; keeps items, log and metrics, deletes the checkpoint."""
    folder = STUDENTS / f"{arm}-{replicate}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    started = time.monotonic()
    config = TrainingConfig(**SETTINGS, seed=student_seed(arm, replicate))
    rows = training_rows(arm, replicate, config)
    dataset = folder / "rows.parquet"
    write_records(dataset, rows, SftRow)
    report = train(Job(dataset, resolve_model("embedded"), folder, config), log=say)
    trained = time.monotonic()
    evaluate_student(report.checkpoint, folder)
    metrics = {
        "arm": arm,
        "replicate": replicate,
        "seed": config.seed,
        "rows_by_level": {level: sum(row.level == level for row in rows) for level in LEVELS},
        "tokens": report.tokens,
        "supervised_tokens": report.supervised_tokens,
        "steps": report.steps,
        "final_loss": round(report.final_loss, 4),
        "training_seconds": round(trained - started, 1),
        "evaluation_seconds": round(time.monotonic() - trained, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    shutil.rmtree(folder / "checkpoint")
    dataset.unlink()  # ``training_rows`` makes the same again
    (folder / "training_output.txt").unlink()
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    say(f"{arm}-{replicate} done: {accuracy(folder)}")


def student_seed(arm: str, replicate: int) -> int:
    """A seed of its own for every student: it draws the rows and orders them."""
    return 100 * (1 + list(ARMS).index(arm)) + replicate


def training_rows(arm: str, replicate: int, config: TrainingConfig) -> list[SftRow]:
    """400 rows in the arm's shares; for ``vrt-tokens`` as many as cost the tokens of ``prop2diff``'s."""
    if arm != "vrt-tokens":
        return draw_rows(arm, ROWS, student_seed(arm, replicate))
    seed = student_seed(arm, replicate)
    wanted = count_tokens(draw_rows("prop2diff", ROWS, student_seed("prop2diff", replicate)), config)
    return draw_rows(arm, round(ROWS * wanted / count_tokens(draw_rows(arm, ROWS, seed), config)), seed)


def draw_rows(arm: str, count: int, seed: int) -> list[SftRow]:
    """Worked solutions of different train queries, ``count`` in all."""
    return [
        SftRow(query.query, worked_solution(query.query), query.query_id, 0, query.source, level, None, arm)
        for level, share in zip(LEVELS, ARMS[arm], strict=True)
        for query in build_ladder(
            ladder=LADDER, split="train", levels=[level], queries_per_level=round(count * share), seed=seed
        )
    ]


def count_tokens(rows: list[SftRow], config: TrainingConfig) -> int:
    """Prompt, response and end tokens of the rows."""
    path = STUDENTS / ".counted.parquet"
    write_records(path, rows, SftRow)
    examples = read_examples(path, AutoTokenizer.from_pretrained(resolve_model("embedded")), config)
    path.unlink()
    return sum(len(examples[number].token_ids) for number in range(len(examples)))


def evaluate_student(checkpoint: Path, folder: Path) -> None:
    """Greedy answers to the development items, graded as in an evaluation; writes ``items.parquet``."""
    queries = build_ladder(ladder=LADDER, split="development", queries_per_level=ITEMS_PER_LEVEL, seed=1)
    graded_answers(checkpoint, queries, template="ladder").to_parquet(folder / "items.parquet", index=False)


def graded_answers(
    checkpoint: Path, queries: list[Query], *, template: str, temperature: float = 0.0, trials: int = 1
) -> pd.DataFrame:
    """``trials`` answers to each query with their verdicts, columns as in an evaluation; temperature 0 is greedy.

    In bf16, as the checkpoint is stored, and prompts of equal length together, so that nothing is padded: several
    times faster on a crowded machine than the ``local`` engine, which computes in fp32.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).eval().to(device)
    prompt, stop = get_template(template).render, get_template(template).stop
    groups: dict[int, list[tuple[Query, list[int]]]] = defaultdict(list)
    for query in queries:
        ids = tokenizer(prompt(query.query)).input_ids
        groups[len(ids)] += [(query, ids)] * trials
    parts = [group[start : start + BATCH] for group in groups.values() for start in range(0, len(group), BATCH)]
    rows = []
    with GradingPool(lenient=temperature == 0) as grader:
        for part in parts:
            replies = answer(model, tokenizer, [ids for _, ids in part], stop, temperature)
            asked = [(query, text, reason) for (query, _), (text, reason, _) in zip(part, replies, strict=True)]
            for (query, text, _), reply, grade in zip(asked, replies, grader.grade_many(asked), strict=True):
                found, verdict, _ = grade
                facts = (query.query_id, query.source, query.level, verdict.value, found, query.reference_answer)
                rows.append((*facts, reply[2], text))
    return pd.DataFrame(rows, columns=ITEM_COLUMNS)


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    stop: tuple[str, ...],
    temperature: float,
) -> list[tuple[str, str, int]]:
    """Text, finish reason and number of new tokens of answers to prompts of one length."""
    ids = torch.tensor(prompts, device=model.device)
    drawing = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=MAX_TOKENS,
        pad_token_id=tokenizer.eos_token_id,
        stop_strings=list(stop),
        tokenizer=tokenizer,
        **drawing,
    )
    replies = []
    for tokens in output[:, ids.shape[1] :].tolist():
        count = tokens.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in tokens else len(tokens)
        text = tokenizer.decode(tokens[:count], skip_special_tokens=True)
        cut = min([at for end in stop if (at := text.find(end)) >= 0], default=None)
        ended = cut is not None or tokenizer.eos_token_id in tokens
        replies.append((text[:cut], "stop" if ended else "length", count))
    return replies


def accuracy(folder: Path) -> str:
    """Accuracy by level and on levels 3 to 5, for the log."""
    items = pd.read_parquet(folder / "items.parquet")
    right = (items.verdict == "correct").groupby(items.level).mean()
    return " ".join(f"{share:.2f}" for share in right) + f" | hard {right[list(HARD)].mean():.3f}"


def scores(arm: str, levels: tuple[int, ...] = HARD) -> np.ndarray:
    """0/1 of the arm's finished students on the same items in the same order: (replicates, items)."""
    rows = []
    for folder in sorted(STUDENTS.glob(f"{arm}-[0-9]*")):
        if (folder / "metrics.json").exists():
            items = pd.read_parquet(folder / "items.parquet").sort_values("query_id")
            rows.append((items[items.level.isin(levels)].verdict == "correct").to_numpy(dtype=float))
    return np.array(rows)


class Variances(NamedTuple):
    """The three sources of error of a difference of two arms, per replicate and item (see PILOT.md)."""

    replicates: tuple[float, float]  # between the students of each arm, beyond what the items explain
    items: float  # how much the difference varies between items
    residual: float  # the rest, both arms added up


class Difference(NamedTuple):
    """Second arm minus first, its standard error and degrees of freedom, and the variances behind them."""

    mean: float
    error: float
    freedom: float
    variances: Variances

    def interval(self) -> tuple[float, float]:
        half = self.error * float(stats.t.ppf(0.975, self.freedom))
        return self.mean - half, self.mean + half


def compare(first: np.ndarray, second: np.ndarray) -> Difference:
    """Two-way random effects: students and items are both samples, and all students answer the same items."""
    seeds, items = first.shape
    between = [arm.mean(axis=1).var(ddof=1) for arm in (first, second)]
    residuals = [residual_variance(arm) for arm in (first, second)]
    residual = sum(residuals)
    by_item = (second.mean(axis=0) - first.mean(axis=0)).var(ddof=1)
    variances = Variances(
        (max(0.0, between[0] - residuals[0] / items), max(0.0, between[1] - residuals[1] / items)),
        max(0.0, by_item - residual / seeds),
        residual,
    )
    error, freedom = standard_error(variances, seeds, items)
    return Difference(float(second.mean() - first.mean()), error, freedom, variances)


def residual_variance(arm: np.ndarray) -> float:
    """What is left of (replicates, items) after student and item means are taken out."""
    rest = arm - arm.mean(axis=0) - arm.mean(axis=1, keepdims=True) + arm.mean()
    return float((rest**2).sum() / ((arm.shape[0] - 1) * (arm.shape[1] - 1)))


def standard_error(variances: Variances, seeds: int, items: int) -> tuple[float, float]:
    """Standard error of a difference with so many replicates an arm and items, and Satterthwaite's freedom."""
    # mean squares over their divisors, as they would be observed; the residual is in both and comes off once
    half = variances.residual / 2 / (seeds * items)
    parts = [(variances.replicates[arm] / seeds + half, seeds - 1) for arm in (0, 1)]
    parts.append((variances.items / items + 2 * half, items - 1))
    parts.append((-2 * half, 2 * (seeds - 1) * (items - 1)))
    square = sum(part for part, _ in parts)
    return math.sqrt(square), square**2 / sum(part**2 / freedom for part, freedom in parts)


def detectable(variances: Variances, seeds: int = MAIN_SEEDS, items: int = MAIN_ITEMS) -> float:
    """The true difference that a two-sided test at 5 % finds with 80 % probability."""
    error, freedom = standard_error(variances, seeds, items)
    return error * float(stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom))


def with_upper_seed_variance(variances: Variances, seeds: int) -> Variances:
    """The seed variances at the upper end of their one-sided 90 % interval: few students know little of it."""
    factor = (seeds - 1) / float(stats.chi2.ppf(0.1, seeds - 1))
    return variances._replace(replicates=(variances.replicates[0] * factor, variances.replicates[1] * factor))


def table() -> None:
    """Print what PILOT.md's tables hold, from the stored items."""
    print("| arm | students | level 1 | 2 | 3 | 4 | 5 | levels 3 to 5 | each student | rows | tokens |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |")
    for arm in ARMS:
        hard = scores(arm)
        if len(hard):
            by_level = " | ".join(f"{scores(arm, (level,)).mean():.2f}" for level in LEVELS)
            each = ", ".join(f"{student.mean():.3f}" for student in hard)
            rows, tokens = mean_sizes(arm)
            print(f"| {arm} | {len(hard)} | {by_level} | {hard.mean():.3f} | {each} | {rows:.0f} | {tokens:,.0f} |")
    for (first, second), levels in product(PAIRS, (HARD, *((level,) for level in LEVELS))):
        tell_difference(first, second, levels)


def mean_sizes(arm: str) -> tuple[float, float]:
    """Mean rows and tokens of the arm's finished students."""
    found = [json.loads(path.read_text()) for path in STUDENTS.glob(f"{arm}-[0-9]*/metrics.json")]
    return (
        float(np.mean([sum(metrics["rows_by_level"].values()) for metrics in found])),
        float(np.mean([metrics["tokens"] for metrics in found])),
    )


def tell_difference(first: str, second: str, levels: tuple[int, ...]) -> None:
    """One line on ``second`` minus ``first`` on these levels; on levels 3 to 5 with variances and the verdict."""
    left, right = scores(first, levels), scores(second, levels)
    seeds = min(len(left), len(right))
    if seeds < 2:
        print(f"\n{second} - {first}, levels {levels}: {seeds} pairs of students, two are needed")
        return
    difference = compare(left[:seeds], right[:seeds])
    low, high = difference.interval()
    print(f"\n{second} - {first}, levels {levels}: {difference.mean:+.3f} [{low:+.3f}, {high:+.3f}], {seeds} each")
    if levels != HARD:
        return
    parts = difference.variances
    spread = [f"{100 * math.sqrt(variance):.1f}" for variance in parts.replicates]
    print(f"  seed spread {spread[0]} and {spread[1]} points; difference between items {math.sqrt(parts.items):.3f}")
    print(f"  residual (both arms, standard deviation) {math.sqrt(parts.residual):.3f}")
    smallest, careful = detectable(parts), detectable(with_upper_seed_variance(parts, seeds))
    print(f"  detectable with {MAIN_SEEDS} x {MAIN_ITEMS}: {smallest:.3f}, careful {careful:.3f}")
    if first == "vrt":
        ratio = difference.mean / smallest
        verdict = ("go" if ratio >= 1.5 else "no-go") if seeds == REPLICATES else "not decided"
        print(f"  difference / detectable = {ratio:.1f} (rule: at least 1.5): {verdict}")


def say(text: object) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "table"])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    {"run": run, "table": table}[parser.parse_args().what]()

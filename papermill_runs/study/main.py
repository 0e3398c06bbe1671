"""The study's main run, as PLAN.md declares it: one pool, its students one after another, the comparisons.

``python papermill_runs/study/main.py all --until 170`` is a sitting of under three hours: teacher, pool, then as many
students as fit. Stopped at any time, the same command goes on; it costs at most the student that was being made.
``status`` says what is there, ``analyse`` makes ``main/RESULT.md`` from committed files alone.
The pool's trials are those of one teacher, and training gives other weights on another machine: make both on one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pilot
import results
import teacher
import torch
from transformers import AutoTokenizer

from dartlib.engines import Engine, SamplingParameters, open_engine, resolve_model, weights_fingerprint
from dartlib.files import write_text_atomically
from dartlib.leases import Lease
from dartlib.processes import term_raises
from dartlib.queries import build_ladder, get_template
from dartlib.records import Query, SftRow, read_records, write_records
from dartlib.sampling import Budget, read_setting
from dartlib.synthesis import StrategySettings, synthesize
from dartlib.training import Job, TrainingConfig, read_examples, train

MAIN = Path(__file__).parent / "main"
SAMPLING, SAMPLING_SEED = SamplingParameters(temperature=teacher.TEMPERATURE, top_p=1.0, max_tokens=pilot.MAX_TOKENS), 1
SETTINGS = StrategySettings(
    strategies=("vrt", "uniform", "prop2diff"),
    difficulty_trials=teacher.DIFFICULTY_TRIALS,
    vrt_trials=8,
    uniform_quota=4,
    prop2diff_quota=teacher.PROP2DIFF_QUOTA,
    trial_cap=teacher.CAP,
)
IN_DOMAIN = {1: 100, 2: 100, 3: 200, 4: 200, 5: 200}  # test items by level
OUT_OF_DOMAIN = (("arithmetic", 3, 100), ("divisors", 3, 100))  # ladder, level, items


class Arm(NamedTuple):
    """``rows`` different rows of a strategy's data set; 0: as many as hold the tokens of Prop2Diff's student."""

    strategy: str
    rows: int
    replicates: int


ARMS = {
    "vrt": Arm("vrt", 400, 10),
    "prop2diff": Arm("prop2diff", 400, 10),
    "uniform": Arm("uniform", 400, 5),
    "vrt-tokens": Arm("vrt", 0, 10),
    "vrt-800": Arm("vrt", 800, 5),
    "prop2diff-800": Arm("prop2diff", 800, 5),
    "uniform-800": Arm("uniform", 800, 5),
}
BASE = "base-1"  # no student: the base itself, asked with worked examples
ORDER = (("vrt", "prop2diff", "uniform"), ("vrt-tokens",), ("vrt-800", "prop2diff-800", "uniform-800"))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["teacher", "pool", "students", "all", "analyse", "status"])
    parser.add_argument("--until", type=float, metavar="MINUTES", help="end cleanly after so many minutes")
    parser.add_argument("--ended", action="store_true", help="analyse: no student will come, take those that are there")
    options = parser.parse_args(words)
    ends = time.monotonic() + 60 * options.until if options.until else float("inf")
    if options.what == "status":
        show_status()
        return
    if options.what == "analyse":
        results.analyse(MAIN, {arm: replicates for arm, (_, _, replicates) in ARMS.items()}, ended=options.ended)
        return
    with Lease(MAIN, "study"), term_raises(lambda: SystemExit(143)):
        for leftover in MAIN.glob(".making-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for what, work in (("teacher", make_teacher), ("pool", make_pool), ("students", make_students)):
            done = what == "teacher" and pool_report()  # no trial will be asked of it any more
            if options.what == what or options.what == "all" and not done:
                work(ends)


def make_teacher(ends: float) -> None:
    """Train and measure the teacher; what is done is not repeated."""
    teacher.main()


def pool_report() -> dict[str, Any]:
    """What the pool's makers noted when it was complete; empty before."""
    path = MAIN / "pool.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def make_pool(ends: float, open_teacher: Callable[[Path], AbstractContextManager[Engine]] | None = None) -> None:
    """Draw the pool until every strategy is served, cut the data sets; by the teacher that began it and no other."""
    if pool_report():
        say("pool: complete")
        return
    checkpoint = teacher.TEACHER / "checkpoint"
    if not checkpoint.is_dir():
        raise SystemExit("pool: there is no teacher on this machine; make it first: main.py teacher")
    weights = weights_fingerprint(checkpoint)
    check_teacher(weights)
    started, minutes = time.monotonic(), (ends - time.monotonic()) / 60
    if minutes <= 0:
        raise SystemExit("pool: no time left; the same command goes on")
    queries = [query for level in pilot.LEVELS for query in teacher.train_queries(level, teacher.POOL_QUERIES)]
    with (open_teacher or open_vllm)(checkpoint) as engine:
        report = synthesize(
            queries,
            engine=engine,
            template=get_template("ladder"),
            sampling=SAMPLING,
            sampling_seed=SAMPLING_SEED,
            settings=SETTINGS,
            output_folder=MAIN,
            rebuild="papermill_runs/study/main.py teacher, then pool, on one machine",
            licences={"queries": "constructed", "teacher": "SmolLM2: Apache-2.0"},
            teacher="the study's teacher (PLAN.md)",
            budget=Budget(hours=minutes / 60) if minutes < float("inf") else None,
            log=say,
        )
    drawn = report.sampling
    if drawn.budget_spent or drawn.stuck:
        raise SystemExit("pool: not complete; the same command on this machine goes on with it")
    facts = {"teacher": weights, "machine": machine(), "engine": engine.name, "trials": drawn.trials_in_pool}
    facts |= {"last_sitting": {"tokens": drawn.tokens_new, "seconds": round(time.monotonic() - started, 1)}}
    facts |= {"verdicts": dict(drawn.verdicts), "rows": dict(report.rows), "finished": now()}
    write_text_atomically(MAIN / "pool.json", json.dumps(facts, indent=1) + "\n")


def check_teacher(weights: str) -> None:
    """SystemExit when the pool was begun by other weights: trials of two teachers are no pool."""
    for folder in sorted(path.parent for path in MAIN.glob("pool/*/setting.json")):
        if (began := read_setting(folder).weights) != weights:
            raise SystemExit(
                f"pool: begun by the teacher {began}, this machine's is {weights}. Training gives other weights on "
                f"another machine, and pool and teacher must be of one: go on there, or delete {folder.parent.name}/ "
                "in the folder main and draw it anew here"
            )


def open_vllm(checkpoint: Path) -> AbstractContextManager[Engine]:
    return open_engine("auto", str(checkpoint), log_folder=MAIN, say=say)


def planned() -> Iterator[tuple[str, int]]:
    """Arm and replicate of every student in the declared order; the base stands behind what decides."""
    for arms in ORDER:
        for replicate in range(1, 1 + max(ARMS[arm].replicates for arm in arms)):
            yield from ((arm, replicate) for arm in arms if replicate <= ARMS[arm].replicates)
        if arms == ("vrt-tokens",):
            yield "base", 1


def is_made(name: str) -> bool:
    return (MAIN / name / "metrics.json").exists()


def make_students(ends: float) -> None:
    """Every student that is not there yet, as many as end in time by the pace of this sitting."""
    if not pool_report():
        raise SystemExit("students: the pool is not complete; first: main.py pool")
    todo = [f"{arm}-{replicate}" for arm, replicate in planned() if not is_made(f"{arm}-{replicate}")]
    started, slowest = time.monotonic(), 0.0
    for number, name in enumerate(todo):
        begun = time.monotonic()
        if begun + slowest > ends:
            say(f"{name} would not end in time; {len(todo) - number} students are left, the same command makes them")
            return
        metrics = make_student(*name.rsplit("-", 1))
        slowest = max(slowest, time.monotonic() - begun)
        left = (time.monotonic() - started) / (number + 1) * (len(todo) - number - 1) / 3600
        rate = metrics["tokens"] / max(metrics["training_seconds"], 0.1)  # in tenths of a second
        say(f"{name} done: {rate:.0f} tokens/s in training, {len(todo) - number - 1} left, about {left:.1f} hours")
    say("students: all made; next: main.py analyse")


def show_status() -> None:
    """What is there, how fast it was made, what is left."""
    done = [json.loads(path.read_text(encoding="utf-8")) for path in MAIN.glob("*-[0-9]*/metrics.json")]
    drawn, names = pool_report(), [f"{arm}-{replicate}" for arm, replicate in planned()]
    at_hand = "on this machine" if (teacher.TEACHER / "checkpoint").is_dir() else "not on this machine"
    began = sorted(read_setting(path.parent).weights for path in MAIN.glob("pool/*/setting.json"))
    pool = f"complete, {drawn['trials']} trials" if drawn else f"begun by {began}" if began else "not begun"
    print(f"teacher: {at_hand}\npool: {pool}")
    for arm in (*ARMS, "base"):
        made, all_of_it = (
            sum(name.rpartition("-")[0] == arm for name in which) for which in (filter(is_made, names), names)
        )
        print(f"{arm}: {made} of {all_of_it}")
    if trained := [metrics for metrics in done if metrics["tokens"]]:
        seconds = [sum(metrics[f"{part}_seconds"] for metrics in trained) for part in ("training", "evaluation")]
        rate, each = sum(metrics["tokens"] for metrics in trained) / seconds[0], sum(seconds) / len(trained)
        left = (len(names) - len(done)) * each / 3600
        print(f"{rate:.0f} tokens/s in training, {each:.0f} s a student; about {left:.1f} hours for what is left")


def make_student(arm: str, replicate: str) -> dict[str, Any]:
    """One student from its rows to its graded items, in a folder that gets its name when all is in it."""
    name, started = f"{arm}-{replicate}", time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=MAIN))
    say(f"{name}: begun")
    facts: dict[str, Any] = {"arm": arm, "replicate": int(replicate), "tokens": 0}
    checkpoint, template = resolve_model("embedded"), "ladder-fewshot"
    if name != BASE:
        facts |= train_student(arm, int(replicate), work)
        checkpoint, template = work / "checkpoint", "ladder"
    trained = time.monotonic()
    items = pilot.graded_answers(checkpoint, test_items(), template=template)
    items.to_parquet(work / "items.parquet", index=False)
    facts |= {"training_seconds": round(trained - started, 1), "unusable": unusable(items)}
    facts |= {"evaluation_seconds": round(time.monotonic() - trained, 1), "machine": machine(), "finished": now()}
    write_text_atomically(work / "metrics.json", json.dumps(facts, indent=1) + "\n")
    keep = ("items.parquet", "metrics.json", "training_log.jsonl")
    for path in [path for path in work.iterdir() if path.name not in keep]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    work.chmod(0o755)
    work.rename(MAIN / name)
    return facts


def train_student(arm: str, replicate: int, work: Path) -> dict[str, Any]:
    """Train into ``work/checkpoint``; returns what the student had."""
    config = settings(seed_of(arm, replicate))
    rows, repeats = student_rows(arm, replicate)
    write_records(work / "rows.parquet", rows, SftRow)
    report = train(Job(work / "rows.parquet", resolve_model("embedded"), work, config), log=say)
    return {
        "seed": config.seed,
        "rows_by_level": {str(level): sum(row.level == level for row in rows) for level in pilot.LEVELS},
        "repeats_passed_over": repeats,
        "tokens": report.tokens,
        "supervised_tokens": report.supervised_tokens,
        "steps": report.steps,
        "final_loss": round(report.final_loss, 4),
        "precision": config.precision,
    }


def settings(seed: int) -> TrainingConfig:
    """The pilot's, with products in bf16 where the machine has it (declared so)."""
    has_bf16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    return TrainingConfig(**{**pilot.SETTINGS, "precision": "bf16" if has_bf16 else "fp32"}, seed=seed)


def seed_of(arm: str, replicate: int) -> int:
    """A seed of its own for every student, none of the pilot's: it draws the rows and orders them."""
    return 1000 * (1 + list(ARMS).index(arm)) + replicate


def student_rows(arm: str, replicate: int) -> tuple[list[SftRow], int]:
    """The student's rows, and how many repeats were passed over to find them."""
    strategy, count, _ = ARMS[arm]
    rows = read_records(MAIN / "datasets" / f"{strategy}.parquet", SftRow)
    different, looked_at = distinct(rows, seed_of(arm, replicate))
    if not count:
        wanted = sum(token_counts(student_rows("prop2diff", replicate)[0]))
        held = list(accumulate(token_counts(different)))
        count = 1 + min(range(len(held)), key=lambda place: abs(held[place] - wanted))
    if count > len(different):
        raise SystemExit(f"{arm}: {count} different rows wanted, the data set has {len(different)}")
    return different[:count], looked_at[count - 1] - count


def distinct(rows: Sequence[SftRow], seed: int) -> tuple[list[SftRow], list[int]]:
    """The rows shuffled, each (query, response) once; and beside each how many rows had been read by then."""
    order = random.Random(seed).sample(rows, len(rows))
    places: dict[tuple[str, str], int] = {}
    for place, row in enumerate(order):
        places.setdefault((row.query_id, row.response), place)
    return [order[place] for place in places.values()], [place + 1 for place in places.values()]


def token_counts(rows: Sequence[SftRow]) -> list[int]:
    """Prompt, response and end tokens of each row."""
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder) / "rows.parquet", rows, SftRow)
        tokenizer = AutoTokenizer.from_pretrained(resolve_model("embedded"))
        examples = read_examples(Path(folder) / "rows.parquet", tokenizer, settings(0))
        if len(examples) != len(rows):
            raise SystemExit("a row is longer than a pack: the plan has none")
        return [len(examples[number].token_ids) for number in range(len(examples))]


def test_items() -> list[Query]:
    """The declared items: test splits, seed 1."""
    asked = [(pilot.LADDER, level, count) for level, count in IN_DOMAIN.items()] + list(OUT_OF_DOMAIN)
    return [
        query
        for ladder, level, count in asked
        for query in build_ladder(ladder=ladder, split="test", levels=[level], queries_per_level=count, seed=1)
    ]


def unusable(items: pd.DataFrame) -> list[str]:
    """Sources on which more than half of the replies hold no answer or are one and the same: told, never left out."""
    found = []
    for source, part in items.groupby("source"):
        silent = (part.verdict == "no_answer").mean()
        alike = part.response.str.strip().value_counts().iloc[0] / len(part)
        found += [str(source)] if max(silent, alike) > 0.5 else []
    return found


def machine() -> str:
    """What made it, in words that name no host."""
    from dartlib.pipeline.manifests import hardware

    return ", ".join(f"{name} {value}" for name, value in hardware().items() if value)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


say = pilot.say

if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()

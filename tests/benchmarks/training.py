"""Training: ours against TRL's SFTTrainer as well tuned as it goes, on the embedded model and the best device.

The same examples (token ids), pack length, packs a step, fp32, threads, and optimiser for both; one process each and in
turn, the median of three. A process loads the model, makes a step to warm up and then the timed ones. Rows of the
ladder are short, those of the paper's shape have long responses (packs of 1,024, for a CPU's sake). TRL: packing (best
fit), gradient checkpointing off, its own head, which projects in tiles; ``--tune`` times its other ways to cut a step.
``resume_seconds``: from the start of the command until it goes on where it was killed. Some six minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _rows import report, row

from dartlib.engines import embedded_model, load_tokenizer
from dartlib.queries import build_ladder
from dartlib.training import Job, Recipe, TrainingConfig, plan_steps, read_examples, train
from dartlib.training.data import Examples, pack, pack_best_fit

RUNS = 3
SHAPES = {  # template, tokens a pack, packs a step, timed steps
    "ladder": ("ladder", 256, 2, 2),
    "paper": ("alpaca", 1024, 1, 1),
}
TRL_WAYS = {"flat": (0, 1), "accumulated": (1, 0)}  # all packs of a step in one row, or one at a time
TRL_SETTINGS = dict(
    packing=True,
    gradient_checkpointing=False,
    bf16=False,
    optim="adamw_torch_fused",
    weight_decay=0.0,
    max_grad_norm=1.0,
    report_to="none",
    save_strategy="no",
    disable_tqdm=True,
    logging_steps=1000,
)
WORDS = "we add the first number to second so that result of this sum is half what was asked for in total".split()


def write_rows(shape: str, path: Path) -> None:
    """Rows for a few more steps than are made, so that the last one is whole."""
    draw = random.Random(shape)
    if shape == "ladder":
        asked = build_ladder(ladder="arithmetic", split="train", levels=[3, 4], queries_per_level=60, seed=1)
        rows = [
            {
                "query": query.query,
                "response": f"{query.query[8:-1]} = {query.reference_answer}. The answer is {query.reference_answer}.",
            }
            for query in asked
        ]
    else:
        words = [(draw.randint(30, 90), int(draw.lognormvariate(5.5, 0.6))) for _ in range(12)]
        rows = [{"query": _text(draw, asked), "response": _text(draw, min(600, said))} for asked, said in words]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


def job_of(shape: str, folder: Path, recipe: Recipe | None = None) -> Job:
    template, tokens, packs, _ = SHAPES[shape]
    config = TrainingConfig(
        template=template,
        learning_rate=1e-5,
        epochs=1,
        max_tokens_per_pack=tokens,
        packs_per_step=packs,
        packs_per_forward=packs,
        seed=1,
        packing="best-fit",
    )
    return Job(folder / f"{shape}.jsonl", embedded_model(), folder / "out", config, recipe or Recipe())


def resident() -> float:
    """GB of memory that this process has now."""
    return psutil.Process().memory_info().rss / 1e9


def peak_above(loaded: float) -> float:
    """GB by which this process has at most been larger than when the model was loaded."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9 - loaded


def ours(job: Job, steps: int) -> dict[str, float]:
    """The training process's own loop, its log and its report; memory until the student is saved."""
    from dartlib.training import child

    found = {}
    load, loop = child.load_model, child.run_steps

    def loaded(*arguments: Any) -> Any:
        model = load(*arguments)
        found["loaded_gb"] = resident()
        return model

    def looped(*arguments: Any) -> Any:
        lines = loop(*arguments)
        found["peak_gb"] = peak_above(found["loaded_gb"])
        return lines

    child.load_model, child.run_steps = loaded, looped
    child.plan_steps = lambda lengths, config: plan_steps(lengths, config)[:steps]
    child.fine_tune(job)
    lines = [json.loads(line) for line in job.log_file.read_text().splitlines()]
    tokens, seconds = (lines[-1][name] - lines[0][name] for name in ("tokens", "seconds"))
    return found | {"tokens": tokens, "tokens_per_second": tokens / seconds}


def theirs(job: Job, steps: int, way: str) -> dict[str, float]:
    """TRL's trainer over the same examples; tokens and supervised ones are counted from what it is given."""
    import torch
    import transformers
    import trl
    from datasets import Dataset

    examples = read_examples(job.dataset, load_tokenizer(str(job.base_model)), job.config)
    accumulate, together = TRL_WAYS[way]
    packs = job.config.packs_per_step
    settings = trl.SFTConfig(
        output_dir=str(job.output / "trl"),
        max_length=job.config.max_tokens_per_pack,
        per_device_train_batch_size=packs if together else 1,
        gradient_accumulation_steps=packs if accumulate else 1,
        max_steps=steps,
        learning_rate=job.config.learning_rate,
        **TRL_SETTINGS,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job.base_model, dtype=torch.float32, attn_implementation="sdpa"
    )
    loaded = resident()
    counted: list[tuple[int, int, float]] = []  # tokens, supervised ones, when the step was done
    open_step = [0, 0]

    class Counting(trl.SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            open_step[0] += inputs["input_ids"].numel()  # one row without filling
            open_step[1] += int((inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *rest)

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            counted.append((*open_step, time.monotonic()))

    trainer = Counting(
        model=model,
        args=settings,
        train_dataset=Dataset.from_dict(columns(examples)),
        processing_class=load_tokenizer(str(job.base_model)),
        callbacks=[Watch()],
    )
    trainer.train()
    tokens, supervised, seconds = (last - first for first, last in zip(counted[0], counted[-1], strict=True))
    return {
        "loaded_gb": loaded,
        "peak_gb": peak_above(loaded),
        "tokens": tokens,
        "supervised_share": supervised / tokens,
        "tokens_per_second": tokens / seconds,
    }


def columns(examples: Examples) -> dict[str, list[list[int]]]:
    labels = [[-100] * one.prompt_tokens + list(one.token_ids[one.prompt_tokens :]) for one in examples]
    return {"input_ids": [list(one.token_ids) for one in examples], "labels": labels}


def measure(shape: str, who: str, folder: Path) -> dict[str, float]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--child", who, "--shape", shape, "--folder", str(folder)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{who} on {shape} rows ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {shape:7} {who:12} {', '.join(f'{name} {value:.2f}' for name, value in found.items())}", flush=True)
    return found


def compared(shape: str, folder: Path) -> list[dict[str, Any]]:
    """Ours and TRL's in turn; medians."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "flat": []}
    for _ in range(RUNS):
        for who, of in runs.items():
            of.append(measure(shape, who, folder))
    suffix = "" if shape == "ladder" else f"_{shape}"
    rows = []
    for metric, unit in (("tokens_per_second", "tokens/s"), ("peak_gb", "GB")):
        middle = [statistics.median(run[metric] for run in runs[who]) for who in ("ours", "flat")]
        rows.append(row(metric + suffix, *middle, "TRL SFTTrainer", unit))
    return rows


def resume_seconds(folder: Path) -> float:
    """Killed after its first checkpoint, the same command is started again: seconds until it goes on."""
    job = job_of("ladder", folder, Recipe(checkpoint_steps=1))
    seconds_until(job, r"step [2-9]/")  # a checkpoint is written after each step
    return seconds_until(job, "going on after step ")


def seconds_until(job: Job, line_begins: str) -> float:
    """From the start of a training until it prints such a line; then it is killed."""

    class Reached(Exception):
        pass

    def watch(line: str) -> None:
        if re.match(line_begins, line):
            raise Reached

    began = time.monotonic()
    try:
        train(job, log=watch)
    except Reached:
        return time.monotonic() - began
    sys.exit(f"the training ended before it printed {line_begins!r}")


def densities() -> list[dict[str, Any]]:
    """How full packs of 4,096 are with 50,000 rows of 615 tokens on average, as long-tailed as the paper's."""
    drawn = np.random.default_rng(1).lognormal(np.log(615) - 0.6**2 / 2, 0.6, 50_000)
    lengths = np.clip(drawn, 60, 4096).astype(int).tolist()
    density = [sum(lengths) / (4096 * len(fill(lengths, 4096))) for fill in (pack_best_fit, pack)]
    return [row("packing_density", density[0], density[1], "next-fit", "share")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--tune", action="store_true", help="TRL's ways to cut a step, one run each")
    for name in ("--child", "--shape", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, steps = Path(options.folder), 1 + SHAPES[options.shape][3]
        with tempfile.TemporaryDirectory(dir=folder) as own:
            job = job_of(options.shape, folder)
            job = Job(job.dataset, job.base_model, Path(own), job.config, job.recipe)
            found = ours(job, steps) if options.child == "ours" else theirs(job, steps, options.child)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for shape in SHAPES:
            write_rows(shape, folder / f"{shape}.jsonl")
            config = job_of(shape, folder).config
            examples = read_examples(folder / f"{shape}.jsonl", load_tokenizer("embedded"), config)
            size, share = examples.lengths.mean(), examples.supervised.sum() / examples.lengths.sum()
            print(f"{shape}: {len(examples)} rows of {size:.0f} tokens, {share:.0%} supervised; {config}")
        print(f"TRL SFTTrainer: {TRL_SETTINGS}; the same threads ({len(os.sched_getaffinity(0))} cores)")
        if options.tune:
            for shape in SHAPES:
                for way in TRL_WAYS:
                    measure(shape, way, folder)
            return
        rows = [*densities(), *(each for shape in SHAPES for each in compared(shape, folder))]
        rows.append(row("resume_seconds", resume_seconds(folder), None, None, "s"))
    report(rows, options.json)


if __name__ == "__main__":
    main()

"""The training process: ``python -m dartlib.training.child --dataset … --base-model … --output … --epochs …``.

One process for a CPU or one GPU, or one of many started by torchrun. A plain loop: the libraries' trainers compute
the vocabulary projection for prompts too. Writes ``training_log.jsonl`` step by step, ``resume/`` from time to time
and ``checkpoint/`` at the end. A run that was killed goes on by the same command.
"""

import argparse
import os
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from dartlib.leases import Lease, LeaseHeld
from dartlib.records import RecordError
from dartlib.training.config import Job, TrainingConfig, TrainingReport, write_report
from dartlib.training.data import Examples, plan_steps, read_examples
from dartlib.training.loss import check_model
from dartlib.training.memory import check_memory
from dartlib.training.models import appears_whole, check_window, load_model, merge_lora, save_student
from dartlib.training.recipe import Recipe, TrainingError
from dartlib.training.resume import RESUME_FOLDER, Checkpoints, plan_digest
from dartlib.training.steps import run_steps
from dartlib.training.workers import OneProcess, ZeroProcesses, available_memory, join_processes, loading

_STARTED = time.monotonic()
_READ: Mapping[Any, Any] = {bool: "True".__eq__}  # how a setting is read, where not by calling its type
_RANK = int(os.environ.get("RANK", 0))


def main(arguments: list[str]) -> int:
    """Parse the command line, train, and return the exit status; a foreseen fault is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m dartlib.training.child", description="fine-tune one model")
    for name in ("dataset", "base-model", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for item in (*fields(TrainingConfig), *fields(Recipe)):  # no defaults here: the launcher names every setting
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=_READ.get(item.type, item.type), required=True)
    values = vars(parser.parse_args(arguments))
    try:
        config = TrainingConfig(**{item.name: values.pop(item.name) for item in fields(TrainingConfig)})
        recipe = Recipe(**{item.name: values.pop(item.name) for item in fields(Recipe)})
        fine_tune(Job(**values, config=config, recipe=recipe))
    except (TrainingError, RecordError, LeaseHeld, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:  # with many processes, the one that failed is told from those that it took along
        traceback.print_exc()
        print(f"error: process {_RANK}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def fine_tune(job: Job) -> TrainingReport | None:
    """Train in this process and leave a checkpoint in ``job.output``; the report, in the first of many processes."""
    digest = job.digest()
    if job.recipe.distributed:
        join_processes()
    with Lease(job.output, "training") if _RANK == 0 else nullcontext():
        if _RANK == 0:
            shutil.rmtree(job.checkpoint, ignore_errors=True)  # whatever was here, it is not this run's
        report = _fine_tune(job, digest)
    if job.recipe.distributed:
        torch.distributed.barrier()  # who leaves early looks dead to the others
    return report


def _fine_tune(job: Job, digest: str) -> TrainingReport | None:
    tokenizer = AutoTokenizer.from_pretrained(job.base_model, trust_remote_code=False)
    examples = _shared_examples(job, tokenizer)
    steps = plan_steps(examples.lengths, job.config)
    checkpoints = Checkpoints(job.output / RESUME_FOLDER, plan_digest(job, steps))
    checkpoints.newest()  # of another plan: say so before the long way
    check_memory(job, available_memory(job.recipe), gpu=torch.cuda.is_available())
    with loading(job):
        model, stored = load_model(job)
    check_window(model, int(examples.lengths.max()))
    worker = ZeroProcesses(model, job) if job.recipe.distributed else OneProcess(model, job.config)
    check_model(worker.module, worker.device)
    torch.manual_seed(job.config.seed)  # for models with dropout
    _say(f"{len(examples)} rows ({examples.dropped} too long and dropped), {len(steps)} steps")
    _say(f"{worker.world} x {worker.device.type}, {job.config.precision}, {torch.get_num_threads()} CPU threads each")
    lines = run_steps(worker, examples, steps, job, checkpoints, _say)
    if job.recipe.lora_rank:
        merge_lora(model, worker.whole)
    weights = worker.weights(stored)
    if _RANK > 0:
        return None
    report = _report(job, examples, lines, len(steps))
    with appears_whole(job.checkpoint) as folder:
        save_student(model, weights, tokenizer, folder)
        write_report(folder, report, digest)
    shutil.rmtree(checkpoints.folder)
    _say(f"checkpoint saved, {report.tokens_per_second:.0f} tokens/s, final loss {report.final_loss:.3f}")
    return report


def _shared_examples(job: Job, tokenizer: Any) -> Examples:
    """Tokenized by the first process of all; the others wait for it and read what it wrote."""
    if _RANK > 0:
        torch.distributed.barrier()
    examples = read_examples(job.dataset, tokenizer, job.config, folder=job.output / RESUME_FOLDER, log=_say)
    if _RANK == 0 and job.recipe.distributed:
        torch.distributed.barrier()
    return examples


def _report(job: Job, examples: Examples, lines: Sequence[dict[str, Any]], steps: int) -> TrainingReport:
    """What the log says was done. Raises TrainingError when that is not the plan, step by step."""
    if [line["step"] for line in lines] != list(range(1, steps + 1)):
        raise TrainingError(f"{job.log_file}: does not hold each of the {steps} steps once; delete {job.output}")
    last = [line["loss"] for line in lines[-max(1, steps // 10) :]]
    tokens, seconds = lines[-1]["tokens"], lines[-1]["seconds"]
    return TrainingReport(
        steps=steps,
        epochs=job.config.epochs,
        rows=len(examples),
        dropped_rows=examples.dropped,
        tokens=tokens,
        supervised_tokens=job.config.epochs * int(examples.supervised.sum()),
        final_loss=sum(last) / len(last),
        seconds=round(time.monotonic() - _STARTED, 2),
        tokens_per_second=round(tokens / max(seconds, 0.001), 1),
        checkpoint=job.checkpoint,
    )


def _say(text: str) -> None:
    if _RANK == 0:
        print(text, flush=True)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # the threads of gloo and of the shared memory helper do not always survive an orderly end

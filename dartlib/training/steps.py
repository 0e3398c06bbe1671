"""The optimiser steps of a run: packs dealt to processes, one log line each, checkpoints on the way."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from dartlib.training.config import Job, TrainingConfig
from dartlib.training.data import Example, Examples, Step
from dartlib.training.loss import collate
from dartlib.training.progress import cut_log
from dartlib.training.recipe import TrainingError
from dartlib.training.resume import Checkpoints
from dartlib.training.workers import Worker

_PROGRESS_SECONDS = 5.0
_NOTHING = Example((0,), 1)  # a token without loss, for a process without packs
_EXPLODED = 3.0  # times the highest loss of the first steps, and as many nats: a model that guesses is at 10
_FIRST_STEPS = 10


def learning_rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate of step 0 … steps-1: linear warm-up, then half a cosine. No step has rate zero.

    (Transformers' schedule starts at zero, so its first step does nothing; with 20 steps that is 5 % of a run.)
    """
    warmup = math.ceil(config.warmup_ratio * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def accumulate_gradients(worker: Worker, packs: Sequence[Sequence[Example]], *, packs_per_forward: int) -> float:
    """Add the gradients of one step's loss, the mean over its supervised tokens; returns this process's part of it.

    The step's packs are dealt out in turn. Every forward pass is divided by the supervised tokens of the *whole step*
    over all processes: a mean of means would weigh tokens in short packs more, and change the result with
    ``packs_per_forward`` and the number of processes. All processes make the same number of passes, for a pass may
    exchange weights; one that has run out of packs sees a token without loss.
    """
    supervised = sum(example.supervised_tokens for examples in packs for example in examples)
    own = packs[worker.rank :: worker.world]
    passes = math.ceil(math.ceil(len(packs) / worker.world) / packs_per_forward)
    attention = worker.module.model.config._attn_implementation
    total = 0.0
    for number in range(passes):
        part = own[number * packs_per_forward : (number + 1) * packs_per_forward] or [[_NOTHING]]
        batch = collate(part, worker.device, attention)
        total += worker.backward(batch, supervised, last=number == passes - 1)
    return total


def run_steps(
    worker: Worker,
    examples: Examples,
    steps: Sequence[Step],
    job: Job,
    checkpoints: Checkpoints,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """All steps from the last checkpoint on; the lines of the whole log.

    Of each line ``tokens`` and ``seconds`` are running totals, ``rows`` the data set's rows of this step. Raises
    TrainingError when the loss is no number any more or explodes.
    """
    checkpoint = checkpoints.newest()
    done = checkpoints.load(worker, checkpoint) if checkpoint else 0
    lines = cut_log(job.log_file, done) if worker.rank == 0 else []
    if checkpoint:
        say(f"going on after step {done}, from {checkpoint.name}")
    before = lines[-1]["seconds"] if lines else 0.0
    tokens = lines[-1]["tokens"] if lines else 0
    started = said = kept = time.monotonic()
    for number, step in enumerate(steps[done:], start=done + 1):
        packs = [[examples[index] for index in indices] for indices in step.packs]
        rate = learning_rate_at(number - 1, len(steps), job.config)
        part = accumulate_gradients(worker, packs, packs_per_forward=job.config.packs_per_forward)
        minutes = (time.monotonic() - kept) / 60 if worker.rank == 0 else 0.0
        loss, minutes = worker.total([part, minutes])
        rows = [int(examples.rows[index]) for indices in step.packs for index in indices]
        if _exploded(loss, lines):
            raise TrainingError(_what_to_do(loss, number, rows, job, checkpoints))
        worker.step(rate)
        now = time.monotonic()
        tokens += sum(len(example.token_ids) for pack in packs for example in pack)
        seconds = before + now - started
        line = {"step": number, "epoch": step.epoch, "loss": loss, "tokens": tokens, "lr": rate}
        line |= {"seconds": round(seconds, 3), "rows": rows}
        lines.append(line)
        if worker.rank == 0:
            with open(job.log_file, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
                log.flush()
                os.fsync(log.fileno())  # a checkpoint must not know of steps that the log has lost
        if number == done + 1 or number == len(steps) or now - said >= _PROGRESS_SECONDS:
            said = now
            left = (now - started) / (number - done) * (len(steps) - number)
            say(f"step {number}/{len(steps)}  loss {loss:.3f}  {tokens / seconds:.0f} tokens/s  {left:.0f} s left")
        every = job.recipe.checkpoint_steps
        if number < len(steps) and (minutes >= job.recipe.checkpoint_minutes or (every and number % every == 0)):
            checkpoints.save(worker, number)
            kept = time.monotonic()
    return lines


def _exploded(loss: float, lines: Sequence[dict[str, Any]]) -> bool:
    """No number any more, or far above where it began: an update would spoil the weights."""
    first = max((line["loss"] for line in lines[:_FIRST_STEPS]), default=math.inf)
    return not (math.isfinite(loss) and loss <= max(_EXPLODED, _EXPLODED * first))


def _what_to_do(loss: float, number: int, rows: Sequence[int], job: Job, checkpoints: Checkpoints) -> str:
    shown = ", ".join(map(str, rows[:20])) + (f" and {len(rows) - 20} more" if len(rows) > 20 else "")
    last = checkpoints.newest()
    return (
        f"the loss is {loss:.3g} at step {number}: lower the learning rate ({job.config.learning_rate}), or look at "
        f"rows {shown} of {job.dataset.name}; the last good checkpoint is {last.name if last else 'none'}"
    )

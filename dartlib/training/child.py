"""The training process: ``python -m dartlib.training.child --dataset … --base-model … --output … --epochs …``.

One process for a CPU or one GPU. A plain loop: the libraries' trainers compute the vocabulary projection for prompts
too. Writes ``training_log.jsonl`` step by step and ``checkpoint/`` at the end, all at once, by renaming. A run that was
killed leaves no checkpoint and starts from zero next time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch

from dartlib.files import sync_folder
from dartlib.records import RecordError
from dartlib.training.config import (
    CHECKPOINT_FOLDER,
    LOG_FILE,
    TrainingConfig,
    TrainingError,
    TrainingReport,
    job_digest,
    write_report,
)
from dartlib.training.data import Example, Step, plan_steps, read_examples
from dartlib.training.loss import ATTENTION, accumulate_gradients, check_projection

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_STARTED = time.monotonic()
_PROGRESS_SECONDS = 5.0
_ARGUMENT_TYPES = {"str": str, "int": int, "float": float}


def main(arguments: list[str]) -> int:
    """Parse the command line, train, and return the exit status; a foreseen fault is one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m dartlib.training.child", description="fine-tune one model")
    for name in ("dataset", "base-model", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for item in fields(TrainingConfig):  # no defaults here: the launcher names every setting
        kind = _ARGUMENT_TYPES[str(item.type)]
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=kind, required=True)
    values = vars(parser.parse_args(arguments))
    paths = {name: values.pop(name) for name in ("dataset", "base_model", "output")}
    try:
        fine_tune(**paths, config=TrainingConfig(**values))
    except (TrainingError, RecordError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def fine_tune(*, dataset: Path, base_model: Path, output: Path, config: TrainingConfig) -> TrainingReport:
    """Train in this process and leave a checkpoint in ``output``. Raises TrainingError or RecordError."""
    from transformers import AutoTokenizer

    checkpoint = output / CHECKPOINT_FOLDER
    shutil.rmtree(checkpoint, ignore_errors=True)  # whatever was here, it is not this run's
    job = job_digest(dataset, base_model, config)
    tokenizer = AutoTokenizer.from_pretrained(base_model, trust_remote_code=False)
    examples, dropped = read_examples(dataset, tokenizer, config)
    steps = plan_steps([len(example.token_ids) for example in examples], config)
    torch.manual_seed(config.seed)  # for models with dropout
    model, stored_dtype = load_model(base_model)
    _say(f"{len(examples)} rows ({dropped} too long and dropped), {len(steps)} steps in {config.epochs} epochs")
    _say(f"{config.precision} on {model.device}, {torch.get_num_threads()} CPU threads")
    with open(output / LOG_FILE, "w", encoding="utf-8") as log:
        outcome = run_steps(model, examples, steps, config, log)
    report = TrainingReport(
        steps=len(steps),
        epochs=config.epochs,
        rows=len(examples),
        dropped_rows=dropped,
        tokens=outcome.tokens,
        supervised_tokens=config.epochs * sum(example.supervised_tokens for example in examples),
        final_loss=outcome.final_loss,
        seconds=round(time.monotonic() - _STARTED, 2),
        tokens_per_second=round(outcome.tokens / outcome.seconds, 1),
        checkpoint=checkpoint,
    )
    with appears_whole(checkpoint) as folder:
        save_model(model.to(stored_dtype), tokenizer, folder)
        write_report(folder, report, job)
    _say(f"checkpoint saved, {report.tokens_per_second:.0f} tokens/s, final loss {report.final_loss:.3f}")
    return report


def load_model(base_model: Path) -> tuple[PreTrainedModel, torch.dtype]:
    """The model with fp32 weights on the best device, and the type its weights are stored in.

    In bf16 an AdamW step at 1e-5 rounds away for 98 % of the weights: the weights that are trained are fp32.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    stored = AutoConfig.from_pretrained(base_model, trust_remote_code=False).dtype or torch.float32
    model = AutoModelForCausalLM.from_pretrained(
        base_model, dtype=torch.float32, attn_implementation=ATTENTION, trust_remote_code=False, use_safetensors=True
    )
    if torch.cuda.is_available():
        model.to("cuda")
    else:  # saving a model imports DeepSpeed where it is installed, which would warn that there is no GPU
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    model.train()
    check_projection(model)
    return model, stored


def learning_rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """The learning rate of step 0 … steps-1: linear warm-up, then half a cosine. No step has rate zero.

    (Transformers' schedule starts at zero, so its first step does nothing; with 20 steps that is 5 % of a run.)
    """
    warmup = math.ceil(config.warmup_ratio * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@dataclass(frozen=True)
class Outcome:
    """What the steps did: tokens seen, seconds taken, mean loss of the last tenth of the steps."""

    tokens: int
    seconds: float
    final_loss: float


def run_steps(
    model: PreTrainedModel, examples: list[Example], steps: list[Step], config: TrainingConfig, log: IO[str]
) -> Outcome:
    """All optimiser steps; one JSON line each into ``log`` (``tokens`` and ``seconds`` are running totals)."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    started = said = time.monotonic()
    tokens, losses = 0, []
    for number, step in enumerate(steps, start=1):
        packs = [[examples[index] for index in indices] for indices in step.packs]
        rate = learning_rate_at(number - 1, len(steps), config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = accumulate_gradients(
            model, packs, packs_per_forward=config.packs_per_forward, precision=config.precision
        )
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {number}: lower the learning rate ({config.learning_rate})"
            )
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimiser.step()
        optimiser.zero_grad()
        now = time.monotonic()
        tokens += sum(len(example.token_ids) for examples in packs for example in examples)
        losses.append(loss)
        line = {"step": number, "epoch": step.epoch, "loss": loss, "tokens": tokens, "lr": rate}
        print(json.dumps({**line, "seconds": round(now - started, 2)}), file=log, flush=True)
        if number == 1 or number == len(steps) or now - said >= _PROGRESS_SECONDS:
            said = now
            left = (now - started) / number * (len(steps) - number)
            speed = tokens / (now - started)
            _say(f"step {number}/{len(steps)}  loss {loss:.3f}  {speed:.0f} tokens/s  {left:.0f} s left")
    last = losses[-max(1, len(losses) // 10) :]
    return Outcome(tokens, time.monotonic() - started, sum(last) / len(last))


@contextmanager
def appears_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``folder`` when the block ends well: complete or absent."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    yield temporary
    os.rename(temporary, folder)
    sync_folder(folder.parent)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Safetensors, tokenizer and generation settings, for transformers and vLLM.

    A padding token that is also an end token is taken out of the generation settings: some readers then drop or
    mask the end of every response, or stop at once.
    """
    settings = model.generation_config
    if settings is not None:
        ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
        if settings.pad_token_id in ends:
            settings.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

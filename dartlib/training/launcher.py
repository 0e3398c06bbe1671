"""The caller's side of training: starts the child process, shows its progress, reads its report. Loads no torch."""

from __future__ import annotations

import codecs
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dartlib.processes import ChildProcess, start_child
from dartlib.training.config import TrainingConfig, TrainingError, TrainingReport, job_digest, read_report

_OUTPUT_FILE = "training_output.txt"  # all that the child printed
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


def training_command(*, dataset: Path, base_model: Path, output: Path, config: TrainingConfig) -> list[str]:
    """The command that `train` runs, every setting named. It can be run by hand just as well."""
    values = {"dataset": dataset, "base_model": base_model, "output": output, **asdict(config)}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    return [sys.executable, "-m", "dartlib.training.child", *options]


def train(
    *, dataset: Path, base_model: Path, output: Path, config: TrainingConfig, log: Callable[[str], object] = print
) -> TrainingReport:
    """Fine-tune ``base_model`` on a data set (columns ``query``, ``response``) in a child process, and wait for it.

    ``log`` gets the child's lines as they come. The model is in ``output/checkpoint`` afterwards, the losses are in
    ``output/training_log.jsonl``. Interrupting ends the child within seconds; nothing is left that looks complete,
    and the next call starts from zero. Raises TrainingError with the child's last lines.
    """
    printed = output / _OUTPUT_FILE
    printed.unlink(missing_ok=True)
    command = training_command(dataset=dataset, base_model=base_model, output=output, config=config)
    with start_child(command, log_path=printed, env={**os.environ, **_QUIET}) as child:
        lines = _follow(child, printed, log)
    if child.returncode != 0:
        raise TrainingError(_reason(child.returncode, lines, command))
    report = completed_report(dataset=dataset, base_model=base_model, output=output, config=config)
    if report is None:
        raise TrainingError(f"{dataset} or {base_model} changed while it was trained on: train again")
    return report


def completed_report(*, dataset: Path, base_model: Path, output: Path, config: TrainingConfig) -> TrainingReport | None:
    """The report of a finished run of exactly this job in ``output``, or None when it has to be trained.

    Raises TrainingError when the data set or the base model is missing.
    """
    return read_report(output, job_digest(dataset, base_model, config))


def _reason(code: int | None, lines: list[str], command: list[str]) -> str:
    """A fault that the child foresaw is its last line; of any other the last lines and the command are shown."""
    if lines and lines[-1].startswith("error: "):
        return lines[-1].removeprefix("error: ")
    return "\n".join([f"training ended with exit code {code}", *lines[-5:], "command: " + shlex.join(command)])


def _follow(child: ChildProcess, printed: Path, log: Callable[[str], object]) -> list[str]:
    """Hand on each line as it is printed until the child ends; returns all lines."""
    lines: list[str] = []
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    with open(printed, "rb") as handle:
        ended = False
        while not ended:
            ended = child.poll() is not None  # asked before reading: what it printed last is read below
            *fresh, rest = (rest + decoder.decode(handle.read())).split("\n")
            if ended and rest:
                fresh.append(rest)
            for line in fresh:
                log(line)
            lines += fresh
            if not ended:
                time.sleep(0.2)
    return lines

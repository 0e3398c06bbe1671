"""The caller's side of training: starts the processes, shows their progress, reads the report. Loads no torch."""

import codecs
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from dartlib.leases import Lease
from dartlib.processes import ChildProcess, start_child
from dartlib.training.config import Job, TrainingReport, read_report
from dartlib.training.recipe import TrainingError

_OUTPUT_FILE = "training_output.txt"  # all that the processes printed
_PORT = "29400"  # where nodes meet, unless MASTER_PORT names another
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
_QUIET |= {"PYTHONWARNINGS": "ignore::FutureWarning", "TOKENIZERS_PARALLELISM": "true"}


def training_command(job: Job) -> list[str]:
    """The command that `train` runs, every setting named. It can be run by hand just as well.

    With several nodes it is run on each of them (``launch`` does that); they meet at MASTER_ADDR and MASTER_PORT, by
    default at this machine.
    """
    recipe = job.recipe
    values = {"dataset": job.dataset, "base_model": job.base_model, "output": job.output}
    options = [
        f"--{name.replace('_', '-')}={value}" for name, value in (values | asdict(job.config) | asdict(recipe)).items()
    ]
    if not recipe.distributed:
        return [sys.executable, "-m", "dartlib.training.child", *options]
    meet = ["--standalone"]
    if recipe.nodes > 1:
        host = os.environ.get("MASTER_ADDR") or socket.gethostname()
        endpoint = f"{host}:{os.environ.get('MASTER_PORT', _PORT)}"
        meet = [f"--nnodes={recipe.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=training"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={recipe.processes}", *meet]
    return [*shlex.split(recipe.launch), *torchrun, "-m", "dartlib.training.child", *options]


def train(job: Job, *, log: Callable[[str], None] = print) -> TrainingReport:
    """Fine-tune a base model on a data set (columns ``query``, ``response``) in child processes, and wait for them.

    ``log`` gets the lines of the first process as they come. The model is in ``output/checkpoint`` afterwards, the
    losses are in ``output/training_log.jsonl``. Interrupting ends all processes within seconds; the next call goes on
    from the last checkpoint. Raises TrainingError with the reason, and LeaseHeld when the folder is in use.
    """
    Lease(job.output, "training").release()  # in use: say so before its output file is touched
    printed = job.output / _OUTPUT_FILE
    printed.unlink(missing_ok=True)
    command = training_command(job)
    threads = str(max(1, len(os.sched_getaffinity(0)) // job.recipe.processes))
    cores = {"OMP_NUM_THREADS": threads} if job.recipe.distributed else {}
    with start_child(command, log_path=printed, env={**os.environ, **_QUIET, **cores}) as child:
        lines = _follow(child, printed, log)
    if code := child.poll():
        raise TrainingError(_reason(code, lines, command))
    report = completed_report(job)
    if report is None:
        raise TrainingError(f"{job.dataset} or {job.base_model} changed while it was trained on: train again")
    return report


def completed_report(job: Job) -> TrainingReport | None:
    """The report of a finished run of exactly this job in ``output``, or None when it has to be trained.

    Raises TrainingError when the data set or the base model is missing.
    """
    return read_report(job.output, job.digest())


def _reason(code: int, lines: list[str], command: list[str]) -> str:
    """A fault that was foreseen is its line; of any other, what torchrun says of a killed process, or the first error.

    When one process is killed the others fail too, for they wait for it: theirs is the louder and the lesser news.
    """
    faults = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if foreseen := [fault for fault in faults if not fault.startswith("process ")]:
        return foreseen[0]
    killed = [line.strip() for line in lines if "received by PID" in line and "SIGTERM" not in line]
    shown = killed[:1] + faults[:1] or lines[-5:]
    return "\n".join([f"training ended with exit code {code}", *shown, "command: " + shlex.join(command)])


def _follow(child: ChildProcess, printed: Path, log: Callable[[str], None]) -> list[str]:
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

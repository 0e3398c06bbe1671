"""What a stage's process holds while it works: the stage itself, on whatever machine, and GPUs of this one.

Other machines share nothing with the coordinator (`dartlib run`) but the run folder, so all is told by files in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from dartlib.files import cache_folder, write_text_atomically
from dartlib.leases import Lease, LeaseHeld
from dartlib.pipeline.execution import end_marked_processes
from dartlib.pipeline.stages import Stage

GPUS_VARIABLE = "DARTLIB_GPUS"  # those of this machine that stages share
_COORDINATOR = "DARTLIB_COORDINATOR"  # in the environment of every process of a run
_RECORD = "coordinator.json"  # in the run folder
_WATCH_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0


def take_over(folder: Path) -> None:
    """Become the folder's coordinator: whatever an earlier one, which died for we hold its lease, has left is ended.

    Its processes here at once; jobs on other machines, or still in a queue, end themselves when they see the new mark.
    """
    before, mark = _coordinator_of(folder), uuid.uuid4().hex
    write_text_atomically(folder / _RECORD, json.dumps({"mark": mark}) + "\n")
    if before and (ended := end_marked_processes(_COORDINATOR, before)):
        print(f"ended {ended} leftover processes of an earlier run")
    os.environ[_COORDINATOR] = mark


def let_go(folder: Path) -> None:
    """Nobody waits for what this coordinator has started elsewhere: those jobs end themselves."""
    write_text_atomically(folder / _RECORD, json.dumps({"mark": ""}) + "\n")


def _coordinator_of(folder: Path) -> str:
    """The mark of the `dartlib run` that works on this folder, or did last; empty when there was none."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))["mark"]
    return ""


@contextlib.contextmanager
def holding(folder: Path, name: str) -> Iterator[None]:
    """Only one process works on a stage, on whatever machine, and only for the coordinator that is there now.

    A job whose coordinator died ends itself within seconds when another one has taken over; that one's job waits.
    """
    mark, over = os.environ.get(_COORDINATOR), threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH_SECONDS):
            if _coordinator_of(folder) != mark:
                print(f"{name}: another `dartlib run` has taken over: this job ends", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    if mark and _coordinator_of(folder) != mark:
        raise LeaseHeld(f"{folder} is run by another `dartlib run` now: this job of an earlier one has nothing to do")
    with _patient_lease(folder / ".leases" / name, name):
        if mark:
            threading.Thread(target=watch, name="coordinator-watch", daemon=True).start()
        try:
            yield
        finally:
            over.set()


def _patient_lease(place: Path, name: str) -> Lease:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return Lease(place, f"stage {name}")
        except LeaseHeld:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@contextlib.contextmanager
def own_gpus(stage: Stage) -> Iterator[None]:
    """Take as many GPUs as the stage asks for of those that `dartlib run` shares out here; none is taken twice."""
    wanted, taken = stage.resources.get("gpus", 0), list[str]()
    with contextlib.ExitStack() as held:
        for gpu in filter(None, os.environ.get(GPUS_VARIABLE, "").split(",")):
            # In the cache: jobs may have temporary folders of their own. By machine: several may share a home.
            lock = cache_folder() / f"gpu-{socket.gethostname()}-{os.getuid()}-{gpu}.lock"
            handle = held.enter_context(open(lock, "w", encoding="utf-8"))
            with contextlib.suppress(BlockingIOError):
                if len(taken) < wanted:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    taken.append(gpu)
        if wanted and GPUS_VARIABLE in os.environ:
            if len(taken) < wanted:
                raise LeaseHeld(f"{stage.name} takes {wanted} GPUs, {len(taken)} are free: another run has the others")
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        yield

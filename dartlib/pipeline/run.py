"""`dartlib run`: resolve a profile into its run folder, then let Snakemake run the stages that are not complete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from dartlib.files import REPOSITORY, RUNS, write_text_atomically
from dartlib.leases import Lease
from dartlib.pipeline.digest import manifest_of
from dartlib.pipeline.execution import end_marked_processes, keep_thread_limits
from dartlib.pipeline.profiles import Profile, ProfileError, load_profile, with_overrides
from dartlib.pipeline.stages import Run, build_run, run_folder, save_run
from dartlib.pipeline.status import failures, stage_states, time_table
from dartlib.pipeline.superseded import SUPERSEDED, made_stages, mark_complete, put_aside
from dartlib.processes import start_child, term_raises

SNAKEFILE = RUNS / "Snakefile"
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_COORDINATOR = "DARTLIB_COORDINATOR"  # in the environment of every process of a run
_POLL_SECONDS = 0.3
_GRACE_SECONDS = 10.0


def run_profile(name: str, *, run_name: str | None, runs: Path, settings: Sequence[str], command: str) -> int:
    """Run a profile; returns the exit code (0 complete, 130 after Ctrl-C, 143 after TERM, else the first failure).

    Raises ProfileError or NotebookError before anything is started or written, LeaseHeld when another coordinator
    works on the same run folder.
    """
    profile = with_overrides(load_profile(name), settings)
    folder = run_folder(run_name or profile.name, runs)
    run = build_run(profile, folder, command)
    require_disk(folder, profile)
    with Lease(folder, command), term_raises(_Terminated):
        _end_leftovers(folder)
        _prepare(run, folder)
        started = time.time()
        try:
            code = _run_workflow(run, folder)
        except KeyboardInterrupt as stop:
            print(f"stopped; `{command}` goes on from here")
            return EXIT_TERMINATED if isinstance(stop, _Terminated) else EXIT_INTERRUPTED
        return _report(run, folder, code, started)


def require_disk(folder: Path, profile: Profile) -> None:
    """ProfileError when the disk under ``folder`` has less free space than the profile asks for."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < profile.disk_gb:
        raise ProfileError(
            f"profile {profile.name} needs {profile.disk_gb:,.1f} GB free for {folder}, there are {free:.1f} GB: "
            "free some space, or name another place with --runs"
        )


def workflow_command(folder: Path) -> list[str]:
    """The Snakemake call for a run folder. It runs what has no complete.txt, and checks what follows from that."""
    options = "--cores 2 --resources engine=1 --rerun-incomplete --nolock --scheduler greedy --nocolor"
    place = ["--snakefile", str(SNAKEFILE), "--directory", str(folder), "--rerun-triggers", "input"]
    return [sys.executable, "-m", "snakemake", *place, *options.split()]


def workflow_environment() -> dict[str, str]:
    """Our environment, with this very checkout first on the import path of every process of the run."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, **keep_thread_limits(), "PYTHONPATH": os.pathsep.join(paths)}


def _end_leftovers(folder: Path) -> None:
    """End processes of an earlier coordinator of this folder that died (we hold the lease, so it did)."""
    record = folder / "coordinator.json"
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
        ended = end_marked_processes(_COORDINATOR, json.loads(record.read_text(encoding="utf-8"))["mark"])
        if ended:
            print(f"ended {ended} leftover processes of an earlier run")
    mark = uuid.uuid4().hex
    write_text_atomically(record, json.dumps({"mark": mark}) + "\n")
    os.environ[_COORDINATOR] = mark


def _prepare(run: Run, folder: Path) -> None:
    """Say what has changed, put stages of other settings aside, and leave Snakemake what is not complete to run.

    No figure and no table of this run sees students of earlier seeds or strategies.
    """
    states = stage_states(run, folder)
    for name in sorted(made_stages(folder) - states.keys()):
        if put_aside(name, folder):
            print(f"{name}: no stage of this run: its results wait in {folder.name}/{SUPERSEDED}/")
    save_run(run, folder / "run.json")
    for name, (state, note) in states.items():
        (folder / name / "failure.json").unlink(missing_ok=True)
        manifest = manifest_of(name, folder)
        if state == "complete" and manifest:
            mark_complete(name, folder, manifest.digest)
            continue
        (folder / name / "complete.txt").unlink(missing_ok=True)
        if state == "outdated":
            print(f"{name}: {note}; what reads its files is checked")


def _run_workflow(run: Run, folder: Path) -> int:
    """Run Snakemake as a child that dies with us, and show what the stages log meanwhile."""
    log = folder / "snakemake.log"
    log.unlink(missing_ok=True)
    tail = LogTail(folder, [stage.name for stage in run.stages])
    child = start_child(workflow_command(folder), log_path=log, env=workflow_environment(), cwd=folder)
    try:
        while child.poll() is None:
            tail.show()
            time.sleep(_POLL_SECONDS)
        return child.wait()
    finally:
        child.stop(_GRACE_SECONDS)
        tail.show()


class LogTail:
    """Prints what stages that start from now on add to their logs, each line with its stage's name before it."""

    def __init__(self, folder: Path, stages: Sequence[str]) -> None:
        self._logs = {stage: folder / stage / "log.txt" for stage in stages}
        self._started = time.time()
        self._shown = dict.fromkeys(stages, 0)

    def show(self) -> None:
        """Print the lines completed since the last call."""
        for stage, log in self._logs.items():
            if not log.is_file() or log.stat().st_mtime < self._started:
                continue
            with open(log, "rb") as handle:
                handle.seek(self._shown[stage])
                whole, newline, _ = handle.read().rpartition(b"\n")
                self._shown[stage] += len(whole) + len(newline)
            for line in filter(str.strip, whole.decode("utf-8", "replace").splitlines()):
                # Lines may hold model text: nothing in them may steer the terminal.
                print(f"[{stage}] {''.join(c if c.isprintable() else ' ' for c in line)}", flush=True)


def _report(run: Run, folder: Path, code: int, started: float) -> int:
    """Print how it ended; returns the exit code of the run."""
    failed = failures(run, folder)
    for stage, failure in failed.items():
        print(f"FAILED {stage}: {failure['kind']}, exit code {failure['exit_code']}", file=sys.stderr)
        print(
            f"  executed copy: {folder / stage / 'notebook.ipynb'}, log: {folder / stage / 'log.txt'}", file=sys.stderr
        )
    if code and not failed:
        lines = (folder / "snakemake.log").read_text(encoding="utf-8", errors="replace").splitlines()
        print("FAILED outside of any notebook; the workflow's last lines:", *lines[-15:], sep="\n  ", file=sys.stderr)
    table, done = time_table(run, folder, started)
    if not code and not done:
        print(f"nothing to do: all {len(run.stages)} stages of {folder.name} are complete")
    print(table)
    if (folder / SUPERSEDED).is_dir():
        print(f"earlier results: {folder / SUPERSEDED}; they come back with their settings, delete what you need not")
    print(f"figures: {folder / 'figures'}   executed notebooks: {folder}/<stage>/notebook.ipynb")
    return next((int(failure["exit_code"]) for failure in failed.values()), code)


class _Terminated(KeyboardInterrupt):
    """A TERM ends us as Ctrl-C does: children first, then a message."""

"""`dartlib run`: resolve a profile into its run folder, then let Snakemake run the stages that are not complete."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dartlib.files import REPOSITORY, RUNS
from dartlib.leases import Lease
from dartlib.pipeline.digest import manifest_of
from dartlib.pipeline.execution import keep_thread_limits
from dartlib.pipeline.jobs import GPUS_VARIABLE, let_go, take_over
from dartlib.pipeline.profiles import NOTEBOOK_NAMES, Profile, ProfileError
from dartlib.pipeline.stage_runner import EXIT_TERMINATED
from dartlib.pipeline.stages import Run, build_run, run_folder, save_run
from dartlib.pipeline.status import failures, stage_states, time_table
from dartlib.pipeline.superseded import SUPERSEDED, made_stages, mark_complete, put_aside
from dartlib.processes import start_child, term_raises

SNAKEFILE = RUNS / "Snakefile"
EXIT_INTERRUPTED = 130
_POLL_SECONDS = 0.3
_GRACE_SECONDS = 10.0


def run_profile(profile: Profile, *, run_name: str | None, runs: Path, command: str, passed: Sequence[str] = ()) -> int:
    """Run a profile; returns the exit code (0 complete, 130 after Ctrl-C, 143 after TERM, else the first failure).

    ``passed`` are options for Snakemake. Raises ProfileError or NotebookError before anything is started or written,
    LeaseHeld when another coordinator works on the same run folder.
    """
    folder = run_folder(run_name or profile.name, runs)
    run = build_run(profile, folder, command)
    workflow = workflow_command(folder, profile, passed)
    require_disk(folder, profile)
    with Lease(folder, command), term_raises(_Terminated):
        started = time.time()
        try:
            take_over(folder)
            _prepare(run, folder)
            environment = workflow_environment([] if is_elsewhere(passed) else shared_gpus(profile))
            code = _run_workflow(run, folder, workflow, environment)
        except KeyboardInterrupt as stop:
            let_go(folder)
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


def is_elsewhere(passed: Sequence[str]) -> bool:
    """True when options for Snakemake name an executor other than this machine, or a profile of its own, which may."""
    names = {"-e" if word.startswith("-e") else word.partition("=")[0] for word in passed}
    is_here = "local" in passed or "--executor=local" in passed
    return bool(names & {"--executor", "-e", "--profile", "--workflow-profile"}) and not is_here


def workflow_command(folder: Path, profile: Profile, passed: Sequence[str] = ()) -> list[str]:
    """The Snakemake call for a run folder. It runs what has no complete.txt, and checks what follows from that.

    ``passed`` comes last, so it wins. Elsewhere a batch system hands out what stages ask for; here they share it.
    Raises ProfileError when a stage asks for more GPUs than there are here, or an option is none of Snakemake's.
    """
    options = "--rerun-incomplete --nolock --scheduler greedy --nocolor"
    most = max(profile.stage_resources(notebook).get("gpus", 0) for notebook in NOTEBOOK_NAMES)
    if not is_elsewhere(passed):
        gpus = len(shared_gpus(profile))
        if most > gpus:
            raise ProfileError(f"{profile.name}: a stage takes {most} of {gpus} GPUs: raise gpus, or --executor")
        if any(word.partition("=")[0] in ("--resources", "--res") for word in passed):
            raise ProfileError("--resources would undo how stages share this machine: set the profile's resources")
        options += f" --cores {max(2, os.cpu_count() or 1)} --resources engine=1 gpu={gpus}"
    elif not any("profile" in word for word in passed):  # a Snakemake profile says this itself
        options += " --jobs 64 --latency-wait 60"
    if passed:
        _check_passed(passed)
    place = ["--snakefile", str(SNAKEFILE), "--directory", str(folder), "--rerun-triggers", "input"]
    return [sys.executable, "-P", "-m", "snakemake", *place, *options.split(), *passed]


def shared_gpus(profile: Profile) -> list[str]:
    """The GPUs of this machine that stages share: the first ``gpus`` of those that are visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = map(str, range(profile.gpus)) if visible is None else filter(None, visible.split(","))
    return list(known)[: profile.gpus]


def _check_passed(passed: Sequence[str]) -> None:
    """Snakemake would take a shortened option for one of its own: whole names only, those of its plugins included."""
    from snakemake.cli import get_argument_parser

    if set(passed) & {"-n", "--dry-run", "--dryrun"}:
        raise ProfileError("a dry run is `dartlib plan`: it says what would run, why, and changes nothing")
    known = get_argument_parser()._option_string_actions
    for word in (word.partition("=")[0] for word in passed if word.startswith("-")):
        if word not in known and word[:2] not in known:  # -j4
            raise ProfileError(f"unrecognized arguments: {word}: an option neither of dartlib nor of Snakemake")


def workflow_environment(gpus: Sequence[str] = ()) -> dict[str, str]:
    """Our environment, with this very checkout first on the import path of every process of the run.

    Stages take of these ``gpus`` by `own_gpus`; elsewhere a batch system hands them out.
    """
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    shared = {GPUS_VARIABLE: ",".join(gpus)} if gpus else {}
    return {**os.environ, **keep_thread_limits(), **shared, "PYTHONPATH": os.pathsep.join(paths)}


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


def _run_workflow(run: Run, folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run Snakemake as a child that dies with us, and show what the stages log meanwhile."""
    log = folder / "snakemake.log"
    log.unlink(missing_ok=True)
    tail = LogTail(folder, [stage.name for stage in run.stages])
    child = start_child(command, log_path=log, env=environment)
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
    if not code and not done and all(state == "complete" for state, _ in stage_states(run, folder).values()):
        print(f"nothing to do: all {len(run.stages)} stages of {folder.name} are complete")
    print(table)
    if (folder / SUPERSEDED).is_dir():
        print(f"earlier results: {folder / SUPERSEDED}; they come back with their settings, delete what you need not")
    print(f"figures: {folder / 'figures'}   executed notebooks: {folder}/<stage>/notebook.ipynb")
    return next((int(failure["exit_code"]) for failure in failed.values()), code)


class _Terminated(KeyboardInterrupt):
    """A TERM ends us as Ctrl-C does: children first, then a message."""

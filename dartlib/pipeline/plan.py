"""`dartlib plan`: per stage run or reuse, and why, with what the run would cost. Nothing is executed or changed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dartlib.pipeline.manifests import scrubbed_parameters
from dartlib.pipeline.profiles import REPOSITORY, load_profile, with_overrides
from dartlib.pipeline.run import workflow_command, workflow_environment
from dartlib.pipeline.stages import Run, Stage, build_run, run_folder, save_run
from dartlib.pipeline.status import manifest_of
from dartlib.queries import load_queries
from dartlib.records import RecordError

_MANIFEST = re.compile(r"([\w/-]+)/manifest\.json")


def show_plan(name: str, *, run_name: str | None, runs: Path, settings: Sequence[str]) -> int:
    """Print what `dartlib run` with the same arguments would do; 0 unless the workflow cannot be planned."""
    profile = with_overrides(load_profile(name), settings)
    folder = run_folder(run_name or profile.name, runs)
    run = build_run(profile, folder, "")
    reasons = _reasons(run, folder)
    for stage in run.stages:
        action = f"run    {reasons[stage.name]}" if stage.name in reasons else "reuse"
        print(f"{stage.name:<32} {action}")
    print(f"{len(reasons)} of {len(run.stages)} stages to run in {folder}, which needs {profile.disk_gb:g} GB free")
    for line in _expected(run, folder, reasons):
        print(line)
    return 0


def _reasons(run: Run, folder: Path) -> dict[str, str]:
    """Stages that would run, each with its reason, from Snakemake's dry run."""
    if not (folder / "run.json").is_file():
        return {stage.name: "not made yet" for stage in run.stages}
    with tempfile.TemporaryDirectory() as temporary:
        candidate = Path(temporary) / "run.json"
        save_run(run, candidate)
        done = subprocess.run(
            [*workflow_command(folder), "--dry-run", "--config", f"run_file={candidate}"],
            env=workflow_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    text = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"snakemake could not plan this run:\n{text}")
    blocks = re.findall(r"^    output: (\S+)/manifest\.json\n.*?^    reason: (.*?)$", text, flags=re.M | re.S)
    return {name: _plainly(reason, run.stage(name), folder) for name, reason in blocks if name != "all"}


def _plainly(reason: str, stage: Stage, folder: Path) -> str:
    """Snakemake's reason in fewer words; of changed parameters, only those that differ."""
    parts = []
    for part in reason.split("; "):
        if part.startswith("Params have changed"):
            parts.append(_difference(stage, folder))
        elif part.startswith("Missing output"):
            parts.append("not made yet")
        elif part.startswith("Input files updated"):
            parts.append(f"after {', '.join(sorted(_MANIFEST.findall(part)))}")
        elif part.startswith("Updated input files"):
            files = [Path(name).name for name in part.partition(": ")[2].split(", ")]
            parts.append(f"changed: {', '.join(files)}")
        else:
            parts.append(part.strip())
    return "; ".join(parts)


def _difference(stage: Stage, folder: Path) -> str:
    manifest = manifest_of(stage, folder)
    before, now = manifest.parameters if manifest else {}, scrubbed_parameters(stage, folder)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return ", ".join(f"{name}: {before.get(name)!r} -> {now.get(name)!r}" for name in names)


def _expected(run: Run, folder: Path, stages: Mapping[str, str]) -> list[str]:
    """What the stages to run will cost, as far as parameters and earlier runs tell."""
    lines = []
    if "02_synthesis" in stages:
        lines.append(_synthesis_cost(run.stage("02_synthesis").parameters))
    manifests = {name: manifest_of(run.stage(name), folder) for name in stages}
    seconds = {name: manifest.seconds for name, manifest in manifests.items() if manifest}
    if seconds:
        lines.append(
            f"time: {len(seconds)} of these stages took {sum(seconds.values()) / 3600:.2f} hours when last run"
        )
    return lines


def _synthesis_cost(parameters: Mapping[str, Any]) -> str:
    """Bounds on trials and tokens: every query gets the difficulty (or vanilla) trials, none more than the cap."""
    try:
        source, per_level = parameters["QUERIES"], parameters["QUERIES_PER_LEVEL"]
        always = max(parameters["DIFFICULTY_TRIALS"], parameters["VRT_TRIALS"])
        most = max(always, parameters["TRIAL_CAP"])
        place = REPOSITORY / source  # notebooks run in the repository's root
        source = str(place) if place.is_file() else source
        n = len(load_queries(source, split="train", queries_per_level=per_level, seed=parameters["SAMPLING_SEED"]))
    except (KeyError, RecordError) as error:
        return f"synthesis: cost unknown ({error})"
    tokens = n * most * parameters["MAX_TOKENS"]
    return f"synthesis: {n:,} queries, {n * always:,} to {n * most:,} trials, at most {tokens:,} new tokens"

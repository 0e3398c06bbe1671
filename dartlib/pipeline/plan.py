"""`dartlib plan`: per stage run, check or reuse, and why, with what it would cost. Nothing is executed or changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dartlib.pipeline.digest import manifest_of
from dartlib.pipeline.profiles import load_profile, with_overrides
from dartlib.pipeline.stages import Run, build_run, run_folder
from dartlib.pipeline.status import stage_states
from dartlib.queries import load_queries

_ACTIONS = {"complete": "reuse", "waiting": "check"}  # every other state: run


def show_plan(name: str, *, run_name: str | None, runs: Path, settings: Sequence[str]) -> int:
    """Print what `dartlib run` with the same arguments would do; 0 unless an input is wrong."""
    profile = with_overrides(load_profile(name), settings)
    folder = run_folder(run_name or profile.name, runs)
    run = build_run(profile, folder, "")
    actions = {}
    for stage, (state, note) in stage_states(run, folder).items():
        actions[stage] = _ACTIONS.get(state, "run")
        print(f"{stage:<32} {actions[stage]:<6} {note}")
    to_run = [stage for stage, action in actions.items() if action == "run"]
    to_check = list(actions.values()).count("check")
    print(
        f"{len(to_run)} of {len(actions)} stages to run, {to_check} to check in {folder}, which needs "
        f"{profile.disk_gb:g} GB free"
    )
    for line in _expected(run, folder, to_run):
        print(line)
    return 0


def _expected(run: Run, folder: Path, stages: Collection[str]) -> list[str]:
    """What the stages to run will cost, as far as parameters and earlier runs tell."""
    lines = []
    if "02_synthesis" in stages:
        lines.append(_synthesis_cost(run.stage("02_synthesis").parameters))
    seconds = [manifest.seconds for name in stages if (manifest := manifest_of(name, folder))]
    if seconds:
        lines.append(f"time: {len(seconds)} of these stages took {sum(seconds) / 3600:.2f} hours when last run")
    return lines


def _synthesis_cost(parameters: Mapping[str, Any]) -> str:
    """Bounds on trials and tokens: every query gets the difficulty (or vanilla) trials, none more than the cap."""
    try:
        source, per_level = parameters["QUERIES"], parameters["QUERIES_PER_LEVEL"]
        always = max(parameters["DIFFICULTY_TRIALS"], parameters["VRT_TRIALS"])
        most = max(always, parameters["TRIAL_CAP"])
        n = len(load_queries(source, split="train", queries_per_level=per_level, seed=parameters["SAMPLING_SEED"]))
    except (KeyError, ValueError) as error:  # also more ladder queries than there are
        return f"synthesis: cost unknown ({error})"
    tokens = n * most * parameters["MAX_TOKENS"]
    return f"synthesis: {n:,} queries, {n * always:,} to {n * most:,} trials, at most {tokens:,} new tokens"

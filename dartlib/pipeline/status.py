"""`dartlib status`: what a run folder holds, read from its manifests; and how each stage stands, for run and plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dartlib.pipeline.digest import differences, manifest_of, stage_inputs
from dartlib.pipeline.stages import Run, Stage, load_run


def show_status(folder: Path) -> int:
    """Print one line per stage and the command that makes what is missing; 0 when all is complete, else 1."""
    run = load_run(folder / "run.json")
    states = stage_states(run, folder)
    for name, (state, note) in states.items():
        print(f"{name:<32} {state:<10} {note}")
    missing = [name for name, (state, _) in states.items() if state != "complete"]
    if missing:
        print(f"{len(missing)} of {len(states)} stages to do: {run.command}")
    else:
        print(f"all {len(states)} stages complete")
    return int(bool(missing))


def stage_states(run: Run, folder: Path) -> dict[str, tuple[str, str]]:
    """By stage a state and a note.

    ``complete``; ``outdated``: its digest is another one now, and the note says what differs; ``waiting``: complete
    until an earlier stage that is to run makes other files; ``incomplete``: queries are stuck; ``failed``; ``partial``;
    ``missing``.
    """
    states: dict[str, tuple[str, str]] = {}
    for stage in run.stages:
        states[stage.name] = _stage_state(stage, folder, states)
    return states


def _stage_state(stage: Stage, folder: Path, earlier: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    if manifest := manifest_of(stage.name, folder):
        inputs = stage_inputs(stage, folder)
        to_run = [need for need in stage.needs if earlier[need][0] != "complete"]
        if not manifest.digest:
            return "outdated", "made by an earlier version of dartlib, which kept no digest"
        unknown = tuple(f"{need}/" for need in to_run)
        changed = [each for each in differences(manifest.inputs, inputs) if not each.startswith(unknown)]
        if changed:
            return "outdated", "changed: " + "; ".join(changed)
        if to_run:
            return "waiting", f"runs again if {to_run[0]}{' or another' if to_run[1:] else ''} makes other files for it"
        commit = f"{manifest.git_commit[:10]}{' with changes' if manifest.git_dirty else ''}"
        return "complete", f"{manifest.seconds:.0f} s, finished {manifest.finished}, commit {commit}"
    place = folder / stage.name
    if (place / "failure.json").is_file():
        failure = json.loads((place / "failure.json").read_text(encoding="utf-8"))
        cell = f" in cell {failure['cell']}" if failure["cell"] else ""
        state = "incomplete" if failure["kind"] == "incomplete" else "failed"
        return state, f"{failure['kind']}{cell}: {failure['error'].splitlines()[0]}"
    begun = any(path.name not in ("log.txt", "begun.txt") for path in place.glob("*"))
    return ("partial", f"see {stage.name}/log.txt") if begun else ("missing", "not made yet")


def failures(run: Run, folder: Path) -> dict[str, dict[str, Any]]:
    """What stages of the last run left as their failure, by stage."""
    files = {stage.name: folder / stage.name / "failure.json" for stage in run.stages}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def time_table(run: Run, folder: Path, started: float) -> tuple[str, int]:
    """Seconds per stage as a table, and how many stages were completed after ``started`` (seconds since the epoch)."""
    lines, total, done = [f"{'stage':<32} {'seconds':>8}"], 0.0, 0
    for stage in run.stages:
        manifest = manifest_of(stage.name, folder)
        if manifest is None:
            lines.append(f"{stage.name:<32} {'-':>8}")
            continue
        now = (folder / stage.name / "manifest.json").stat().st_mtime >= started
        done += now
        total += manifest.seconds if now else 0
        lines.append(f"{stage.name:<32} {manifest.seconds:>8.0f}{'' if now else '  (kept)'}")
    lines.append(f"{'sum of this run':<32} {total:>8.0f}")
    return "\n".join(lines), done

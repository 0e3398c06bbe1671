"""`dartlib status`: what a run folder holds, read from its manifests alone."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from dartlib.pipeline.manifests import relative, scrubbed_parameters
from dartlib.pipeline.stages import Run, Stage, load_run
from dartlib.records import Manifest, RecordError, read_manifest


def show_status(folder: Path) -> int:
    """Print one line per stage and the command that makes what is missing; 0 when all is complete, else 1."""
    run = load_run(folder / "run.json")
    states = {stage.name: stage_state(stage, folder) for stage in run.stages}
    for name, (state, note) in states.items():
        print(f"{name:<32} {state:<9} {note}")
    missing = [name for name, (state, _) in states.items() if state != "complete"]
    if missing:
        print(f"{len(missing)} of {len(states)} stages to do: {run.command}")
    else:
        print(f"all {len(states)} stages complete")
    return int(bool(missing))


def stage_state(stage: Stage, folder: Path) -> tuple[str, str]:
    """``complete``, ``outdated``, ``failed``, ``partial`` or ``missing``, and a note."""
    manifest = manifest_of(stage, folder)
    if manifest:
        if manifest.parameters != scrubbed_parameters(stage, folder):
            return "outdated", "made with other parameters"
        return "complete", f"{manifest.seconds:.0f} s, finished {manifest.finished}"
    place = folder / stage.name
    if (place / "failure.json").is_file():
        failure = json.loads((place / "failure.json").read_text(encoding="utf-8"))
        cell = f" in cell {failure['cell']}" if failure["cell"] else ""
        return "failed", f"{failure['kind']}{cell}: {failure['error'].splitlines()[0]}"
    begun = any(path.name not in ("log.txt", "key.json") for path in place.glob("*"))
    return ("partial", f"see {relative(place / 'log.txt', folder)}") if begun else ("missing", "")


def manifest_of(stage: Stage, folder: Path) -> Manifest | None:
    """The stage's manifest, None when it is absent or not readable (then the stage is not complete)."""
    with contextlib.suppress(FileNotFoundError, RecordError):
        return read_manifest(folder / stage.name / "manifest.json")
    return None


def failures(run: Run, folder: Path) -> dict[str, dict[str, Any]]:
    """What stages of the last run left as their failure, by stage."""
    files = {stage.name: folder / stage.name / "failure.json" for stage in run.stages}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def time_table(run: Run, folder: Path, started: float) -> tuple[str, int]:
    """Seconds per stage as a table, and how many stages were completed after ``started`` (seconds since the epoch)."""
    lines, total, done = [f"{'stage':<32} {'seconds':>8}"], 0.0, 0
    for stage in run.stages:
        manifest = manifest_of(stage, folder)
        if manifest is None:
            lines.append(f"{stage.name:<32} {'-':>8}")
            continue
        now = (folder / stage.name / "manifest.json").stat().st_mtime >= started
        done += now
        total += manifest.seconds if now else 0
        lines.append(f"{stage.name:<32} {manifest.seconds:>8.0f}{'' if now else '  (kept)'}")
    lines.append(f"{'sum of this run':<32} {total:>8.0f}")
    return "\n".join(lines), done

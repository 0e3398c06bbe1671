"""One stage, from its parameters to its manifest. The Snakefile calls this, in a process of its own per stage."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from dartlib.files import write_text_atomically
from dartlib.pipeline.digest import digest_of, manifest_of, stage_inputs, with_fetched
from dartlib.pipeline.execution import (
    EXIT_BAD_INPUT,
    EXIT_UNFINISHED,
    ExecutionFailure,
    execute,
    restore_thread_limits,
    scrub,
)
from dartlib.pipeline.jobs import holding, own_gpus
from dartlib.pipeline.manifests import build_manifest
from dartlib.pipeline.notebooks import NotebookError
from dartlib.pipeline.profiles import ProfileError
from dartlib.pipeline.stages import NOTEBOOKS, Run, Stage, load_run, parameters_of
from dartlib.pipeline.superseded import make_way, mark_complete
from dartlib.processes import STAGE_VARIABLE, term_raises
from dartlib.records import write_manifest

EXIT_TERMINATED = 143


def run_stage(folder: Path, name: str) -> int:
    """Execute a stage of a run folder; returns the exit code. The manifest is written last, and only on success.

    Nothing is executed when the stage is complete with the digest it would have now, or waits so among the superseded.
    """
    restore_thread_limits()
    folder = folder.resolve()
    run = load_run(folder / "run.json")
    stage = run.stage(name)
    with term_raises(KeyboardInterrupt), holding(folder, name), own_gpus(stage):
        return _run_or_reuse(run, stage, folder)


def _run_or_reuse(run: Run, stage: Stage, folder: Path) -> int:
    name, place = stage.name, folder / stage.name
    inputs = stage_inputs(stage, folder)
    moved = make_way(stage.name, folder, digest_of(inputs))
    manifest = manifest_of(stage.name, folder)
    if manifest and manifest.digest == digest_of(inputs):
        mark_complete(stage.name, folder, manifest.digest)
        print(f"{name}: complete, {moved or 'nothing that it rests on has changed'}")
        return 0
    for old in ("manifest.json", "failure.json", "metrics.json"):
        (place / old).unlink(missing_ok=True)
    with open(place / "log.txt", "w", encoding="utf-8", buffering=1) as log:
        log.write(moved)
        try:
            _run(run, stage, folder, inputs, log)
            return 0
        except ExecutionFailure as failure:
            _record_failure(place, failure, log)
            return failure.exit_code
        except KeyboardInterrupt:
            log.write("stopped by a signal, the batch system's or the user's: the next run goes on from here\n")
            return EXIT_TERMINATED
        except (NotebookError, ProfileError) as error:
            _record_failure(place, ExecutionFailure("bad input", EXIT_BAD_INPUT, None, "", str(error)), log)
            return EXIT_BAD_INPUT
        except Exception as error:  # of ours or of a library: told like any other, its traceback is in snakemake.log
            _record_failure(place, ExecutionFailure("unexpected", 1, None, "", f"{type(error).__name__}: {error}"), log)
            raise


def _run(run: Run, stage: Stage, folder: Path, inputs: dict[str, Any], log: IO[str]) -> None:
    place = folder / stage.name
    if absent := [name for name, value in inputs.items() if "/" in name and value is None]:
        raise NotebookError(f"{absent[0]}: not among the files that {', '.join(stage.needs)} made")
    started = time.time()
    log.write("started\n")
    os.environ[STAGE_VARIABLE] = stage.name  # its figures say whose they are
    execute(
        NOTEBOOKS / f"{stage.notebook}.ipynb",
        place / "notebook.ipynb",
        parameters_of(stage, folder),
        log=log,
        cell_timeout_minutes=run.cell_timeout_minutes,
    )
    _require_whole(place / "metrics.json")
    inputs = with_fetched(inputs, stage_inputs(stage, folder))
    manifest = build_manifest(run, stage, folder, inputs, started, time.time())
    write_manifest(place / "manifest.json", manifest)
    mark_complete(stage.name, folder, manifest.digest)
    log.write(f"complete in {manifest.seconds:.0f} s\n")


def _require_whole(metrics: Path) -> None:
    """The notebook wrote its metrics, and no query is stuck: what it made is a result only then."""
    reason = "the notebook ended without writing metrics.json into its stage folder"
    if metrics.is_file():
        stuck = json.loads(metrics.read_text(encoding="utf-8")).get("stuck", 0)
        if not stuck:
            return
        reason = f"{stuck} queries are stuck, because the engine failed on them; the same command goes on with them"
    raise ExecutionFailure("incomplete", EXIT_UNFINISHED, None, "", reason)


def _record_failure(place: Path, failure: ExecutionFailure, log: IO[str]) -> None:
    log.write(f"FAILED: {failure}\n")
    values = {"kind": failure.kind, "exit_code": failure.exit_code, "cell": failure.cell, "error": scrub(failure.error)}
    write_text_atomically(place / "failure.json", json.dumps(values, indent=2) + "\n")
    print(f"{place.name}: {failure}", file=sys.stderr)

"""One stage, from its parameters to its manifest. The Snakefile calls this, in a process of its own per stage."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import IO

from dartlib.files import sha256_of, write_text_atomically
from dartlib.pipeline.execution import (
    EXIT_BAD_INPUT,
    EXIT_UNFINISHED,
    ExecutionFailure,
    execute,
    restore_thread_limits,
    scrub,
)
from dartlib.pipeline.manifests import build_manifest
from dartlib.pipeline.notebooks import NotebookError
from dartlib.pipeline.profiles import ProfileError
from dartlib.pipeline.stages import NOTEBOOKS, Run, Stage, load_run, parameters_of
from dartlib.records import read_manifest, write_manifest

_DATA_SUFFIXES = (".parquet", ".safetensors")
_KEPT_FOR_OTHER_PARAMETERS = ("pool",)  # trials are keyed by their setting; they are never thrown away


def run_stage(folder: Path, name: str) -> int:
    """Execute a stage of a run folder; returns the exit code. The manifest is written last, and only on success."""
    restore_thread_limits()
    folder = folder.resolve()
    run = load_run(folder / "run.json")
    stage = run.stage(name)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    for old in ("manifest.json", "failure.json", "metrics.json"):
        (place / old).unlink(missing_ok=True)
    with open(place / "log.txt", "w", encoding="utf-8", buffering=1) as log:
        try:
            _run(run, stage, folder, log)
            return 0
        except ExecutionFailure as failure:
            _record_failure(place, failure, log)
            return failure.exit_code
        except (NotebookError, ProfileError) as error:
            _record_failure(place, ExecutionFailure("bad input", EXIT_BAD_INPUT, None, "", str(error)), log)
            return EXIT_BAD_INPUT


def _run(run: Run, stage: Stage, folder: Path, log: IO[str]) -> None:
    place = folder / stage.name
    _forget_other_work(stage, folder, log)
    started = time.time()
    log.write("started\n")
    execute(
        NOTEBOOKS / f"{stage.notebook}.ipynb",
        place / "notebook.ipynb",
        parameters_of(stage, folder),
        log=log,
        cell_timeout_minutes=run.cell_timeout_minutes,
    )
    if not (place / "metrics.json").is_file():
        reason = "the notebook ended without writing metrics.json into its stage folder"
        raise ExecutionFailure("unfinished notebook", EXIT_UNFINISHED, None, "", reason)
    manifest = build_manifest(run, stage, folder, started, time.time())
    write_manifest(place / "manifest.json", manifest)
    log.write(f"complete in {manifest.seconds:.0f} s\n")


def _forget_other_work(stage: Stage, folder: Path, log: IO[str]) -> None:
    """Empty the stage's folder unless what it holds was begun with the same notebook, parameters and data.

    Notebooks may then load whatever they find complete. The pool stays in any case.
    """
    place = folder / stage.name
    data: dict[str, str] = {}
    for need in stage.needs:
        outputs = read_manifest(folder / need / "manifest.json").outputs
        data |= {path: digest for path, digest in outputs.items() if path.endswith(_DATA_SUFFIXES)}
    data = {path: digest for path, digest in data.items() if "/pool/" not in path}
    parts = [sha256_of(NOTEBOOKS / f"{stage.notebook}.ipynb"), parameters_of(stage, folder), data]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    recorded = place / "key.json"
    with contextlib.suppress(FileNotFoundError):
        if json.loads(recorded.read_text(encoding="utf-8")) == key:
            return
        log.write("its notebook, parameters or input changed: earlier results of this stage are removed\n")
    for path in place.iterdir():
        if path.name not in ("log.txt", *_KEPT_FOR_OTHER_PARAMETERS):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text_atomically(recorded, json.dumps(key) + "\n")


def _record_failure(place: Path, failure: ExecutionFailure, log: IO[str]) -> None:
    log.write(f"FAILED: {failure}\n")
    values = {"kind": failure.kind, "exit_code": failure.exit_code, "cell": failure.cell, "error": scrub(failure.error)}
    write_text_atomically(place / "failure.json", json.dumps(values, indent=2) + "\n")
    print(f"{place.name}: {failure}", file=sys.stderr)

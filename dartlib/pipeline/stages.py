"""Stages: which notebook runs with which parameters, and what it reads of others. A run folder remembers them.

``run.json`` in the run folder is the single source for the Snakefile, for the stage runner and for plan and status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from dartlib.files import NEWEST, REPOSITORY, RUNS, find_path, write_text_atomically
from dartlib.pipeline.notebooks import check_parameters, read_parameters
from dartlib.pipeline.profiles import NOTEBOOK_NAMES, Profile, ProfileError

NOTEBOOKS = REPOSITORY / "notebooks"


@dataclass(frozen=True)
class Stage:
    """One execution of a notebook. ``name`` is its folder in the run folder; ``needs`` are names of earlier stages.

    ``parameters`` are those given on purpose; ``files`` are parameters that name a file or folder of an earlier stage,
    by its path in the run folder, and ``reads`` what the notebook finds there by itself. ``engine`` says that it keeps
    the cores or the GPU busy: such stages take turns, unless they have GPUs of their own. ``resources``: what it takes.
    """

    name: str
    notebook: str
    needs: Sequence[str]
    parameters: Mapping[str, Any]
    engine: bool
    files: Mapping[str, str] = field(default_factory=dict)
    reads: Sequence[str] = ()
    resources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a run folder is for: the command that made it, and its stages in order."""

    profile: str
    command: str
    cell_timeout_minutes: float
    stages: Sequence[Stage]

    def stage(self, name: str) -> Stage:
        """The stage of that name; ProfileError when there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ProfileError(f"no stage {name!r} in this run: {', '.join(stage.name for stage in self.stages)}")


def run_folder(name: str, runs: Path = RUNS) -> Path:
    """The folder of a run; ProfileError for names that are not ``[a-z0-9-]+``."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name == NEWEST.name:
        raise ProfileError(f"run name {name!r}: use small letters, digits and hyphens only, and not {NEWEST.name!r}")
    return runs.resolve() / name


def from_repository(path: Path) -> str:
    """A path as notebooks get it: relative to the repository's root where it lies inside, else absolute."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def build_run(profile: Profile, folder: Path, command: str) -> Run:
    """All stages of a profile, each parameter checked against its notebook. Raises ProfileError or NotebookError."""
    stages = list(_stages(profile))
    for name in NOTEBOOK_NAMES:
        declared = read_parameters(NOTEBOOKS / f"{name}.ipynb")
        for stage in (stage for stage in stages if stage.notebook == name):
            check_parameters(declared, parameters_of(stage, folder), f"{name}.ipynb")
    return Run(profile.name, command, profile.cell_timeout_minutes, stages)


def _stages(profile: Profile) -> Iterator[Stage]:
    """The chain: 00, 02, 01, 03 per strategy, point of the sweep and seed, 04 per model, 05."""

    def stage(name: str, wired: Mapping[str, Any], needs: tuple[str, ...] = (), **more: Any) -> Stage:
        notebook = name.partition("/")[0]
        own = {**profile.notebooks.get(notebook, {}), **more.pop("swept", {})}
        for key in ("RUN_FOLDER", "STAGE_FOLDER", *wired, *more.get("files", ())):
            if key in own:
                keys = "engine, teacher, base_model, sampling_seed, training_seeds, strategies"
                raise ProfileError(f"{notebook}: {key} follows from the run and the profile's own keys ({keys})")
        parameters = {key: _from_here(value) for key, value in {**own, **wired}.items()}
        resources = profile.stage_resources(notebook)
        return Stage(name, notebook, needs, parameters, **{"engine": True, "resources": resources, **more})

    strategies = list(profile.strategies)
    synthesis = tuple(f"02_synthesis/{name}.parquet" for name in ("queries", "outcomes", "samples"))
    teacher = {"ENGINE": profile.engine, "MODEL": profile.teacher}
    yield stage("00_start_here", {})
    yield stage("02_synthesis", {**teacher, "SAMPLING_SEED": profile.sampling_seed, "STRATEGIES": strategies})
    yield stage("01_bias_analysis", {}, needs=("02_synthesis",), reads=synthesis, engine=False)
    each = product(strategies, profile.sweep_points().items(), profile.training_seeds)
    students = {f"{strategy}{point}-seed{seed}": (strategy, swept, seed) for strategy, (point, swept), seed in each}
    for student, (strategy, swept, seed) in students.items():
        wired = {"BASE_MODEL": profile.base_model, "SEED": seed}
        files = {"DATASET": f"02_synthesis/datasets/{strategy}.parquet"}
        yield stage(f"03_training/{student}", wired, needs=("02_synthesis",), files=files, swept=swept)
    # A teacher's server does not serve the students; the profile may name an engine of the evaluation's own.
    engine = {"ENGINE": "auto" if profile.engine.startswith("http") else profile.engine}
    engine = {} if "ENGINE" in profile.notebooks.get("04_evaluation", {}) else engine
    yield stage("04_evaluation/base", {**engine, "MODEL": profile.base_model, "MODEL_NAME": "base"})
    for student, (strategy, *_) in students.items():
        training = f"03_training/{student}"
        files = {"MODEL": f"{training}/checkpoint", "TRAINING_SET": f"02_synthesis/datasets/{strategy}.parquet"}
        yield stage(
            f"04_evaluation/{student}", {**engine, "MODEL_NAME": student}, ("02_synthesis", training), files=files
        )
    trained = [f"03_training/{student}" for student in students]
    evaluated = [f"04_evaluation/{model}" for model in ("base", *students)]
    reads = [*synthesis, *(f"{name}/training_log.jsonl" for name in trained)]
    reads += [f"{name}/items.parquet" for name in evaluated]
    reads += [f"{name}/metrics.json" for name in ("02_synthesis", *evaluated)]
    needs = ("01_bias_analysis", "02_synthesis", *trained, *evaluated)
    yield stage("05_paper_figures", {}, needs=needs, reads=reads, engine=False)


def _from_here(value: Any) -> Any:
    """A parameter as notebooks can use it: what looks like a path and is one becomes the file that is meant here."""
    if isinstance(value, list):
        return [_from_here(part) for part in value]
    if not isinstance(value, str) or not ("/" in value or Path(value).suffix):
        return value
    with suppress(FileNotFoundError):
        return from_repository(find_path(value))
    return value


def parameters_of(stage: Stage, folder: Path) -> dict[str, Any]:
    """Everything a stage's notebook is given."""
    places = {"RUN_FOLDER": folder, "STAGE_FOLDER": folder / stage.name}
    places |= {name: folder / path for name, path in stage.files.items()}
    return {**stage.parameters, **{name: from_repository(place) for name, place in places.items()}}


def save_run(run: Run, path: Path) -> None:
    """Write a run as JSON; its place is ``run.json`` in the run folder."""
    write_text_atomically(path, json.dumps(asdict(run), indent=2) + "\n")


def load_run(path: Path) -> Run:
    """Read what `save_run` wrote; ProfileError when there is no such file or it is not readable."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Run(**{**values, "stages": [Stage(**item) for item in values["stages"]]})
    except FileNotFoundError:
        raise ProfileError(f"{path.parent.name}: no {path.name} in this folder; `dartlib run` makes one") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ProfileError(f"{path}: not readable ({error}); `dartlib run` writes it anew") from None

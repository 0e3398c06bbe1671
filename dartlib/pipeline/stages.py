"""Stages: which notebook runs with which parameters, and on what it depends. A run folder remembers them.

``run.json`` in the run folder is the single source for the Snakefile, for the stage runner and for plan and status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dartlib.files import write_text_atomically
from dartlib.pipeline.notebooks import check_parameters, read_parameters
from dartlib.pipeline.profiles import NOTEBOOK_NAMES, REPOSITORY, Profile, ProfileError

NOTEBOOKS = REPOSITORY / "notebooks"
RUNS = REPOSITORY / "papermill_runs"


@dataclass(frozen=True)
class Stage:
    """One execution of a notebook. ``name`` is its folder in the run folder; ``needs`` are names of other stages.

    ``parameters`` are complete but for the two folders, which `parameters_of` adds. ``engine`` says that it keeps the
    cores or the GPU busy: such stages take turns.
    """

    name: str
    notebook: str
    needs: tuple[str, ...]
    parameters: Mapping[str, Any]
    engine: bool


@dataclass(frozen=True)
class Run:
    """What a run folder is for: the command that made it, and its stages in order."""

    profile: str
    command: str
    cell_timeout_minutes: float
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage of that name; ProfileError when there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ProfileError(f"no stage {name!r} in this run: {', '.join(stage.name for stage in self.stages)}")


def run_folder(name: str, runs: Path = RUNS) -> Path:
    """The folder of a run; ProfileError for names that are not ``[a-z0-9-]+``."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ProfileError(f"run name {name!r}: use small letters, digits and hyphens only")
    return runs.resolve() / name


def from_repository(path: Path) -> str:
    """A path as notebooks get it: relative to the repository's root where it lies inside, else absolute."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def build_run(profile: Profile, folder: Path, command: str) -> Run:
    """All stages of a profile, each parameter checked against its notebook. Raises ProfileError or NotebookError."""
    stages = tuple(_stages(profile, from_repository(folder)))
    for name in NOTEBOOK_NAMES:
        declared = read_parameters(NOTEBOOKS / f"{name}.ipynb")
        for stage in (stage for stage in stages if stage.notebook == name):
            check_parameters(declared, parameters_of(stage, folder), f"{name}.ipynb")
    return Run(profile.name, command, profile.cell_timeout_minutes, stages)


def _stages(profile: Profile, folder: str) -> Iterator[Stage]:
    """The chain: 00, 02, 01, 03 per strategy and seed, 04 per model, 05."""

    def stage(name: str, wired: Mapping[str, Any], needs: tuple[str, ...] = (), engine: bool = True) -> Stage:
        notebook = name.partition("/")[0]
        own = profile.notebooks.get(notebook, {})
        for key in ("RUN_FOLDER", "STAGE_FOLDER", *wired):
            if key in own:
                keys = "engine, teacher, base_model, sampling_seed, training_seeds, strategies"
                raise ProfileError(f"{notebook}: {key} follows from the run and the profile's own keys ({keys})")
        return Stage(name, notebook, needs, {**own, **wired}, engine)

    strategies = list(profile.strategies)
    teacher = {"ENGINE": profile.engine, "MODEL": profile.teacher}
    yield stage("00_start_here", {})
    yield stage("02_synthesis", {**teacher, "SAMPLING_SEED": profile.sampling_seed, "STRATEGIES": strategies})
    yield stage("01_bias_analysis", {}, needs=("02_synthesis",), engine=False)
    models = {"base": profile.base_model}
    for strategy in strategies:
        for seed in profile.training_seeds:
            name = f"03_training/{strategy}-seed{seed}"
            models[f"{strategy}-seed{seed}"] = f"{folder}/{name}/checkpoint"
            data = f"{folder}/02_synthesis/datasets/{strategy}.parquet"
            wired = {"DATASET": data, "BASE_MODEL": profile.base_model, "SEED": seed}
            yield stage(name, wired, needs=("02_synthesis",))
    for model, path in models.items():
        trained_on = "" if model == "base" else f"{folder}/02_synthesis/datasets/{model.partition('-seed')[0]}.parquet"
        wired = {**_evaluation_engine(profile), "MODEL": path, "MODEL_NAME": model, "TRAINING_SET": trained_on}
        yield stage(f"04_evaluation/{model}", wired, needs=() if model == "base" else (f"03_training/{model}",))
    others = ("01_bias_analysis", "02_synthesis", *(f"04_evaluation/{model}" for model in models))
    yield stage("05_paper_figures", {}, needs=others, engine=False)


def _evaluation_engine(profile: Profile) -> dict[str, str]:
    """The profile's engine, unless it names one for the evaluation; a teacher's server does not serve the students."""
    if "ENGINE" in profile.notebooks.get("04_evaluation", {}):
        return {}
    return {"ENGINE": "auto" if profile.engine.startswith("http") else profile.engine}


def parameters_of(stage: Stage, folder: Path) -> dict[str, Any]:
    """Everything a stage's notebook is given."""
    place = {"RUN_FOLDER": from_repository(folder), "STAGE_FOLDER": from_repository(folder / stage.name)}
    return {**stage.parameters, **place}


def save_run(run: Run, path: Path) -> None:
    """Write a run as JSON; its place is ``run.json`` in the run folder."""
    write_text_atomically(path, json.dumps(asdict(run), indent=2) + "\n")


def load_run(path: Path) -> Run:
    """Read what `save_run` wrote; ProfileError when there is no such file or it is not readable."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        stages = tuple(Stage(**{**item, "needs": tuple(item["needs"])}) for item in values.pop("stages"))
        return Run(**values, stages=stages)
    except FileNotFoundError:
        raise ProfileError(f"{path.parent.name}: no {path.name} in this folder; `dartlib run` makes one") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ProfileError(f"{path}: not readable ({error}); `dartlib run` writes it anew") from None

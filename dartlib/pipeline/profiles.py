"""Profiles: what a run is made of, from YAML, checked key by key before anything starts.

A profile names the engine, the models, the seeds and the parameters of each notebook. What this module does not do:
it knows neither run folders nor which parameters a notebook has (see stages and notebooks).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from dartlib.files import RUNS
from dartlib.pipeline.notebooks import NotebookError, Parameter, check_parameters
from dartlib.records import STRATEGIES, did_you_mean

PROFILES = RUNS / "profiles"
NOTEBOOK_NAMES = (
    "00_start_here",
    "01_bias_analysis",
    "02_synthesis",
    "03_training",
    "04_evaluation",
    "05_paper_figures",
)


class ProfileError(ValueError):
    """A profile or an option breaks the rules; the message names file and key, and the closest valid one."""


@dataclass(frozen=True)
class Profile:
    """A run's settings. ``disk_gb`` is the free space a run needs at its start, in GB (1e9 bytes).

    ``teacher`` answers the queries, ``base_model`` is fine-tuned. ``cell_timeout_minutes`` ends a notebook in which
    one cell takes longer; 0 means no limit. ``notebooks`` holds each notebook's own parameters.
    """

    name: str
    description: str
    engine: str
    teacher: str
    base_model: str
    sampling_seed: int
    training_seeds: list[int]
    strategies: list[str]
    disk_gb: float
    cell_timeout_minutes: float
    notebooks: dict[str, dict[str, Any]]


def load_profile(name_or_path: str) -> Profile:
    """A profile by name (papermill_runs/profiles/<name>.yaml) or by the path of a YAML file."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PROFILES / f"{name_or_path}.yaml"
        if not path.is_file():
            known = [item.stem for item in PROFILES.glob("*.yaml")]
            raise ProfileError(f"no profile {name_or_path!r}: {did_you_mean(name_or_path, known)}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"{path}: no such profile file") from None
    except yaml.YAMLError as error:
        raise ProfileError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    return check_profile(values, path.name)


def check_profile(values: Any, where: str) -> Profile:
    """Build a Profile from parsed YAML; ``where`` is named in errors."""
    if not isinstance(values, dict):
        raise ProfileError(f"{where}: a profile is a mapping of keys to values")
    known = {field.name: Parameter(field.name, str(field.type), None, "") for field in fields(Profile)}
    try:
        check_parameters(known, values, where, "key")
    except NotebookError as error:
        raise ProfileError(str(error)) from None
    if missing := [key for key in known if key not in values]:
        raise ProfileError(f"{where}: missing key {missing[0]!r}")
    profile = Profile(**values)
    _check_values(profile, where)
    return profile


def with_overrides(profile: Profile, settings: Collection[str]) -> Profile:
    """The profile with ``--set`` options applied: KEY=value or NOTEBOOK.PARAMETER=value, values read as YAML."""
    values = asdict(profile)
    for setting in settings:
        target, equals, text = setting.partition("=")
        notebook, dot, parameter = target.partition(".")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ProfileError(f"--set {setting}: {text!r} is not a YAML value; put text in quotes") from None
        if not equals or not parameter and dot:
            raise ProfileError(f"--set {setting}: write NOTEBOOK.PARAMETER=value, as in 03_training.EPOCHS=2")
        if dot:
            values["notebooks"].setdefault(notebook, {})[parameter] = value
        else:
            values[target] = value
    return check_profile(values, f"{profile.name} with --set")


def _check_values(profile: Profile, where: str) -> None:
    for name in profile.notebooks:
        if name not in NOTEBOOK_NAMES:
            raise ProfileError(f"{where}: unknown notebook {name!r}: {did_you_mean(name, NOTEBOOK_NAMES)}")
    for strategy in profile.strategies:
        if strategy not in STRATEGIES:
            raise ProfileError(f"{where}: unknown strategy {strategy!r}: {did_you_mean(strategy, STRATEGIES)}")
    if not re.match(r"(auto|vllm|local)$|https?://", profile.engine):
        raise ProfileError(f"{where}: engine {profile.engine!r} is none of auto, vllm, local or http://host:port/v1")
    for key in ("strategies", "training_seeds"):
        chosen = getattr(profile, key)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ProfileError(f"{where}: {key} needs at least one entry, and each only once")
    if min(profile.training_seeds) < 0:
        raise ProfileError(f"{where}: training_seeds must not be negative")

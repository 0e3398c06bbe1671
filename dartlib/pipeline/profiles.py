"""Profiles: what a run is made of, from YAML, checked key by key before anything starts.

A profile names the engine, the models, the seeds and the parameters of each notebook. What this module does not do:
it knows neither run folders nor which parameters a notebook has (see stages and notebooks).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import MISSING, asdict, dataclass, field, fields
from itertools import product
from math import prod
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
RESOURCES = ("cpus", "gpus", "mem_mb", "runtime")
REHEARSAL = "rehearsal"


class ProfileError(ValueError):
    """A profile or an option breaks the rules; the message names file and key, and the closest valid one."""


@dataclass(frozen=True)
class Profile:
    """A run's settings. ``disk_gb`` is the free space a run needs at its start, in GB (1e9 bytes).

    ``teacher`` answers the queries, ``base_model`` is fine-tuned. ``cell_timeout_minutes`` ends a notebook in which
    one cell takes longer; 0 means no limit. ``notebooks`` holds each notebook's own parameters.

    ``resources`` says by notebook (``default``: all others) what a stage takes: ``cpus``, ``gpus``, ``mem_mb``, and
    ``runtime`` in minutes. On this machine stages share its ``gpus``. ``variants`` are named changes, in the grammar of
    ``--set``. ``throughput`` is what one GPU is expected to do an hour, for plans: ``samples`` drawn, ``rows`` trained.
    ``sweep`` has values of parameters such as ``03_training.ROWS``: every combination has students of its own, which
    share all else of the run.
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
    gpus: int = 0
    resources: dict[str, dict[str, int]] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    throughput: dict[str, float] = field(default_factory=dict)
    sweep: dict[str, list[Any]] = field(default_factory=dict)

    def stage_resources(self, notebook: str) -> dict[str, int]:
        """What a stage of this notebook takes, the defaults included."""
        return {**self.resources.get("default", {}), **self.resources.get(notebook, {})}

    def sweep_points(self) -> dict[str, dict[str, Any]]:
        """The parameters of each combination by its name, ``-rows150``; without a sweep one, without a name."""
        names = [target.partition(".")[2] for target in self.sweep]
        points = [dict(zip(names, values, strict=True)) for values in product(*self.sweep.values())]
        return {"".join(f"-{_plain(name)}{_plain(value)}" for name, value in point.items()): point for point in points}


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
    optional = {field.name for field in fields(Profile) if field.default_factory is not MISSING} | {"gpus"}
    if missing := [key for key in known if key not in values and key not in optional]:
        raise ProfileError(f"{where}: missing key {missing[0]!r}")
    profile = Profile(**values)
    _check_values(profile, where)
    return profile


def with_overrides(profile: Profile, settings: Collection[str], variants: Collection[str] = ()) -> Profile:
    """The profile with its ``variants`` of these names, then ``--set`` options, applied.

    An option is KEY=value or NOTEBOOK.PARAMETER=value, values read as YAML. A variant's name joins the profile's.
    """
    changes: dict[str, Any] = {}
    for variant in variants:
        if variant not in profile.variants:
            raise ProfileError(f"{profile.name}: no variant {variant!r}: {did_you_mean(variant, profile.variants)}")
        changes |= profile.variants[variant]
    for setting in settings:
        target, equals, text = setting.partition("=")
        try:
            changes[target] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ProfileError(f"--set {setting}: {text!r} is not a YAML value; put text in quotes") from None
        if not equals or target.endswith("."):
            raise ProfileError(f"--set {setting}: write NOTEBOOK.PARAMETER=value, as in 03_training.EPOCHS=2")
    values = asdict(profile) | {"name": "-".join((profile.name, *variants))}
    _apply(values, changes)
    return check_profile(values, f"{profile.name} with {'--set' if settings else 'its variants'}")


def _plain(value: Any) -> str:
    """A name or value as part of a folder's name."""
    return re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")


def _apply(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for target, value in changes.items():
        name, dot, key = target.partition(".")
        part = values
        if dot:
            part = values[name] if isinstance(values.get(name), dict) else values["notebooks"].setdefault(name, {})
        part[key or name] = deepcopy(value)


def _check_values(profile: Profile, where: str) -> None:
    for name in profile.notebooks:
        if name not in NOTEBOOK_NAMES:
            raise ProfileError(f"{where}: unknown notebook {name!r}: {did_you_mean(name, NOTEBOOK_NAMES)}")
    for strategy in profile.strategies:
        if strategy not in STRATEGIES:
            raise ProfileError(f"{where}: unknown strategy {strategy!r}: {did_you_mean(strategy, STRATEGIES)}")
    for name, resources in profile.resources.items():
        if name not in (*NOTEBOOK_NAMES, "default"):
            raise ProfileError(f"{where}: resources: unknown notebook {name!r}: {did_you_mean(name, NOTEBOOK_NAMES)}")
        for key, amount in resources.items():
            if key not in RESOURCES or amount < 0:
                hint = "give 0 or more" if key in RESOURCES else did_you_mean(key, RESOURCES)
                raise ProfileError(f"{where}: resources of {name}: {key} is {amount}: {hint}")
    for target, swept in profile.sweep.items():
        if not re.match(r"03_training\.\w", target) or not swept:
            raise ProfileError(
                f"{where}: sweep of {target!r}: give a parameter of 03_training and values, 03_training.ROWS=150,600; "
                "of others make a run for each value: --run NAME --set ..., with one pool in 02_synthesis.OPTIONS"
            )
    if len(profile.sweep_points()) < prod(map(len, profile.sweep.values())):
        raise ProfileError(
            f"{where}: sweep: two of its values have one name: give each once, and apart by more than signs"
        )
    if profile.gpus < 0 or min(profile.throughput.values(), default=1) <= 0:
        raise ProfileError(f"{where}: gpus must not be negative, and throughput above 0")
    if unknown := set(profile.throughput) - {"samples", "rows"}:
        raise ProfileError(f"{where}: unknown throughput {unknown.pop()!r}: valid: samples, rows")
    if not re.match(r"(auto|vllm|local)$|vllm -|https?://", profile.engine):
        raise ProfileError(f"{where}: engine {profile.engine!r} is none of auto, vllm, local or http://host:port/v1")
    for key in ("strategies", "training_seeds"):
        chosen = getattr(profile, key)
        if not chosen or len(set(chosen)) < len(chosen):
            raise ProfileError(f"{where}: {key} needs at least one entry, and each only once")
    if min(profile.training_seeds) < 0:
        raise ProfileError(f"{where}: training_seeds must not be negative")

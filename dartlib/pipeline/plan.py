"""`dartlib plan`: per stage run, check or reuse, and why, with what it would cost. Nothing is executed or changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dartlib.engines import ModelError, embedded_folder
from dartlib.pipeline.digest import manifest_of
from dartlib.pipeline.notebooks import read_parameters
from dartlib.pipeline.profiles import Profile
from dartlib.pipeline.stages import NOTEBOOKS, Run, build_run, run_folder
from dartlib.pipeline.status import stage_states
from dartlib.queries import load_queries
from dartlib.training import TrainingConfig, TrainingError, describe_training, load_recipe, model_shape

_PROMPT_TOKENS = 150  # of a query in its template
_OF_TRAINING = (  # settings that the notebook's parameters give under the same name
    "template learning_rate epochs packs_per_step packs_per_forward seed warmup_ratio weight_decay max_gradient_norm "
    "precision packing"
).split()
_ACTIONS = {"complete": "reuse", "waiting": "check"}  # every other state: run


def show_plan(profile: Profile, *, run_name: str | None, runs: Path) -> int:
    """Print what `dartlib run` with the same arguments would do; 0 unless an input is wrong."""
    folder = run_folder(run_name or profile.name, runs)
    run = build_run(profile, folder, "")
    actions = {}
    for stage, (state, note) in stage_states(run, folder).items():
        actions[stage] = _ACTIONS.get(state, "run")
        print(f"{stage:<32} {actions[stage]:<6} {note}")
    to_run = [stage for stage, action in actions.items() if action == "run"]
    to_check = list(actions.values()).count("check")
    print(
        f"{len(to_run)} of {len(actions)} stages to run, {to_check} to check in {folder}, which needs "
        f"{profile.disk_gb:g} GB free"
    )
    for line in _expected(run, folder, to_run):
        print(line)
    return 0


def _expected(run: Run, folder: Path, stages: Collection[str]) -> list[str]:
    """What the stages to run will cost, as far as parameters and earlier runs tell."""
    lines = []
    if "02_synthesis" in stages:
        lines.append(_synthesis_cost(run.stage("02_synthesis").parameters))
    training = [run.stage(name) for name in stages if name.startswith("03_training")]
    kinds = {stage.name.partition("-seed")[0].partition("-")[2]: stage for stage in reversed(training)}
    for point, stage in reversed(kinds.items()):  # of a sweep
        first, *rest = _training_cost(stage.parameters, run.stage("02_synthesis").parameters)
        lines += [first.replace("training", f"training {point}", 1) if point else first, *rest]
    seconds = [manifest.seconds for name in stages if (manifest := manifest_of(name, folder))]
    if seconds:
        lines.append(f"time: {len(seconds)} of these stages took {sum(seconds) / 3600:.2f} hours when last run")
    return lines


def _synthesis_cost(parameters: Mapping[str, Any]) -> str:
    """Bounds on trials and tokens: every query gets the difficulty (or vanilla) trials, none more than the cap."""
    try:
        always = max(parameters["DIFFICULTY_TRIALS"], parameters["VRT_TRIALS"])
        most = max(always, parameters["TRIAL_CAP"])
        n = _count_queries(parameters)
    except (KeyError, ValueError) as error:  # also more ladder queries than there are
        return f"synthesis: cost unknown ({error})"
    tokens = n * most * parameters["MAX_TOKENS"]
    return f"synthesis: {n:,} queries, {n * always:,} to {n * most:,} trials, at most {tokens:,} new tokens"


def _count_queries(parameters: Mapping[str, Any]) -> int:
    source, per_level = parameters["QUERIES"], parameters["QUERIES_PER_LEVEL"]
    queries = load_queries(
        source,
        split="train",
        queries_per_level=per_level,
        seed=parameters["SAMPLING_SEED"],
        log=lambda line: None,
    )
    return len(queries)


def _training_cost(parameters: Mapping[str, Any], synthesis: Mapping[str, Any]) -> list[str]:
    """Steps, schedule, tokens and memory by ZeRO stage of one student, for as many rows and tokens as it can have."""
    declared = read_parameters(NOTEBOOKS / "03_training.ipynb")
    given = {name: parameter.default for name, parameter in declared.items()} | dict(parameters)
    try:
        settings = {name: given[name.upper()] for name in _OF_TRAINING}
        config = TrainingConfig(**settings, max_tokens_per_pack=given["PACK_TOKENS"])
        most = max(synthesis["VRT_TRIALS"], synthesis["UNIFORM_QUOTA"])
        rows = given["ROWS"] or _count_queries(synthesis) * most
        tokens = rows * min(synthesis["MAX_TOKENS"] + _PROMPT_TOKENS, config.max_tokens_per_pack)
        base = given["BASE_MODEL"]
        shape = model_shape(embedded_folder() if base == "embedded" else base)
        lines = describe_training(shape, config, load_recipe(given["RECIPE"]), tokens)
    except (KeyError, ValueError, ModelError, TrainingError) as error:
        return [f"training: cost unknown ({error})"]
    return [f"training, a student of at most {rows:,} rows, each as long as it may be:", *lines]

"""`dartlib plan`: per stage run, check or reuse, and why, with what it would cost. Nothing is executed or changed.

Costs are bounds: how many trials a query takes lies between its difficulty trials and the cap. GPU hours follow from
the profile's throughput, where it states one.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dartlib.engines import ModelError, embedded_folder
from dartlib.pipeline.digest import manifest_of
from dartlib.pipeline.notebooks import read_parameters
from dartlib.pipeline.profiles import Profile
from dartlib.pipeline.stages import NOTEBOOKS, Run, Stage, build_run, from_repository, run_folder
from dartlib.pipeline.status import stage_states
from dartlib.queries import get_source, known_sets, load_queries
from dartlib.training import (
    Job,
    TrainingConfig,
    TrainingError,
    describe_training,
    load_recipe,
    model_shape,
    training_command,
)

_PROMPT_TOKENS = 150  # of a query in its template
_BYTES_PER_TOKEN = 4  # of text, before compression
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
    for line in (*_expected(run, folder, to_run, profile.throughput), *_commands(run, folder, to_run)):
        print(line)
    return 0


def _commands(run: Run, folder: Path, stages: Collection[str]) -> list[str]:
    """Each stage to run with what it takes and its command, which can be run by hand in this order."""
    units = {"gpus": "{} GPUs", "cpus": "{} cores", "mem_mb": "{} MB", "runtime": "{} min"}
    lines = []
    for stage in (stage for stage in run.stages if stage.name in stages):
        takes = ", ".join(text.format(stage.resources[key]) for key, text in units.items() if stage.resources.get(key))
        lines.append(f"  dartlib stage {from_repository(folder)} {stage.name}{f'  # {takes}' if takes else ''}")
    return ["commands, once `dartlib run` has written the folder's run.json:", *lines] if lines else []


def _expected(run: Run, folder: Path, stages: Collection[str], throughput: Mapping[str, float]) -> list[str]:
    """What the stages to run will cost, as far as parameters and earlier runs tell."""
    lines, synthesis = [], run.stage("02_synthesis").parameters
    if "02_synthesis" in stages:
        lines += _synthesis_cost(synthesis, throughput.get("samples", 0.0))
    kinds: dict[str, list[Stage]] = {}  # by point of a sweep, else one without a name
    for training in (run.stage(name) for name in stages if name.startswith("03_training")):
        kinds.setdefault(training.name.partition("-seed")[0].partition("-")[2], []).append(training)
    for point, students in kinds.items():
        first, *rest = _training_cost(students[0], synthesis, folder, len(students), throughput.get("rows", 0.0))
        lines += [first.replace("training", f"training {point}", 1) if point else first, *rest]
    evaluations = [run.stage(name).parameters for name in stages if name.startswith("04_evaluation")]
    if evaluations and (items := _count_items(evaluations[0])):
        n = items * len(evaluations)
        hours = f", {n / throughput['samples']:,.1f} GPU hours" if "samples" in throughput else ""
        lines.append(f"evaluation: {items:,} questions to each of {len(evaluations)} models: {n:,} samples{hours}")
    if seconds := [manifest.seconds for name in stages if (manifest := manifest_of(name, folder))]:
        lines.append(f"time: {len(seconds)} of these stages took {sum(seconds) / 3600:.2f} hours when last run")
    return lines


def _count_items(parameters: Mapping[str, Any]) -> int:
    """Answers that an evaluation's known benchmarks take of one model, by their published sizes."""
    sets = [part for name in parameters.get("BENCHMARKS", []) for part in known_sets(name)]
    sizes = [count or get_source(name).rows or 0 for name, count in sets]
    return sum(min(size, parameters.get("ITEMS") or size) for size in sizes) * parameters.get("SAMPLES", 1)


def _synthesis_cost(parameters: Mapping[str, Any], per_hour: float) -> list[str]:
    """Bounds on trials and tokens: every query gets the difficulty (or vanilla) trials, none more than the cap."""
    try:
        always = max(parameters["DIFFICULTY_TRIALS"], parameters["VRT_TRIALS"])
        most = max(always, parameters["TRIAL_CAP"])
        n = _count_queries(parameters)
    except (KeyError, ValueError) as error:  # also more ladder queries than there are
        return [f"synthesis: cost unknown ({error})"]
    tokens = n * most * parameters["MAX_TOKENS"]
    lines = [f"synthesis: {n:,} queries, {n * always:,} to {n * most:,} trials, at most {tokens:,} new tokens"]
    lines.append(f"  a pool of at most {tokens * _BYTES_PER_TOKEN / 1e9:,.1f} GB on disk")
    if per_hour:
        rate = f"at {per_hour:,.0f} samples an hour"
        lines.append(f"  {n * always / per_hour:,.0f} to {n * most / per_hour:,.0f} GPU hours {rate}")
    return lines


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


def _training_cost(
    stage: Stage, synthesis: Mapping[str, Any], folder: Path, students: int, per_hour: float
) -> list[str]:
    """Steps, schedule, tokens and memory by ZeRO stage of one student, for as many rows and tokens as it can have."""
    declared = read_parameters(NOTEBOOKS / "03_training.ipynb")
    given = {name: parameter.default for name, parameter in declared.items()} | dict(stage.parameters)
    try:
        settings = {name: given[name.upper()] for name in _OF_TRAINING}
        config = TrainingConfig(**settings, max_tokens_per_pack=given["PACK_TOKENS"])
        most = max(synthesis["VRT_TRIALS"], synthesis["UNIFORM_QUOTA"])
        rows = given["ROWS"] or _count_queries(synthesis) * most
        tokens = rows * min(synthesis["MAX_TOKENS"] + _PROMPT_TOKENS, config.max_tokens_per_pack)
        base = given["BASE_MODEL"]
        model = embedded_folder() if base == "embedded" else base
        shape, recipe = model_shape(model), load_recipe(given["RECIPE"])
        lines = describe_training(shape, config, recipe, tokens)
        job = Job(folder / stage.files["DATASET"], Path(model), folder / stage.name, config, recipe)
    except (KeyError, ValueError, ModelError, TrainingError) as error:
        return [f"training: cost unknown ({error})"]
    stored = f"{2 * shape.parameters / 1e9:,.1f} GB a student in bf16, and {12 * shape.parameters / 1e9:,.1f} GB"
    lines.append(
        f"  on disk {stored} to go on from while it trains; the first student: {shlex.join(training_command(job))}"
    )
    if per_hour:
        hours = rows * config.epochs * students / per_hour
        lines.append(f"  at most {hours:,.0f} GPU hours for {students} students at {per_hour:,.0f} rows an hour")
    return [f"training, a student of at most {rows:,} rows, each as long as it may be:", *lines]

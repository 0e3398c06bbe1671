"""Profiles: what is refused, and by which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_repository import PROFILE

from dartlib.pipeline.notebooks import NotebookError
from dartlib.pipeline.profiles import ProfileError, check_profile, load_profile, with_overrides
from dartlib.pipeline.stages import build_run
from dartlib.records import did_you_mean


def test_a_good_profile_is_read_as_written() -> None:
    profile = check_profile(PROFILE, "toy.yaml")
    assert profile.training_seeds == [1] and profile.strategies == ["vrt", "uniform"]
    assert profile.notebooks["02_synthesis"] == {"UNIFORM_QUOTA": 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enigne": "local"}, "toy.yaml: unknown key 'enigne': did you mean 'engine'?"),
        ({"sampling_seed": "7"}, "toy.yaml: key sampling_seed is '7' (str), expected int"),
        ({"sampling_seed": True}, "toy.yaml: key sampling_seed is True (bool), expected int"),
        ({"training_seeds": 1}, "toy.yaml: key training_seeds is 1 (int), expected list[int]"),
        ({"training_seeds": [1, "2"]}, "toy.yaml: key training_seeds is [1, '2'] (list), expected list[int]"),
        ({"training_seeds": [1, 1]}, "toy.yaml: training_seeds needs at least one entry, and each only once"),
        ({"training_seeds": [-1]}, "toy.yaml: training_seeds must not be negative"),
        ({"strategies": ["unifrom"]}, "toy.yaml: unknown strategy 'unifrom': did you mean 'uniform'?"),
        ({"strategies": []}, "toy.yaml: strategies needs at least one entry, and each only once"),
        ({"engine": "fast"}, "toy.yaml: engine 'fast' is none of auto, vllm, local or http://host:port/v1"),
        ({"engine": "vllm2 --x"}, "toy.yaml: engine 'vllm2 --x' is none of auto, vllm, local or http://host:port/v1"),
        ({"resources": {"3_training": {}}}, "toy.yaml: resources: unknown notebook '3_training': did you mean '03_"),
        ({"resources": {"default": {"mem_gb": 3}}}, "resources of default: mem_gb is 3: did you mean 'mem_mb'?"),
        ({"resources": {"default": {"cpus": -1}}}, "resources of default: cpus is -1: give 0 or more"),
        ({"throughput": {"samples": 0.0}}, "toy.yaml: gpus must not be negative, and throughput above 0"),
        ({"gpus": -1}, "toy.yaml: gpus must not be negative, and throughput above 0"),
        ({"throughput": {"tokens": 3.0}}, "toy.yaml: unknown throughput 'tokens': valid: samples, rows"),
        ({"notebooks": {"2_synthesis": {}}}, "toy.yaml: unknown notebook '2_synthesis': did you mean '02_synthesis'?"),
        (
            {"notebooks": {"02_synthesis": 3}},
            "toy.yaml: key notebooks is {'02_synthesis': 3} (dict), expected dict[str, dict[str, Any]]",
        ),
        ({"notebooks": []}, "toy.yaml: key notebooks is [] (list), expected dict[str, dict[str, Any]]"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError) as caught:
        check_profile({**PROFILE, **change}, "toy.yaml")
    assert message in str(caught.value)


def test_missing_key_is_named() -> None:
    with pytest.raises(ProfileError, match="toy.yaml: missing key 'teacher'"):
        check_profile({key: value for key, value in PROFILE.items() if key != "teacher"}, "toy.yaml")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [1")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system [ls]")
    with pytest.raises(ProfileError, match="bad.yaml: not readable as YAML"):
        load_profile(str(tmp_path / "bad.yaml"))
    with pytest.raises(ProfileError, match="code.yaml: not readable as YAML"):
        load_profile(str(tmp_path / "code.yaml"))
    with pytest.raises(ProfileError, match="no profile 'smok': did you mean 'smoke'"):
        load_profile("smok")


def test_a_profile_by_path(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(PROFILE))
    assert load_profile(str(tmp_path / "own.yaml")).teacher == "embedded"


def test_a_sweep_gives_each_value_students_of_its_own_on_shared_data_sets(tmp_path: Path) -> None:
    """Two sizes times one learning rate, two strategies: the pool once, four students, five evaluations, one 05."""
    sweep = "sweep={03_training.ROWS: [20, 40], 03_training.LEARNING_RATE: [1.0e-4]}"
    profile = with_overrides(load_profile("smoke"), [sweep, "strategies=[vrt, prop2diff]", "03_training.ROWS=7"])
    run = build_run(profile, tmp_path, "")
    students = [
        f"{strategy}-rows{rows}-learning_rate0_0001-seed1" for strategy in ("vrt", "prop2diff") for rows in (20, 40)
    ]
    assert [stage.name for stage in run.stages] == [
        *("00_start_here", "02_synthesis", "01_bias_analysis"),
        *(f"03_training/{student}" for student in students),
        *(f"04_evaluation/{model}" for model in ("base", *students)),
        "05_paper_figures",
    ]
    large = run.stage(f"03_training/{students[3]}")
    assert (large.parameters["ROWS"], large.parameters["LEARNING_RATE"], large.parameters["SEED"]) == (40, 1e-4, 1)
    assert large.files == {"DATASET": "02_synthesis/datasets/prop2diff.parquet"}
    evaluation = run.stage(f"04_evaluation/{students[0]}")
    assert evaluation.parameters["MODEL_NAME"] == students[0] and "ROWS" not in evaluation.parameters
    assert f"04_evaluation/{students[2]}/items.parquet" in run.stage("05_paper_figures").reads


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{02_synthesis.TEMPERATURE: [1, 2]}", "sweep of '02_synthesis.TEMPERATURE': give a parameter of 03_training"),
        ("{03_training.ROWS: []}", "sweep of '03_training.ROWS': give a parameter"),
        ("{03_training.ROWS: [20, 20]}", "two of its values have one name"),
        ("{03_training.ROWS: [20, -20]}", "two of its values have one name"),
        ("{03_training.SEED: [1, 2]}", "03_training: SEED follows from the run and the profile's own keys"),
        ("{03_training.ROWS: [20, many]}", "parameter ROWS is 'many'"),
        ("{03_training.ROW: [20]}", "unknown parameter 'ROW': did you mean 'ROWS'"),
        ("[03_training.ROWS]", "key sweep is"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_by_name(sweep: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ProfileError, NotebookError), match=re.escape(message)):
        build_run(with_overrides(load_profile("smoke"), [f"sweep={sweep}"]), tmp_path, "")


def test_overrides_are_read_as_yaml_and_checked() -> None:
    profile = check_profile(PROFILE, "toy.yaml")
    settings = ["02_synthesis.TEMPERATURE=1.5", "03_training.EPOCHS=3", "engine=local", "training_seeds=[4, 5]"]
    changed = with_overrides(profile, settings)
    assert changed.notebooks["02_synthesis"] == {"UNIFORM_QUOTA": 5, "TEMPERATURE": 1.5}
    assert changed.notebooks["03_training"] == {"EPOCHS": 3}
    assert (changed.engine, changed.training_seeds) == ("local", [4, 5])
    assert profile.notebooks["03_training"] == {"EPOCHS": 2}, "the profile itself must not change"
    for wrong in ("03_training.EPOCHS", "03_training.=3", "3_training.EPOCHS=3", "seeds=[1]", "a.b=[1"):
        with pytest.raises(ProfileError, match="--set"):
            with_overrides(profile, [wrong])


def test_variants_are_named_changes_under_set_and_in_the_runs_name() -> None:
    variants = {"big": {"teacher": "t", "03_training.EPOCHS": 5}, "small": {"03_training.EPOCHS": 1}}
    profile = check_profile({**PROFILE, "variants": variants}, "toy.yaml")
    changed = with_overrides(profile, ["03_training.SEED=9"], ["big", "small"])
    assert (changed.name, changed.teacher) == ("toy-big-small", "t")
    assert changed.notebooks["03_training"] == {"EPOCHS": 1, "SEED": 9}
    assert with_overrides(profile, ["03_training.EPOCHS=7"], ["big"]).notebooks["03_training"]["EPOCHS"] == 7
    with pytest.raises(ProfileError, match="toy: no variant 'bog': did you mean 'big'?"):
        with_overrides(profile, [], ["bog"])
    wrong = check_profile({**PROFILE, "variants": {"bad": {"enigne": "x"}}}, "toy.yaml")
    with pytest.raises(ProfileError, match="toy with its variants: unknown key 'enigne'"):
        with_overrides(wrong, [], ["bad"])


def test_a_stage_takes_its_notebooks_resources_over_the_defaults(tmp_path: Path) -> None:
    resources = {"default": {"cpus": 2, "runtime": 60}, "03_training": {"gpus": 8, "cpus": 16}}
    run = build_run(check_profile({**PROFILE, "resources": resources}, "toy.yaml"), tmp_path / "toy", "")
    assert run.stage("03_training/vrt-seed1").resources == {"cpus": 16, "runtime": 60, "gpus": 8}
    assert run.stage("05_paper_figures").resources == {"cpus": 2, "runtime": 60}


def test_several_endpoints_and_vllms_options_reach_the_synthesis(tmp_path: Path) -> None:
    for engine in ("http://a:1/v1,http://b:1/v1", "vllm --tensor_parallel_size 2 --data-parallel-size 4", "vllm -dp 4"):
        run = build_run(check_profile({**PROFILE, "engine": engine}, "toy.yaml"), tmp_path / "toy", "")
        assert run.stage("02_synthesis").parameters["ENGINE"] == engine


def test_suggestions() -> None:
    assert did_you_mean("TEMPRATURE", ["TEMPERATURE", "TOP_P"]) == "did you mean 'TEMPERATURE'?"
    assert did_you_mean("temperature", ["TEMPERATURE", "TOP_P"]) == "did you mean 'TEMPERATURE'?"
    assert did_you_mean("zzz", ["B", "A"]) == "valid: A, B"
    assert did_you_mean("zzz", []) == "there is none"


@pytest.mark.parametrize(
    ("engine", "own", "expected"),
    [("vllm", {}, "vllm"), ("http://host/v1", {}, "auto"), ("vllm", {"ENGINE": "local"}, "local")],
)
def test_the_evaluation_runs_where_the_students_are(
    tmp_path: Path, engine: str, own: dict[str, str], expected: str
) -> None:
    """A teacher's server does not serve the students, and small evaluations may go without a server."""
    profile = check_profile({**PROFILE, "engine": engine, "notebooks": {"04_evaluation": own}}, "toy.yaml")
    run = build_run(profile, tmp_path / "toy", "dartlib run toy")
    assert {s.parameters["ENGINE"] for s in run.stages if s.notebook == "04_evaluation"} == {expected}
    assert run.stage("02_synthesis").parameters["ENGINE"] == engine

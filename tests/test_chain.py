"""The whole study at smoke size, as `make reproduce` runs it: real model, all notebooks, all strategies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from dartlib.evaluation import read_result
from dartlib.pipeline.profiles import load_profile
from dartlib.records import STRATEGIES, QueryOutcome, SftRow, read_manifest, read_table

REPOSITORY = Path(__file__).resolve().parents[1]
MODELS = ("base", *(f"{strategy}-seed1" for strategy in STRATEGIES))
STAGES = (
    "00_start_here",
    "01_bias_analysis",
    "02_synthesis",
    *(f"03_training/{model}" for model in MODELS[1:]),
    *(f"04_evaluation/{model}" for model in MODELS),
    "05_paper_figures",
)
pytestmark = [pytest.mark.chain, pytest.mark.timeout(2400)]


def dartlib(runs: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the smoke profile; returns the process and its seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "dartlib.pipeline.cli", "run", "smoke", "--runs", str(runs)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return done, time.monotonic() - started


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    done, seconds = dartlib(runs)
    print(f"smoke chain: {seconds:.0f} s")
    assert done.returncode == 0, failures(runs / "smoke", done)
    return runs / "smoke"


def failures(folder: Path, done: subprocess.CompletedProcess[str]) -> str:
    """What went wrong, short enough to be read at the end of a log: each stage's failure, the last lines of its log."""
    found = [f"exit code {done.returncode}; the run's last lines:\n{(done.stdout + done.stderr)[-1500:]}"]
    for record in sorted(folder.rglob("failure.json")):
        found.append(f"{record.parent.name}: {record.read_text()}\n{(record.parent / 'log.txt').read_text()[-1500:]}")
    return "\n".join(found)


def test_every_stage_is_complete(smoke: Path) -> None:
    for name in STAGES:
        manifest = read_manifest(smoke / name / "manifest.json")
        assert manifest.status == "complete" and f"{name}/metrics.json" in manifest.outputs
        assert json.loads((smoke / name / "metrics.json").read_text())
        assert str(smoke) not in (smoke / name / "manifest.json").read_text()


def test_data_sets_are_the_quotas_prefixes(smoke: Path) -> None:
    outcomes = read_table(smoke / "02_synthesis" / "outcomes.parquet", QueryOutcome).to_pandas()
    parameters = load_profile("smoke").notebooks["02_synthesis"]
    for strategy in STRATEGIES:
        rows = read_table(smoke / "02_synthesis" / "datasets" / f"{strategy}.parquet", SftRow).to_pandas()
        own = outcomes[outcomes["strategy"] == strategy].set_index("query_id")
        assert (rows.groupby("query_id").size() == own["n_correct"][own["n_correct"] > 0].sort_index()).all()
        if strategy == "vrt":
            assert (own["n_trials"] == parameters["VRT_TRIALS"]).all()
            continue
        met = own["status"] == "met"
        assert met.any()
        assert (own["n_correct"] == own["quota"])[met].all() and (own["n_correct"] < own["quota"])[~met].all()
        assert (own["n_trials"] <= max(parameters["TRIAL_CAP"], parameters["DIFFICULTY_TRIALS"])).all()


def test_the_bias_is_visible(smoke: Path) -> None:
    outcomes = read_table(smoke / "02_synthesis" / "outcomes.parquet", QueryOutcome).to_pandas()
    correct = outcomes.pivot_table(index="level", columns="strategy", values="n_correct", aggfunc="mean")
    quota = outcomes.pivot_table(index="level", columns="strategy", values="quota", aggfunc="mean")
    easy, hard = correct.loc[1], correct.loc[5]
    assert easy["vrt"] > 2 * hard["vrt"], "vanilla sampling collects easy queries"
    assert quota["uniform"].nunique() == 1, "uniform asks the same of every level"
    assert easy["uniform"] - hard["uniform"] < easy["vrt"] - hard["vrt"]
    assert correct["prop2diff"].max() > easy["prop2diff"], "prop2diff rises with difficulty, up to the cap"


def test_base_and_students_are_evaluated_on_both_ladders(smoke: Path) -> None:
    for model in MODELS:
        items = pd.read_parquet(smoke / "04_evaluation" / model / "items.parquet")
        assert items["benchmark"].nunique() == 2 and not items["query_id"].duplicated().any()
        assert set(items["level"].dropna()) == {1, 2, 3, 4, 5}
        cut = (items["finish_reason"] == "length").groupby(items["benchmark"]).mean()
        assert (cut <= 0.2).all(), "a score over replies cut by the cap says nothing about the model"
        found = read_result(smoke / "04_evaluation" / model)
        assert all(each["overlap"] == {"whole": 0, "part": 0, "words": 13} for each in found.benchmarks.values()) or (
            model == "base"
        )


def test_figures_have_their_sidecars(smoke: Path) -> None:
    figures = sorted((smoke / "figures").glob("*.png"))
    assert len(figures) >= 6
    for figure in figures:
        sidecar = json.loads(figure.with_suffix(".json").read_text())
        assert sidecar["run"] == "smoke" and sidecar["git_commit"] and "inputs" in sidecar
        assert figure.stat().st_size > 5_000 and figure.with_suffix(".pdf").stat().st_size > 5_000


def test_second_run_does_nothing_and_says_so(smoke: Path) -> None:
    done, seconds = dartlib(smoke.parent)
    assert done.returncode == 0 and "nothing to do: all 11 stages of smoke are complete" in done.stdout
    assert seconds < 20

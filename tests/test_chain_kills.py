"""A whole run is killed at random moments (kill -9), the same command goes on, and tables and figures do not show it.

The queries are answered by a small server that decides by prompt and seed, so that two runs must agree to the byte;
the student is a toy. With the real vLLM, whose texts may differ, what is promised is exact quotas and a whole run.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from stub_servers import FakeServer, completion
from training_toys import model, write_model

from dartlib.pipeline.profiles import load_profile
from dartlib.records import STRATEGIES, QueryOutcome, SftRow, read_table

REPOSITORY = Path(__file__).resolve().parents[1]
TIMED = ("seconds", "tokens_per_second", "wasted_trials", "trials", "tokens", "verdicts")  # how far a run looked ahead


def answer(number: int, body: dict[str, Any]) -> tuple[int, Any]:
    """A sum or a product, right about twice in three times; prompt and seed decide, nothing else."""
    question = body["prompt"].rpartition("Question: ")[2].partition("?")[0]
    time.sleep(0.01)
    right = random.Random(f"{question}{body['seed']}").random() < 0.67
    values = [int(value) for value in re.findall(r"\d+", question)]
    found = values[0] * values[1] if "*" in question else sum(values) if "-" not in question else values[0] - values[1]
    return 200, completion(f" Seed {body['seed']}. The answer is {found if right else found + 1}.")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("profile")
    server = FakeServer(answer)
    values = yaml.safe_load((REPOSITORY / "papermill_runs" / "profiles" / "smoke.yaml").read_text())
    values |= {"engine": server.url, "disk_gb": 0.1, "strategies": ["vrt", "prop2diff"]}
    values["base_model"] = str(write_model(folder / "toy", model(initializer_range=0.1)))
    values["notebooks"]["02_synthesis"] |= {"QUERIES_PER_LEVEL": 6}
    values["notebooks"]["03_training"] |= {"ROWS": 20}
    values["notebooks"]["04_evaluation"] |= {"QUERIES_PER_LEVEL": 2, "MAX_TOKENS": 16, "ALLOW_UNUSABLE": True}
    (folder / "toy.yaml").write_text(yaml.safe_dump(values))
    yield folder / "toy.yaml"
    server.stop()


def start(profile: str | Path, runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dartlib.pipeline.cli", "run", str(profile), "--run", "run", "--runs", str(runs)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    runs.mkdir(exist_ok=True)
    with open(runs / "output.txt", "ab") as output:
        return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)


def finish(profile: str | Path, runs: Path) -> float:
    started = time.monotonic()
    code = start(profile, runs).wait()
    assert code == 0, (runs / "output.txt").read_text()[-3000:]
    return time.monotonic() - started


def run_with_kills(profile: str | Path, runs: Path, kills: int, seconds: float, seed: int) -> None:
    """Kill a run ``kills`` times at random moments, ``seconds`` being what a whole one takes; then let it end."""
    choose = random.Random(seed)
    for number in range(kills):
        process = start(profile, runs)
        time.sleep(choose.uniform(2, max(4.0, 0.6 * seconds)))
        assert process.poll() is None or number, "it ended before the first kill"
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(profile, runs)


def results(run: Path) -> dict[str, Any]:
    """Every table, data set and figure of a run, without the times in them."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.suffix in (".png", ".md") or path.parent.name == "datasets":
            found[name] = path.read_bytes()
        elif path.name == "items.parquet":
            found[name] = pd.read_parquet(path).drop(columns=["seconds"], errors="ignore").to_json()
        elif path.name == "outcomes.parquet":
            found[name] = path.read_bytes()
        elif path.name == "metrics.json":
            metrics = json.loads(path.read_text())
            found[name] = {key: value for key, value in metrics.items() if key not in TIMED}
    return found


@pytest.fixture(scope="module")
def undisturbed(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    runs = tmp_path_factory.mktemp("undisturbed")
    return runs / "run", finish(profile, runs)


KILLS = [
    pytest.param(3, marks=pytest.mark.chain),
    pytest.param(10, marks=pytest.mark.endurance),
]


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_run_ends_with_the_same_tables_and_figures(
    kills: int, profile: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    run_with_kills(profile, tmp_path, kills, undisturbed[1], seed=kills)
    ours, theirs = results(tmp_path / "run"), results(undisturbed[0])
    assert ours.keys() == theirs.keys() and len(ours) > 25
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.timeout(3600)
@pytest.mark.endurance
def test_three_kills_of_a_whole_run_with_vllm(tmp_path: Path, embedded: Path) -> None:
    run_with_kills("smoke", tmp_path, 3, 300, seed=5)
    run = tmp_path / "run"
    outcomes = read_table(run / "02_synthesis" / "outcomes.parquet", QueryOutcome).to_pandas()
    cap = load_profile("smoke").notebooks["02_synthesis"]["TRIAL_CAP"]
    met = outcomes["status"] == "met"
    assert (outcomes["n_correct"] == outcomes["quota"])[met].all() and (outcomes["n_trials"] <= cap).all()
    for strategy in STRATEGIES:
        rows = read_table(run / "02_synthesis" / "datasets" / f"{strategy}.parquet", SftRow).to_pandas()
        assert len(rows) == outcomes.loc[outcomes["strategy"] == strategy, "n_correct"].sum()
        assert not rows.duplicated(["query_id", "trial"]).any()

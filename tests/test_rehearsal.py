"""The rehearsal of the paper's profile from its first stage to its last, with a stub in place of the teacher's server.

Its queries, templates, benchmarks, quotas and the trainer of two processes are its own. The student is a toy, and of
forty queries two are ever answered right: as few as the embedded model may leave. With that model it takes minutes
more, and no test can say what it will answer.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from stub_servers import FakeServer, completion
from training_toys import model, write_model

from dartlib.pipeline.profiles import Profile, load_profile, with_overrides
from dartlib.queries import get_template, load_queries
from dartlib.records import SftRow, read_table

REPOSITORY = Path(__file__).resolve().parents[1]
BENCHMARKS = "math-test gsm8k-test college-math-test deepmind-mathematics olympiadbench-math theoremqa".split()
pytestmark = [pytest.mark.endurance, pytest.mark.timeout(2400)]


@pytest.fixture
def rehearsal(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    return with_overrides(load_profile("paper"), [], ["rehearsal"])


@pytest.fixture
def teacher(rehearsal: Profile) -> Iterator[FakeServer]:
    """Answers two of the queries right, in two trials of three."""
    own = rehearsal.notebooks["02_synthesis"]
    queries = load_queries(own["QUERIES"], split="train", queries_per_level=1, seed=1, log=lambda line: None)
    assert len(queries) == 40
    template = get_template(own["TEMPLATE"])
    solved = {template.render(query.query): query.reference_answer for query in (queries[3], queries[30])}

    def answer(number: int, body: dict[str, Any]) -> tuple[int, Any]:
        right = random.Random(f"{body['prompt']}{body['seed']}").random() < 0.67
        found = solved.get(body["prompt"]) if right else None
        return 200, completion(f" By step {body['seed']} it is $\\boxed{{{found or 123456789}}}$.")

    server = FakeServer(answer)
    yield server
    server.stop()


def test_a_handful_of_right_answers_goes_through_all_stages(
    rehearsal: Profile, teacher: FakeServer, tmp_path: Path
) -> None:
    toy = str(write_model(tmp_path / "toy", model(initializer_range=0.1)))
    strategies = ["vrt", "prop2diff"]
    values = asdict(rehearsal) | {"engine": teacher.url, "base_model": toy, "disk_gb": 0.1, "strategies": strategies}
    values["notebooks"]["02_synthesis"]["OPTIONS"]["pool"] = str(tmp_path / "pool")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "dartlib.pipeline.cli", "run", str(tmp_path / "toy.yaml"), "--run", "run"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, "--runs", str(tmp_path)], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    for strategy in strategies:
        rows = read_table(tmp_path / "run" / "02_synthesis" / "datasets" / f"{strategy}.parquet", SftRow)
        assert len(set(rows["query_id"].to_pylist())) == 2
        said = (tmp_path / "run" / "03_training" / f"{strategy}-seed1" / "log.txt").read_text()
        assert "--zero-stage=3" in said and "2 x cpu, fp32" in said
    for name in ("base", *(f"{strategy}-seed1" for strategy in strategies)):
        items = pd.read_parquet(tmp_path / "run" / "04_evaluation" / name / "items.parquet")
        assert items["benchmark"].value_counts().to_dict() == dict.fromkeys(BENCHMARKS, 2)

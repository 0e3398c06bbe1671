"""Notebook 04 from end to end, headlessly, against a small server: greedy, several samples, and two models compared."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import papermill
import pytest
from test_engines_endpoints import FakeServer

from dartlib.pipeline import repository_path
from dartlib.queries import load_queries
from dartlib.records import SftRow, write_records

HOSTILE = "<script>alert(1)</script> $\\frac{"
COMMON = {"MODEL": "embedded", "QUERIES_PER_LEVEL": 2, "API_KEY_VARIABLE": "DARTLIB_TEST_KEY", "MAX_TOKENS": 32}


def behave(number: int, body: dict[str, Any]) -> tuple[int, Any]:
    """Two of three products and sums right, decided by prompt and seed; hostile text around the answer."""
    question = body["prompt"].rpartition("Question: ")[2]
    numbers = re.findall(r"\d+", question)
    right = random.Random(f"{question}{body['seed']}").random() < 0.67
    product = int(numbers[0]) * int(numbers[1])
    answer = product if right and "*" in question else sum(map(int, numbers)) if right else 8
    text = f" {HOSTILE} seed {body['seed']} {numbers}. The answer is {answer}."
    return 200, {"choices": [{"text": text, "finish_reason": "stop"}], "usage": {"completion_tokens": 9}}


@pytest.mark.slow
def test_the_notebook_scores_teaches_and_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_TEST_KEY", "not a secret")
    server = FakeServer(behave)
    queries = load_queries("ladder-arithmetic", split="test", queries_per_level=2, seed=1)
    rows = [SftRow(query.query, "no matter", "q", 0, "s", 1, None, "vrt") for query in queries]
    write_records(tmp_path / "training.parquet", rows, SftRow)
    source, base, student = repository_path("notebooks/04_evaluation.ipynb"), tmp_path / "base", tmp_path / "student"
    runs: dict[Path, dict[str, Any]] = {
        base: {"MODEL_NAME": "base"},
        student: {
            "MODEL_NAME": "vrt-seed1",
            "SAMPLES": 4,
            "TEMPERATURE": 0.7,
            "ITEMS": 9,
            "TRAINING_SET": str(tmp_path / "training.parquet"),
            "COMPARE_WITH": [str(base)],
            "SHOW_UNLIKE": True,
        },
    }
    for folder, own in runs.items():
        given = {**COMMON, "ENGINE": server.url, "STAGE_FOLDER": str(folder), **own}
        papermill.execute_notebook(str(source), str(folder) + ".ipynb", given, progress_bar=False)
        assert "<script>alert" not in Path(str(folder) + ".ipynb").read_text(encoding="utf-8")
    server.stop()
    assert server.headers[0] == "Bearer not a secret"

    greedy, sampled = (json.loads((folder / "metrics.json").read_text()) for folder in runs)
    assert {row["score"] for row in greedy["scores"]} == {"pass@1"}
    assert {row["score"] for row in sampled["scores"]} == {"avg@4", "pass@2", "pass@4", "maj@2", "maj@4"}
    assert {row["model"] for row in sampled["scores"]} == {"vrt-seed1"}
    replies = [
        sum(count for verdict, count in run["verdicts"].items() if verdict != "error") for run in (greedy, sampled)
    ]
    assert replies == [20, 2 * 9 * 4]  # what failed was asked again
    assert greedy["cut_by_length"] == 0 and [row["n"] for row in sampled["accuracy"]] == [9, 9]
    by_level = sampled["accuracy_by_level"]
    assert sum(row["correct"] for row in by_level) == sampled["verdicts"]["correct"]
    shown = Path(str(student) + ".ipynb").read_text(encoding="utf-8")
    by_hand = re.findall(r"pass@2 = ([\d.]+), maj@2 = ([\d.]+) by hand", shown)
    assert len(by_hand) == 2 and all(0 < float(vote) < 1 for _, vote in by_hand)
    assert by_hand == re.findall(r"([\d.]+) +([\d.]+) by dartlib", shown)
    for said in (
        "unlike: ladder-arithmetic",
        "p&#95;holm",
        "none of its six benchmarks",
        "9 items in its training set",
    ):
        assert said in shown

"""A golden result per declared version. When one of these fails: raise the version, and put the new result here.

Runs of the study know by the version that results made before are not those that the code makes now.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from stub_run import make

from dartlib.grading import GradingPool
from dartlib.pipeline.digest import VERSIONS
from dartlib.records import Query, SftRow, read_records
from dartlib.training import TrainingConfig, plan_steps

RESPONSES = [  # reference, response
    ("42", "So the answer is 42."),
    ("42", r"Hence \boxed{42}."),
    ("42", r"\boxed{43}"),
    ("42", "I do not know"),
    (r"\frac{1}{2}", "The answer is 0.5."),
    (r"\frac{1}{2}", r"\boxed{\frac{2}{4}}"),
    (r"\sqrt{8}", r"\boxed{2\sqrt{2}}"),
    ("(1,2)", r"\boxed{(2,1)}"),
    ("[-2,7]", r"\boxed{-2, 7}"),
    ("10", r"\boxed{2x=10}"),
    ("x+1", r"\boxed{1+x}"),
    (r"\$5", r"\boxed{5 \text{ dollars}}"),
    (r"\pi", r"\boxed{3.14}"),
    ("3", r"x=\boxed{2} and x=\boxed{3}"),
    ("1,234", "The answer is 1234"),
    ("5", '{"reasoning": "half", "answer": "5"}'),
]
GOLDEN = {
    "GRADER_VERSION": ("4/math-verify-0.9.0", "f0d0a7fb832b7370"),
    "SAMPLING_VERSION": ("1", "3d3c91768421a5eb"),
    "TRAINING_VERSION": ("1", "14773411bbb1b144"),
}


def short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def graded() -> list[tuple[str | None, str]]:
    queries = [Query(str(n), "golden", "What is it?", gold, "expression") for n, (gold, _) in enumerate(RESPONSES)]
    with GradingPool(1) as pool:
        grades = pool.grade_many([(query, text, "stop") for query, (_, text) in zip(queries, RESPONSES, strict=True)])
    return [(answer, str(verdict)) for answer, verdict, _ in grades]


def sampled(folder: Path) -> list[Any]:
    """The rows of three data sets from the stub engine: numbers, seeds, quotas and prefixes of trials."""
    make(folder)
    files = sorted((folder / "datasets").glob("*.parquet"))
    return [
        [row.strategy, row.query_id, row.trial, row.pass_rate] for path in files for row in read_records(path, SftRow)
    ]


def planned() -> list[Any]:
    """Which examples go into which pack and step, for two epochs of forty examples."""
    lengths = [10 + (37 * number) % 90 for number in range(40)]
    config = TrainingConfig("ladder", 1e-4, 2, 128, 4, 2, 7)
    return [step.packs for step in plan_steps(lengths, config)]


@pytest.mark.parametrize(("name", "version"), VERSIONS.items())
def test_results_are_those_of_the_declared_version(tmp_path: Path, name: str, version: str) -> None:
    make = {"GRADER_VERSION": graded, "SAMPLING_VERSION": lambda: sampled(tmp_path), "TRAINING_VERSION": planned}
    assert (version, short(make[name]())) == GOLDEN[name], f"results changed: raise {name}, and put the new ones here"

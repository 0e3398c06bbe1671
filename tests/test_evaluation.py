"""Scoring: hand-counted accuracy, the sanity gate, resume. The engine here is a stub and says so."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from stub_engine import TEMPLATE, StubEngine, numbered_queries

from dartlib.engines import Completion
from dartlib.evaluation import EvaluationError, evaluate


def run_evaluation(folder: Path, engine: StubEngine, rates=(1.0, 1.0, 0.0, 1.0)):
    return evaluate(
        numbered_queries(rates),
        engine=engine,
        template=TEMPLATE,
        max_tokens=32,
        output_folder=folder,
        log=lambda line: None,
    )


def test_every_question_is_asked_once_and_scored(tmp_path: Path) -> None:
    engine = StubEngine()
    report = run_evaluation(tmp_path, engine)
    assert engine.requests == 4
    assert list(report.items.sort_values("level").verdict) == ["correct", "correct", "wrong", "correct"]
    stored = pd.read_parquet(tmp_path / "items.parquet")
    assert set(stored.query_id) == set(report.items.query_id)
    again = StubEngine()
    assert run_evaluation(tmp_path, again).items.equals(report.items) and again.requests == 0


class Plain(StubEngine):
    """States the right answer without the phrase that announces one."""

    async def complete(self, prompt, sampling, seed):
        return Completion("It comes to 7.", "stop", 5, None, 0.0)


def test_a_missing_phrase_is_not_a_wrong_answer(tmp_path: Path) -> None:
    """As in the paper's evaluator, the last number counts; synthesis is strict."""
    assert set(run_evaluation(tmp_path, Plain()).items.verdict) == {"correct"}


class Rambling(StubEngine):
    """Never comes to an answer: every reply is cut by length."""

    async def complete(self, prompt, sampling, seed):
        return Completion(" and then 7 and then", "length", sampling.max_tokens, None, 0.0)


def test_the_sanity_gate_stops_and_shows_replies(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"(?s)4 of 4 replies.*and then 7"):
        run_evaluation(tmp_path, Rambling())
    assert not (tmp_path / "items.parquet").exists()

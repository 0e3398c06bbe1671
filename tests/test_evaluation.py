"""Asking and scoring: hand-counted scores, the gate per benchmark, resume, votes. The engine is a stub and says so."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from stub_engine import TEMPLATE, StubEngine, numbered_queries

from dartlib.engines import Completion, SamplingParameters
from dartlib.evaluation import EvaluationError, benchmark_version, evaluate, read_result
from dartlib.evaluation.scores import vote_classes
from dartlib.grading import GradingPool
from dartlib.records import Item, Query, RecordError, make_queries, read_records, write_records
from dartlib.statistics import wilson_interval


def run_evaluation(
    folder: Path, engine: StubEngine, rates=(1.0, 1.0, 0.0, 1.0), queries=None, temperature=0.0, **options
):
    return evaluate(
        queries or numbered_queries(rates),
        engine=engine,
        template=TEMPLATE,
        sampling=SamplingParameters(temperature, 1.0, 32),
        output_folder=folder,
        log=lambda line: None,
        **options,
    )


def test_every_question_is_asked_once_and_scored(tmp_path: Path) -> None:
    engine = StubEngine()
    report = run_evaluation(tmp_path, engine)
    assert engine.requests == 4
    assert list(report.items.sort_values("level").verdict) == ["correct", "correct", "wrong", "correct"]
    found = report.benchmarks["stub"]
    assert (found["items"], found["samples"], found["verdicts"]["correct"], found["verdicts"]["wrong"]) == (4, 1, 3, 1)
    low, high = wilson_interval(3, 4)
    assert found["scores"] == {"pass@1": {"value": 0.75, "low": low, "high": high}}
    again = StubEngine()
    assert run_evaluation(tmp_path, again).items.equals(report.items) and again.requests == 0


def test_items_say_all_that_a_score_rests_on(tmp_path: Path) -> None:
    run_evaluation(tmp_path, StubEngine())
    rows = read_records(tmp_path / "items.parquet", Item)
    first = rows[0]
    assert [row.query_id for row in rows] == [query.query_id for query in numbered_queries((1.0, 1.0, 0.0, 1.0))]
    assert (first.engine, first.weights, first.finish_reason, first.n_tokens) == ("stub", "stub-weights", "stop", 5)
    assert first.grader.endswith("/lenient") and first.benchmark == "stub"
    assert len({row.prompt_digest for row in rows}) == 4  # four questions, four prompts
    assert {row.benchmark_version for row in rows} == {benchmark_version(numbered_queries((1.0, 1.0, 0.0, 1.0)))}
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["weights"] == "stub-weights" and len(written["protocol_digest"]) == 12
    protocol = read_result(tmp_path).benchmarks["stub"]["protocol"]
    assert (protocol["max_tokens"], protocol["stop"], protocol["shots"], protocol["samples"]) == (32, ["\n\n"], 0, 1)


def test_several_samples_resume_and_more_go_on_from_fewer(tmp_path: Path) -> None:
    rates = (1.0, 0.5, 0.5, 0.0, 0.8)
    engine = StubEngine()
    run_evaluation(tmp_path, engine, rates, samples=2, temperature=0.7)
    report = run_evaluation(tmp_path, engine, rates, samples=8, temperature=0.7)
    assert engine.requests == 5 * 8  # two of the eight were there
    assert sorted(report.items.groupby("query_id").size()) == [8] * 5
    assert report.items.groupby("query_id")["response"].nunique().min() > 1  # each trial has its own seed
    fewer = StubEngine()
    part = run_evaluation(tmp_path, fewer, rates, samples=2, temperature=0.7)
    assert fewer.requests == 0 and len(part.items) == 10  # a smaller k reads the first trials
    scores = report.benchmarks["stub"]["scores"]
    assert list(scores) == ["avg@8", "pass@2", "pass@4", "pass@8", "maj@2", "maj@4", "maj@8"]
    right = (report.items["verdict"] == "correct").groupby(report.items["query_id"]).sum()
    assert scores["avg@8"]["value"] == pytest.approx(right.sum() / 40)
    assert scores["pass@8"]["value"] == pytest.approx((right > 0).mean())
    # two answers only, 7 and 8: the majority is right where more than half is, a tie is worth a half
    assert scores["maj@8"]["value"] == pytest.approx(((right > 4) + (right == 4) / 2).mean())
    values = [scores[name]["value"] for name in ("avg@8", "pass@2", "pass@4", "pass@8")]
    assert values == sorted(values)


def test_greedy_copies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="copies of one"):
        run_evaluation(tmp_path, StubEngine(), samples=4)


class Plain(StubEngine):
    """States the right answer without the phrase that announces one."""

    async def complete(self, prompt, sampling, seed):
        return Completion("It comes to 7.", "stop", 5, None, 0.0)


def test_a_missing_phrase_is_not_a_wrong_answer(tmp_path: Path) -> None:
    """As in the paper's evaluator, the last number counts; synthesis is strict."""
    assert set(run_evaluation(tmp_path, Plain()).items.verdict) == {"correct"}


class Broken(StubEngine):
    """Answers some benchmarks only: ``reply`` gives text and finish reason of the others."""

    def __init__(self, text: str, finish_reason: str = "stop") -> None:
        super().__init__()
        self.reply = Completion(text, finish_reason, 3, None, 0.0)

    async def complete(self, prompt, sampling, seed):
        return self.reply if "silent" in prompt else await super().complete(prompt, sampling, seed)


def two_benchmarks(silent: int = 10, good: int = 30) -> list[Query]:
    rows = [{"query": f"silent {n} rate 0", "reference_answer": "7"} for n in range(silent)]
    return numbered_queries([1.0] * good) + make_queries(rows, source="other", version="1")


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (Broken(" and then 7 and then", "length"), "10 cut"),
        (Broken(" "), "10 empty"),
        (Broken("I do not know."), "10 no answer, 10 alike"),
        (Broken("The answer is 8."), "10 alike"),
    ],
)
def test_the_gate_looks_at_each_benchmark(tmp_path: Path, engine: Broken, said: str) -> None:
    """Ten bad replies among forty: a quarter in sum, all of their benchmark. The score is not written."""
    with pytest.raises(EvaluationError, match=rf"(?s)^other: of 10 replies {said}.*Three:") as error:
        run_evaluation(tmp_path, engine, queries=two_benchmarks())
    assert "stub:" not in str(error.value) and repr(engine.reply.text) in str(error.value)
    assert not (tmp_path / "items.parquet").exists() and not (tmp_path / "result.json").exists()


def test_allowed_unusable_replies_are_in_the_protocol(tmp_path: Path) -> None:
    report = run_evaluation(tmp_path, Broken("", "length"), queries=two_benchmarks(), allow_unusable=True)
    allowed = {name: found["protocol"]["unusable_allowed"] for name, found in report.benchmarks.items()}
    assert allowed == {"stub": False, "other": True}
    found = report.benchmarks["other"]
    assert found["unusable"]["cut"] == 10 and found["finished"] == {"replies": 0, "accuracy": None}
    half = numbered_queries([1.0] * 5) + two_benchmarks(5, 0)
    mended = run_evaluation(tmp_path / "half", Broken("no", "length"), queries=half, allow_unusable=True)
    assert mended.benchmarks["stub"]["finished"] == {"replies": 5, "accuracy": 1.0}


def test_overlap_with_the_training_set_stands_beside_the_score(tmp_path: Path) -> None:
    queries = numbered_queries([1.0] * 4)
    report = run_evaluation(tmp_path, StubEngine(), queries=queries, training_texts=[queries[2].query, "other text"])
    assert report.benchmarks["stub"]["overlap"] == {"whole": 1, "part": 1, "words": 13}
    assert run_evaluation(tmp_path, StubEngine(), queries=queries).benchmarks["stub"]["overlap"] is None


def sampled(answers: dict[str, list[tuple[str | None, str]]]) -> dict[str, pd.DataFrame]:
    return {query: pd.DataFrame(rows, columns=["answer", "verdict"]) for query, rows in answers.items()}


def test_equal_answers_vote_together_and_none_never_does() -> None:
    rows = {
        "q": [("1/2", "correct"), ("0.5", "correct"), ("\\frac{2}{4}", "wrong"), ("3", "wrong"), (None, "no_answer")],
        "none": [(None, "no_answer"), (None, "no_answer")],
    }
    with GradingPool() as grading:
        classes = vote_classes(sampled(rows), grading)
    assert sorted(classes["q"]) == [(1, False), (3, True)] and classes["none"] == []
    # a class is right if most of its samples were graded so: one of three, and one of two, are not most
    rows = {"one": ["correct", "wrong", "wrong"], "half": ["correct", "wrong"]}
    with GradingPool() as grading:
        classes = vote_classes(sampled({query: [("7", each) for each in own] for query, own in rows.items()}), grading)
    assert classes == {"one": [(3, False)], "half": [(2, False)]}


def test_classes_are_what_chains_of_equal_answers_connect() -> None:
    """2 = 2 apples and 2 = 2 pears, though apples are no pears: one class of three."""
    rows = [("2", "correct"), ("2 apples", "correct"), ("2 pears", "wrong"), ("4", "wrong")]
    with GradingPool() as grading:
        assert grading.equal_many([("2 apples", "2 pears"), ("2", "2 pears")]) == [False, True]
        for _ in range(3):
            random.Random(1).shuffle(rows)
            assert sorted(vote_classes(sampled({"q": rows}), grading)["q"]) == [(1, False), (3, True)]


def test_a_result_survives_a_move_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    run_evaluation(tmp_path / "a", StubEngine())
    moved = (tmp_path / "a").rename(tmp_path / "b")
    assert len(read_result(moved / "result.json").items) == 4
    values = json.loads((moved / "result.json").read_text())
    (moved / "result.json").write_text(json.dumps(values | {"result_version": 99}))
    with pytest.raises(RecordError, match="version 99"):
        read_result(moved)
    (moved / "result.json").write_text(json.dumps(values | {"model": "\x1b[2J"}))
    with pytest.raises(RecordError, match="control characters"):
        read_result(moved)
    (moved / "result.json").write_text("{}")
    with pytest.raises(RecordError, match="not a result file"):
        read_result(moved)
    with pytest.raises(RecordError, match=r"holds no result\.json"):
        read_result(tmp_path)


def test_items_are_a_checked_record(tmp_path: Path) -> None:
    run_evaluation(tmp_path, StubEngine())
    rows = read_records(tmp_path / "items.parquet", Item)
    write_records(tmp_path / "again.parquet", rows, Item)
    assert read_records(tmp_path / "again.parquet", Item) == rows
    frame = pd.read_parquet(tmp_path / "items.parquet").drop(columns="prompt_digest")
    frame.to_parquet(tmp_path / "items.parquet")
    with pytest.raises(RecordError, match="'prompt_digest' is missing"):
        _ = read_result(tmp_path).items

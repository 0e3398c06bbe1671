"""Training teaches: right answers to easy questions raise the share of other questions that are answered right."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from dartlib.engines import SamplingParameters, open_engine
from dartlib.evaluation import evaluate
from dartlib.queries import build_ladder, canonical_key, get_template
from dartlib.records import Query
from dartlib.statistics import compare_paired
from dartlib.training import Job, TrainingConfig, train

TEMPLATE = "ladder"  # no worked examples: what is asked is what was trained on
TRAIN, TEST = {1: 43, 2: 101, 3: 156}, {1: 36, 2: 84, 3: 80}  # levels 1 and 2 have no more
GREEDY = SamplingParameters(temperature=0.0, top_p=1.0, max_tokens=48)


def questions(split: str, counts: dict[int, int]) -> list[Query]:
    parts = (
        build_ladder(ladder="arithmetic", split=split, levels=[n], queries_per_level=counts[n], seed=1) for n in counts
    )
    return [query for part in parts for query in part]


def worked(query: Query) -> str:
    expression = query.query.removeprefix("What is ").removesuffix("?")
    return f"{expression} = {query.reference_answer}. The answer is {query.reference_answer}."


def answers(model: Path, asked: Sequence[Query], folder: Path) -> pd.DataFrame:
    """One greedy reply each, in the order of the questions."""
    with open_engine("local", str(model), log_folder=folder) as engine:
        found = evaluate(
            asked,
            engine=engine,
            template=get_template(TEMPLATE),
            sampling=GREEDY,
            output_folder=folder,
            allow_unusable=True,
        )
    assert found.items["query_id"].tolist() == [query.query_id for query in asked]
    return found.items


def named_anywhere(items: pd.DataFrame, asked: Sequence[Query]) -> list[bool]:
    """The kindest reading: the right number stands somewhere in the reply, cut or not."""
    numbers = items["response"].map(lambda text: re.findall(r"-?\d+", text))
    return [query.reference_answer in found for query, found in zip(asked, numbers, strict=True)]


@pytest.mark.model
@pytest.mark.timeout(1200)
def test_300_right_answers_raise_greedy_accuracy_on_other_questions(embedded: Path, tmp_path: Path) -> None:
    lessons, asked = questions("train", TRAIN), questions("test", TEST)
    assert (len(lessons), len(asked)) == (300, 200)
    assert not {canonical_key(query.query) for query in lessons} & {canonical_key(query.query) for query in asked}
    rows = [{"query": query.query, "response": worked(query)} for query in lessons]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = TrainingConfig(
        template=TEMPLATE,
        learning_rate=1e-4,
        epochs=1,
        max_tokens_per_pack=256,
        packs_per_step=2,
        packs_per_forward=2,
        seed=1,
    )
    report = train(Job(tmp_path / "rows.jsonl", embedded, tmp_path / "student", settings), log=print)
    before = answers(embedded, asked, tmp_path / "before")
    after = answers(report.checkpoint, asked, tmp_path / "after")
    right = [(items["verdict"] == "correct").tolist() for items in (before, after)]
    kind = [named_anywhere(items, asked) for items in (before, after)]
    strict, lenient = compare_paired(*right, seed=1), compare_paired(*kind, seed=1)
    for name, found, compared in (("graded", right, strict), ("named anywhere", kind, lenient)):
        print(f"{name}: {sum(found[0])} of 200 before, {sum(found[1])} after, McNemar p {compared.p_value:.2g}")
    assert strict.difference > 0 and strict.p_value < 0.01
    assert lenient.difference > 0 and lenient.p_value < 0.01  # no mere matter of form

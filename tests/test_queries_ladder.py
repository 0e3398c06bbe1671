"""Ladders: exact answers, no leak between splits, the same queries everywhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from math import gcd, lcm, prod
from pathlib import Path

import pytest

from dartlib.queries import LADDERS, build_ladder, canonical_key, ladder_table, ladder_version
from dartlib.queries.templates import LADDER_EXEMPLARS
from dartlib.records import Query, check_unique

NAMES = list(LADDERS)


def _keys(queries: list[Query]) -> set[str]:
    return {canonical_key(query.query) for query in queries}


@pytest.mark.parametrize("ladder", NAMES)
def test_five_levels_from_easy_to_hard(ladder: str) -> None:
    rungs = LADDERS[ladder]
    rates = [rung.correct / rung.trials for rung in rungs if rung.trials]
    assert [rung.level for rung in rungs] == [1, 2, 3, 4, 5]
    assert rates == sorted(rates, reverse=True)


def test_the_main_ladder_is_measured_and_spans_easy_to_hard() -> None:
    rungs = LADDERS["arithmetic"]
    rates = [rung.correct / rung.trials for rung in rungs]
    assert min(rung.trials for rung in rungs) >= 500
    assert rates[0] > 0.85 and 0.02 < rates[-1] < 0.1
    assert LADDERS["arithmetic-hard"][-1].correct < rungs[-1].correct


@pytest.mark.parametrize("ladder", NAMES)
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_no_question_of_train_is_asked_in_test_or_in_the_prompt(ladder: str, seed: int) -> None:
    """Whatever seeds are used for the two splits."""
    train = build_ladder(ladder=ladder, split="train", queries_per_level=20, seed=seed)
    test = build_ladder(ladder=ladder, split="test", queries_per_level=20, seed=seed + 1)
    exemplars = {canonical_key(question) for question, _ in LADDER_EXEMPLARS}
    assert not _keys(train) & _keys(test)
    assert not (_keys(train) | _keys(test)) & exemplars
    check_unique(train + test)


@pytest.mark.parametrize("ladder", NAMES)
def test_no_question_stands_on_two_levels(ladder: str) -> None:
    queries = build_ladder(ladder=ladder, split="train", queries_per_level=30, seed=0)
    keys = [_keys([query for query in queries if query.level == level]) for level in range(1, 6)]
    assert len(set.union(*keys)) == sum(map(len, keys))


def test_the_two_domains_share_no_question_and_no_id() -> None:
    ladders = [
        build_ladder(ladder=name, split=split, queries_per_level=20, seed=0)
        for name in ("arithmetic", "divisors")
        for split in ("train", "test")
    ]
    assert not (_keys(ladders[0]) | _keys(ladders[1])) & (_keys(ladders[2]) | _keys(ladders[3]))
    check_unique([query for queries in ladders for query in queries])


@pytest.mark.parametrize("ladder", NAMES)
def test_reference_answers_are_right(ladder: str) -> None:
    """Worked out here by other means than the generator's."""
    for query in build_ladder(ladder=ladder, split="train", queries_per_level=20, seed=3):
        assert Fraction(query.reference_answer) == _solve(query.query), query


def _solve(question: str) -> Fraction | int:
    numbers = [int(text) for text in re.findall(r"\d+", question)]
    if "divisor" in question:
        return gcd(*numbers)
    if "multiple" in question:
        return lcm(*numbers)
    if "*" in question:
        return prod(numbers)
    expression = question.removeprefix("What is ").removesuffix("?").replace(" ", "")
    terms = re.findall(r"[+-]?[\d.]+", expression)
    assert "".join(terms) == expression
    return sum(map(Fraction, terms), Fraction(0))


def test_fields() -> None:
    queries = build_ladder(ladder="arithmetic", split="train", levels=[4, 2], queries_per_level=3, seed=0)
    assert [query.level for query in queries] == [2, 2, 2, 4, 4, 4]
    assert {query.source for query in queries} == {"ladder-arithmetic"}
    assert {query.domain for query in queries} == {
        LADDERS["arithmetic"][1].generator,
        LADDERS["arithmetic"][3].generator,
    }
    assert all(json.loads(query.metadata)["key"] == canonical_key(query.query) for query in queries)


def test_the_easy_levels_leave_out_what_the_teacher_cannot_do_at_all() -> None:
    """Products with zero and negative differences, by the smallest answer of their level."""
    for level, smallest in ((1, 1), (2, 0)):
        queries = build_ladder(ladder="arithmetic", split="train", levels=[level], queries_per_level=40, seed=0)
        assert min(int(query.reference_answer) for query in queries) >= smallest
    below = build_ladder(ladder="arithmetic", split="train", levels=[4], queries_per_level=40, seed=0)
    assert min(int(query.reference_answer) for query in below) < 0


def test_fewer_queries_are_a_part_of_more_and_seeds_differ() -> None:
    few, many, other = (
        {query.query_id for query in build_ladder(ladder="divisors", split="test", queries_per_level=n, seed=seed)}
        for n, seed in ((5, 0), (15, 0), (5, 1))
    )
    assert few < many
    assert few != other


def test_same_queries_in_another_process() -> None:
    code = (
        "from dartlib.queries import build_ladder as b;"
        "print([q.query_id for q in b(ladder='arithmetic', split='train', queries_per_level=4, seed=9)])"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    here = build_ladder(ladder="arithmetic", split="train", queries_per_level=4, seed=9)
    assert done.stdout.strip() == str([query.query_id for query in here])


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("What is 3 + 4?", "+3+4"),
        ("4+3", "+3+4"),
        ("What is  4 + 3 ?", "+3+4"),
        ("What is 9 - 4 + 12?", "+12+9-4"),
        ("What is 9 + 12 - 4?", "+12+9-4"),
        ("What is 4 - 9?", "+4-9"),
        ("What is 7 * 3?", "3*7"),
        ("What is 2 * 10 * 3?", "10*2*3"),
        ("What is the greatest common divisor of 12 and 8?", "thegreatestcommondivisor:12,8"),
        ("What is the greatest common divisor of 8 and 12?", "thegreatestcommondivisor:12,8"),
        ("What is the least common multiple of 8 and 12?", "theleastcommonmultiple:12,8"),
        ("How many legs have 2 cats?", "howmanylegshave2cats"),
    ],
)
def test_canonical_key(question: str, key: str) -> None:
    assert canonical_key(question) == key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ladder": "algebra"}, "unknown ladder 'algebra': choose one of arithmetic"),
        ({"split": "dev"}, "unknown split 'dev': choose train or test"),
        ({"levels": [1, 7]}, r"has levels \[1, 2, 3, 4, 5\], not \[7\]"),
        ({"queries_per_level": 10_000}, r"level 1 of ladder 'arithmetic' has \d+ train queries, 10000 were asked for"),
    ],
)
def test_errors_name_the_choices(change: dict[str, object], message: str) -> None:
    arguments = {"ladder": "arithmetic", "split": "train", "queries_per_level": 1, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        build_ladder(**arguments)  # type: ignore[arg-type]


def test_version_follows_the_generators_not_the_measurements() -> None:
    versions = {ladder_version(ladder) for ladder in NAMES}
    assert len(versions) == len(NAMES)


def test_table_for_readers() -> None:
    table = ladder_table()
    assert len(table) == 5 * len(NAMES)
    measured = table[table.trials > 0]
    assert ((measured["low"] < measured["pass_rate"]) & (measured["pass_rate"] < measured["high"])).all()
    assert (table[["train_queries", "test_queries"]] >= 20).all(axis=None)

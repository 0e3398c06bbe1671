"""Ladders: exact answers, no leak between splits, the same queries everywhere."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from fractions import Fraction
from math import gcd, lcm, prod
from pathlib import Path

import pytest

from dartlib.grading import GradingPool
from dartlib.queries import LADDERS, build_ladder, canonical_key, ladder_table, ladder_version, worked_solution
from dartlib.queries.templates import LADDER_EXEMPLARS, STEPS_EXEMPLARS
from dartlib.records import Query, Verdict, check_unique

NAMES = list(LADDERS)


def _keys(queries: list[Query]) -> set[str]:
    return {canonical_key(query.query) for query in queries}


@pytest.mark.parametrize("ladder", NAMES)
def test_five_levels_from_easy_to_hard(ladder: str) -> None:
    rungs = LADDERS[ladder]
    rates = [rung.correct / rung.trials for rung in rungs]
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


@pytest.mark.parametrize("ladder", ["arithmetic", "steps"])
def test_same_queries_in_another_process(ladder: str) -> None:
    code = (
        "from dartlib.queries import build_ladder as b;"
        f"print([q.query_id for q in b(ladder={ladder!r}, split='train', queries_per_level=4, seed=9)])"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    here = build_ladder(ladder=ladder, split="train", queries_per_level=4, seed=9)
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


STEPS_SPLITS = {"train": 600, "development": 100, "test": 250}


@pytest.fixture(scope="module")
def steps() -> dict[str, list[Query]]:
    """The study's ladder in the sizes that the study needs, each split with a seed of its own."""
    return {
        split: build_ladder(ladder="steps", split=split, queries_per_level=count, seed=seed)
        for seed, (split, count) in enumerate(STEPS_SPLITS.items())
    }


def test_the_studys_ladder_has_enough_different_questions(steps: dict[str, list[Query]]) -> None:
    """Different by their keys: the same numbers in another order do not count."""
    for split, count in STEPS_SPLITS.items():
        for level in range(1, 6):
            assert len(_keys([query for query in steps[split] if query.level == level])) == count


def test_no_key_of_the_studys_ladder_is_in_two_splits_or_in_the_prompt(steps: dict[str, list[Query]]) -> None:
    every = [_keys(queries) for queries in steps.values()]
    exemplars = {canonical_key(question) for question, _ in STEPS_EXEMPLARS}
    assert len(set.union(*every)) == sum(map(len, every)) == 5 * 950
    assert not set.union(*every) & exemplars


def test_the_studys_levels_are_chains_of_two_to_six_terms(steps: dict[str, list[Query]]) -> None:
    for query in steps["train"] + steps["test"]:
        first, *rest = _terms(query.query)
        assert len(rest) == query.level
        assert 0 <= first < (120 if query.level == 1 else 10)
        assert all(abs(term) < 10 for term in rest)
        if query.level == 1:  # nothing carried or borrowed: all digits but the last stay
            assert (first + rest[0]) // 10 == first // 10
    signs = [sign for query in steps["train"] for sign in re.findall(r" ([+-]) ", query.query)]
    assert 0.48 < signs.count("+") / len(signs) < 0.55  # nothing is borrowed from small numbers: a little above half


def test_worked_solutions_take_one_right_step_at_a_time(steps: dict[str, list[Query]]) -> None:
    """Read step by step, by a reader that shares no code with the writer."""
    for query in steps["train"]:
        *sentences, last = re.split(r"(?<=\.) ", worked_solution(query.query))
        assert last == f"The answer is {query.reference_answer}."
        total, *rest = _terms(query.query)
        assert len(sentences) == len(rest)
        for sentence, term in zip(sentences, rest, strict=True):
            step = re.fullmatch(r"(-?\d+) ([+-]) (\d+) = (-?\d+)\.", sentence)
            assert step and int(step[1]) == total and int(step[2] + step[3]) == term
            total += term
            assert int(step[4]) == total
        assert str(total) == query.reference_answer


def _terms(question: str) -> list[int]:
    return [int(term) for term in re.findall(r"[+-]?\d+", question.replace(" ", ""))]


def test_a_worked_solution_by_hand() -> None:
    assert worked_solution("What is 2 - 7 + 4?") == "2 - 7 = -5. -5 + 4 = -1. The answer is -1."
    with pytest.raises(ValueError):
        worked_solution("What is the greatest common divisor of 12 and 8?")


def test_the_worked_solution_is_graded_right(steps: dict[str, list[Query]]) -> None:
    """The study's rows are what the grader would accept from a model, the answers below zero among them."""
    queries = [query for level in range(1, 6) for query in steps["train"][600 * level - 20 : 600 * level]]
    assert any(query.reference_answer.startswith("-") for query in queries)
    with GradingPool() as grader:
        graded = grader.grade_many([(query, worked_solution(query.query), "stop") for query in queries])
    assert {verdict for _, verdict, _ in graded} == {Verdict.CORRECT}


def test_only_the_studys_ladder_has_a_development_split() -> None:
    for ladder in NAMES:
        if ladder != "steps":
            with pytest.raises(ValueError, match="unknown split 'development': choose train or test"):
                build_ladder(ladder=ladder, split="development", queries_per_level=1, seed=0)


def test_the_other_ladders_ask_what_they_always_asked() -> None:
    """Fixed when the study's ladder came: the reference run's queries must not move."""
    versions = {"arithmetic": "102ddedf1409", "arithmetic-hard": "f592c6cbb739", "divisors": "7c8df216be19"}
    asked = [
        query.query_id
        for ladder in versions
        for split in ("train", "test")
        for query in build_ladder(ladder=ladder, split=split, queries_per_level=30, seed=3)
    ]
    assert {ladder: ladder_version(ladder) for ladder in versions} == versions
    assert hashlib.sha256("".join(asked).encode()).hexdigest()[:16] == "119ba42ba1a728da"

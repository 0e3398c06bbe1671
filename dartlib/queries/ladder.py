"""Ladders: procedural questions in five levels of measured difficulty, with exact answers and no licence.

A level is one row of the table below: a reasoning-gym generator and its configuration. Only generators whose
output depends on the seed alone are used (the calendar ones read today's date). The generator draws item i from
``seed + i``, so different seeds give nearly the same items; therefore each level is enumerated once, from one
seed, and split by a hash of what is asked. ``seed`` only chooses among the queries of a split.

The ladder ``steps`` carries the study. It is drawn here, because the study needs what no generator gives: at least
600, 100 and 250 different questions of every level for training, development and test, each with a worked solution.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from dartlib.files import text_digest
from dartlib.queries.templates import LADDER_EXEMPLARS
from dartlib.records import Query, make_queries
from dartlib.statistics import wilson_interval

if TYPE_CHECKING:
    import pandas as pd

REASONING_GYM_VERSION = "0.1.25"  # another version may draw other items
ITEMS_PER_LEVEL = 3000  # enumerated once, then de-duplicated
TRAIN_PERCENT = 60
DEVELOPMENT_PERCENT = {"steps": 12}  # the other ladders have no development split


@dataclass(frozen=True, slots=True)
class Level:
    """One step of a ladder and how its teacher did on it: ``correct`` of ``trials`` responses.

    Questions with an answer below ``smallest_answer`` are left out.
    """

    level: int
    generator: str
    config: Mapping[str, Any]
    correct: int
    trials: int
    smallest_answer: float = -inf


def _sums(terms: int, digits: int, operators: tuple[str, ...]) -> dict[str, Any]:
    """Plus and minus only, because the generator ignores precedence."""
    return {
        "min_terms": terms,
        "max_terms": terms,
        "min_digits": digits,
        "max_digits": digits,
        "operators": operators,
        "allow_parentheses": False,
    }


# Measured with SmolLM2-135M-Instruct (Q4_1), template ladder-fewshot, temperature 0.5, top-p 1, 64 new tokens:
# 40 train queries of a level, 15 trials each. `make bench NAME=ladder` measures them again.
_ARITHMETIC = (
    # Products with zero and negative differences are left out of the easy levels: the teacher hardly ever solves them.
    Level(1, "products", {"min_digits": 1, "max_digits": 1}, 531, 600, smallest_answer=1),
    Level(2, "basic_arithmetic", _sums(2, 1, ("+", "-")), 317, 600, smallest_answer=0),
    Level(3, "basic_arithmetic", _sums(2, 2, ("+",)), 204, 600),
    Level(4, "basic_arithmetic", _sums(3, 1, ("+", "-", "-")), 73, 600),
    Level(5, "products", {"min_digits": 2, "max_digits": 2}, 21, 600),
)
_LARGE_PRODUCTS = Level(5, "products", {"min_digits": 2, "max_digits": 3}, 3, 600)
LADDERS: dict[str, tuple[Level, ...]] = {
    "arithmetic": _ARITHMETIC,
    "arithmetic-hard": (*_ARITHMETIC[:4], _LARGE_PRODUCTS),
    "divisors": (
        Level(1, "lcm", {"min_value": 1, "max_value": 10}, 275, 600),
        Level(2, "gcd", {"min_value": 1, "max_value": 10}, 155, 600),
        Level(3, "gcd", {"min_value": 1, "max_value": 30}, 86, 600),
        Level(4, "lcm", {"min_value": 1, "max_value": 30}, 47, 600),
        Level(5, "gcd", {"min_value": 10, "max_value": 100}, 45, 600),
    ),
    # Measured with the study's teacher (papermill_runs/study/teacher.py), template ladder, temperature 0.7.
    "steps": tuple(
        Level(terms - 1, "chain", {"terms": terms, "draws": 8000}, correct, 640)
        for terms, correct in zip(range(2, 7), (538, 367, 274, 188, 95), strict=True)
    ),
}


def build_ladder(
    *, ladder: str, split: str, levels: Sequence[int] = (1, 2, 3, 4, 5), queries_per_level: int, seed: int
) -> list[Query]:
    """``queries_per_level`` queries of each level of a split, easiest level first.

    ``source`` is ``ladder-<name>`` and ``domain`` the generator. For one seed a smaller number gives a part of
    the larger one's queries. Raises ValueError for an unknown ladder, split or level, and when a level has
    fewer queries than asked for.
    """
    if ladder not in LADDERS:
        raise ValueError(f"unknown ladder {ladder!r}: choose one of {', '.join(LADDERS)}")
    development = DEVELOPMENT_PERCENT.get(ladder, 0)
    splits = ["train", *(["development"] if development else []), "test"]
    if split not in splits:
        raise ValueError(f"unknown split {split!r}: choose {' or '.join(splits)}")
    rungs = {rung.level: rung for rung in LADDERS[ladder]}
    if unknown := set(levels) - set(rungs):
        raise ValueError(f"ladder {ladder!r} has levels {sorted(rungs)}, not {sorted(unknown)}")
    rows = []
    for level in sorted(set(levels)):
        found = [item for item in _enumerate(ladder, level) if split_of(item.key, development) == split]
        if queries_per_level > len(found):
            raise ValueError(
                f"level {level} of ladder {ladder!r} has {len(found)} {split} queries, "
                f"{queries_per_level} were asked for: lower queries_per_level"
            )
        found.sort(key=lambda item: text_digest(f"{seed}:{item.question}"))
        rows += [_row(item, rungs[level]) for item in found[:queries_per_level]]
    return make_queries(rows, source=f"ladder-{ladder}", version=ladder_version(ladder))


def ladder_version(ladder: str) -> str:
    """12 hex digits that change when the generators, their configuration or their release change."""
    table = [[rung.level, rung.generator, dict(rung.config), rung.smallest_answer] for rung in LADDERS[ladder]]
    return text_digest(json.dumps([REASONING_GYM_VERSION, ITEMS_PER_LEVEL, table], sort_keys=True), 12)


def ladder_table() -> pd.DataFrame:
    """Measured pass rate of every level with its 95 % Wilson interval, and how many queries each split has."""
    import pandas as pd

    rows = []
    for name, rungs in LADDERS.items():
        for rung in rungs:
            low, high = wilson_interval(rung.correct, rung.trials)
            development = DEVELOPMENT_PERCENT.get(name, 0)
            splits = [split_of(item.key, development) for item in _enumerate(name, rung.level)]
            rows.append(
                {
                    "ladder": name,
                    "level": rung.level,
                    "generator": rung.generator,
                    "example": _enumerate(name, rung.level)[0].question,
                    "trials": rung.trials,
                    "pass_rate": rung.correct / rung.trials if rung.trials else float("nan"),
                    "low": low,
                    "high": high,
                    "train_queries": splits.count("train"),
                    "test_queries": splits.count("test"),
                }
            )
    return pd.DataFrame(rows)


def canonical_key(question: str) -> str:
    """What a ladder question asks, without wording, spacing or the order of what commutes.

    ``What is 3 + 4?`` and ``4+3`` share a key, so both fall into one split; they stay two queries, because a
    model's pass rate on them differs. Text without an expression is its own key, in lower case.
    """
    text = re.sub(r"^what is|[\s?]", "", question.strip().lower())
    if re.fullmatch(r"\d+(\*\d+)+", text):
        return "*".join(sorted(text.split("*")))
    if re.fullmatch(r"\d+(\.\d+)?([+-]\d+(\.\d+)?)+", text):
        return "".join(sorted(re.findall(r"[+-][\d.]+", "+" + text)))
    if match := re.fullmatch(r"(thegreatestcommondivisor|theleastcommonmultiple)of([\dand]+)", text):
        return f"{match.group(1)}:{','.join(sorted(match.group(2).split('and')))}"
    return text


def split_of(key: str, development_percent: int = 0) -> str:
    """The split of a canonical key: a fixed property of the key, never of a seed."""
    place = int(text_digest(key, 8), 16) % 100
    if place < TRAIN_PERCENT:
        return "train"
    return "development" if place < TRAIN_PERCENT + development_percent else "test"


def worked_solution(question: str) -> str:
    """The solution of a question of the ladder ``steps``, one sentence a step and the answer last.

    ``What is 2 - 7 + 4?`` gives ``2 - 7 = -5. -5 + 4 = -1. The answer is -1.``. Raises ValueError for a question that
    is no chain of sums and differences.
    """
    first, *rest = question.removeprefix("What is ").removesuffix("?").split(" ")
    total, steps = int(first), []
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        result = total + {"+": 1, "-": -1}[sign] * int(number)
        steps.append(f"{total} {sign} {number} = {result}.")
        total = result
    return " ".join([*steps, f"The answer is {total}."])


@dataclass(frozen=True, slots=True)
class _Item:
    question: str
    answer: str
    key: str


@cache
def _enumerate(ladder: str, level: int) -> tuple[_Item, ...]:
    """All distinct questions of a level but the worked examples of the prompt and what an easier level asks."""
    rung = next(rung for rung in LADDERS[ladder] if rung.level == level)
    taken = {canonical_key(question) for question, _ in LADDER_EXEMPLARS}
    taken.update(item.key for easier in range(1, level) for item in _enumerate(ladder, easier))
    found: dict[str, _Item] = {}
    for question, answer in _draw(rung):
        key = canonical_key(question)
        if key not in taken and float(answer) >= rung.smallest_answer:
            # a chain is asked in one order of its terms only: the study counts questions by their keys
            found.setdefault(key if rung.generator == "chain" else question, _Item(question, answer, key))
    return tuple(found.values())


def _draw(rung: Level) -> Iterator[tuple[str, str]]:
    """Questions of a level with their answers, as they come: always the same ones, repeats among them."""
    if rung.generator == "chain":
        yield from _chains(**rung.config)
        return
    import reasoning_gym

    ask = _QUESTIONS[rung.generator]
    for entry in reasoning_gym.create_dataset(rung.generator, seed=0, size=ITEMS_PER_LEVEL, **rung.config):
        yield ask(entry), entry["answer"]


def _chains(terms: int, draws: int) -> Iterator[tuple[str, str]]:
    """Sums and differences of ``terms`` one-digit numbers.

    Of two such numbers there are but 155. So there the first one may be anything below 120, and nothing is carried
    or borrowed: as easy, and a thousand of them.
    """
    random = Random(terms)
    for _ in range(draws):
        numbers = [random.randrange(120 if terms == 2 else 10), *(random.randrange(10) for _ in range(terms - 1))]
        signed = [number * random.choice((1, -1)) for number in numbers[1:]]
        if terms == 2 and not 0 <= numbers[0] % 10 + signed[0] <= 9:
            continue
        tail = "".join(f" {'-' if number < 0 else '+'} {abs(number)}" for number in signed)
        yield f"What is {numbers[0]}{tail}?", str(numbers[0] + sum(signed))


def _row(item: _Item, rung: Level) -> dict[str, Any]:
    return {
        "query": item.question,
        "reference_answer": item.answer,
        "level": rung.level,
        "domain": rung.generator,
        "metadata": json.dumps({"key": item.key}),
    }


def _expression(entry: Mapping[str, Any]) -> str:
    return f"What is {entry['metadata']['expression']}?"


def _numbers(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda entry: f"What is the {name} of {' and '.join(map(str, entry['metadata']['numbers']))}?"


# Our own short wording: the generators' sentences differ between levels, which would add a difficulty of its own.
_QUESTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "basic_arithmetic": _expression,
    "products": _expression,
    "gcd": _numbers("greatest common divisor"),
    "lcm": _numbers("least common multiple"),
}

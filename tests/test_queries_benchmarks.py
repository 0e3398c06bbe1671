"""Prompts of the benchmarks, worked examples, broken items."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from grading_in_process import grade_response

from dartlib.queries import (
    benchmark_names,
    benchmark_shots,
    benchmark_template,
    broken_items,
    choose_queries,
    find_overlaps,
    get_template,
    load_known_queries,
)
from dartlib.queries.benchmarks import _exemplars
from dartlib.records import Query, Verdict, make_queries

SETS = ("math-test", "gsm8k-test", "college-math-test", "theoremqa")


def query(source: str = "gsm8k-test", **about: object) -> Query:
    return Query("q", source, "What is 2 + 3?", "5", metadata=json.dumps(about))


def test_students_see_no_examples_and_base_models_the_papers_number() -> None:
    assert benchmark_template(query(), get_template("alpaca")) == get_template("alpaca")
    assert {name: benchmark_shots(name, get_template("qa")) for name in benchmark_names()} == {
        name: 5 if name == "theoremqa" else 4 for name in benchmark_names()
    }
    prompt = benchmark_template(query(), get_template("qa")).render("What is 2 + 3?")
    assert prompt.startswith("User:\nA bakery sells muffins") and prompt.count("User:\n") == 5
    assert prompt.endswith("The answer is 18.\n\nUser:\nWhat is 2 + 3?\n\nAssistant:\n")
    own = benchmark_template(query("mine"), get_template("qa")).render("x")
    assert own.startswith("User:\nIf $f(x)")  # a file of one's own gets the MATH examples


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"stated_type": "Numerical"}, "The answer of The problem should be a numerical value. Please"),
        ({"stated_type": "Expression", "several": True}, "each of them should be an expression. Please"),
        ({"stated_type": "Tuple"}, "competition. Please calculate"),
        ({"stated_type": "Numerical", "unit": "km"}, '\\boxed{answer}(unit)." and give the result explicitly, note'),
        ({"stated_type": "Interval", "several": True}, "\\boxed{multiple answers connected with commas}."),
    ],
)
def test_olympiad_questions_get_their_own_instruction(about: dict[str, object], said: str) -> None:
    prompt = benchmark_template(query("olympiadbench-math", **about), get_template("alpaca")).render("What is 2 + 3?")
    assert said in prompt and prompt.endswith("explicitly.\nWhat is 2 + 3?\n\n### Response:\n") != ("unit" in about)
    shots = benchmark_template(query("olympiadbench-math", **about), get_template("qa")).render("What is 2 + 3?")
    assert shots.count("The following is an open-ended problem") == 5 and "final answer is \\boxed{17}." in shots


def test_worked_examples_are_right_by_our_own_grader() -> None:
    for name in SETS:
        for example in _exemplars(name):
            for ending in (
                f"The answer is {example['answer']}.",
                f"So the final answer is \\boxed{{{example['answer']}}}.",
            ):
                _, verdict, _ = grade_response(
                    reference_answer=example["answer"].strip("$"),
                    answer_type="expression",
                    tolerance=None,
                    response=f"{example['work']} {ending}",
                    finish_reason="stop",
                )
                assert verdict is Verdict.CORRECT, example
            assert "\n" not in example["question"] + example["work"]


def test_worked_examples_are_no_test_items(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    benchmarks = {name: load_known_queries(name, log=lambda line: None) for name in benchmark_names()}
    questions = [example["question"] for name in SETS for example in _exemplars(name)]
    found = find_overlaps(questions, benchmarks, words=11)
    assert [(each.whole, each.part) for each in found] == [(0, 0)] * 6


def test_broken_items_are_items_and_say_why(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    known = {q.query_id for name in benchmark_names() for q in load_known_queries(name, log=lambda line: None)}
    assert len(broken_items()) == 66 and broken_items().keys() <= known
    reasons = list(broken_items().values())
    assert sum("picture" in reason for reason in reasons) == 53 and all(len(reason) > 20 for reason in reasons)


def test_a_part_is_drawn_by_seed_and_keeps_the_order() -> None:
    queries = make_queries(({"query": f"n {n}", "reference_answer": "1"} for n in range(50)), source="s", version="1")
    ten, twenty = choose_queries(queries, 10, seed=1), choose_queries(queries, 20, seed=1)
    assert len(ten) == 10 and set(ten) <= set(twenty) and ten == [q for q in queries if q in ten]
    assert choose_queries(queries, 10, seed=2) != ten and choose_queries(queries[::-1], 10, seed=1) == ten[::-1]
    assert choose_queries(queries, 0, seed=1) == queries == choose_queries(queries, 99, seed=1)


# First question of each benchmark as the embedded model's tokenizer reads it: number of token ids, and their digest.
PINNED: dict[str, tuple[int, str]] = {
    "math-test alpaca": (57, "a589e020541a"),
    "math-test qa": (444, "1e32c077fb98"),
    "gsm8k-test alpaca": (96, "566fb443b0b0"),
    "gsm8k-test qa": (485, "40aa6e5630c4"),
    "college-math-test alpaca": (45, "0ebf5a718018"),
    "college-math-test qa": (370, "a88593cd344c"),
    "deepmind-mathematics alpaca": (51, "19a0d2acf941"),
    "deepmind-mathematics qa": (438, "1fd91f3504f5"),
    "olympiadbench-math alpaca": (280, "5e598aef0e90"),
    "olympiadbench-math qa": (952, "d4f8841cc4a4"),
    "theoremqa alpaca": (52, "a6fc68f9f4d4"),
    "theoremqa qa": (478, "4648ac4f3cd8"),
}


@pytest.mark.model
@pytest.mark.parametrize("template", ["alpaca", "qa"])
@pytest.mark.parametrize("name", benchmark_names())
def test_prompts_are_pinned_to_the_token(
    name: str, template: str, test_data: Path, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setenv("DARTLIB_DATA_DIR", str(test_data / "benchmarks"))
    first = load_known_queries(name, log=lambda line: None)[0]
    prompt = benchmark_template(first, get_template(template)).render(first.query)
    tokens = AutoTokenizer.from_pretrained(embedded)(prompt)["input_ids"]
    found = (len(tokens), hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:12])
    assert found == PINNED[f"{name} {template}"]

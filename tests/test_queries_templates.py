"""Prompts to the letter: one changed character changes what the paper's models would answer."""

from __future__ import annotations

import pytest

from dartlib.queries import TEMPLATES, get_template, worked_solution
from dartlib.queries.templates import STEPS_EXEMPLARS


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        (
            "alpaca",
            "Below is an instruction that describes a task. Write a response that appropriately completes the "
            "request.\n\n### Instruction:\nWhat is {1}?\n\n### Response:\n",
        ),
        (
            "deepseekmath",
            "User: What is {1}?\nPlease reason step by step, and put your final answer within \\boxed{}.\n\nAssistant:",
        ),
        ("qa", "User:\nWhat is {1}?\n\nAssistant:\n"),
        ("ladder", "Question: What is {1}?\nAnswer:"),
    ],
)
def test_prompt_is_exact(name: str, prompt: str) -> None:
    assert get_template(name).render(" What is {1}?\n") == prompt


def test_few_shot_prompt_is_four_examples_and_the_students_prompt() -> None:
    prompt = get_template("ladder-fewshot").render("What is 1 + 1?")
    assert prompt.startswith(
        "Question: What is 6 + 7?\nAnswer: We add 6 and 7. 6 + 7 = 13. The answer is 13.\n\nQuestion: "
    )
    assert prompt.endswith("The answer is 17.\n\n" + get_template("ladder").render("What is 1 + 1?"))
    assert prompt.count("The answer is ") == 4
    assert prompt.count("\n\n") == 4


def test_the_prompt_with_steps_shows_solutions_as_the_ladder_constructs_them() -> None:
    prompt = get_template("steps-fewshot").render("What is 1 + 1?")
    shots = "".join(f"Question: {asked}\nAnswer: {worked_solution(asked)}\n\n" for asked, _ in STEPS_EXEMPLARS)
    assert prompt == shots + get_template("ladder").render("What is 1 + 1?")


def test_stop_strings() -> None:
    assert get_template("deepseekmath").stop == ("User:", "Assistant:")
    assert get_template("alpaca").stop == ("### Instruction:", "### Response:")
    assert get_template("ladder").stop == get_template("ladder-fewshot").stop == ("\n\n",)


def test_fingerprints_tell_templates_apart() -> None:
    assert len({template.fingerprint for template in TEMPLATES.values()}) == len(TEMPLATES) == 6


def test_unknown_template_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown prompt template 'llama': choose one of alpaca, deepseekmath, qa"):
        get_template("llama")

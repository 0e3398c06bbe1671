"""Where the final answer stands: explicit forms only, the one that ends last wins."""

from __future__ import annotations

import time

import pytest

from dartlib.grading import extract_answer

CASES = [
    ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
    ("\\fbox{7}", "7"),
    ("\\boxed{\\boxed{3}}", "3"),
    ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
    ("first \\boxed{1}, then \\boxed{2}", "2"),
    ("steps\n#### 1,234", "1,234"),
    ("2 + 2 = 4. The answer is 4.", "4"),
    ("The answer is 3.5. Checking: yes.", "3.5"),
    ("The answer is: $x^2$.", "x^2"),
    ("**The answer is 42**", "42"),
    ("The final **answer** is **42**.", "42"),
    ("**Final Answer:** 42", "42"),
    ("Final Answer: The final answer is $5$. I hope it is correct.", "5"),
    ("The answer is \\boxed{6} apples.", "6"),
    ("The answer is \\(\\frac12\\).", "\\frac12"),
    ("so she makes 26\nA: 26", "26"),
    ("Answer: (B)", "(B)"),
    # the form that ends last wins, whatever it is
    ("\\boxed{6}. On reflection, the answer is 5.", "5"),
    ("The answer is 5. Sorry: \\boxed{6}", "6"),
    ("#### 3\nThe answer is 4.", "4"),
    ("\\boxed{3}\nFinal answer: 4", "4"),
    # JSON, read from the raw text: valid, with LaTeX in single or doubled backslashes, cut off, invalid
    ('{"reasoning": "so \\\\boxed{1}", "answer": "42"}', "42"),
    ('```json\n{"reasoning": "a", "answer": "\\\\frac{1}{2}"}\n```', "\\frac{1}{2}"),
    ('{"answer": "\\frac{1}{2}"}', "\\frac{1}{2}"),
    ('{"answer": "x \\neq 2"}', "x \\neq 2"),
    ('{"answer": "12\\u03c0"}', "12π"),
    ('{"answer": 42}', "42"),
    ('{"answer": [1, 2]}', "[1, 2]"),
    ('{"reasoning": "cut", "answer": "42', "42"),
    ('{"reasoning": "a "quoted" word", "answer": "42",', "42"),
    ('so answer": "42"\n}', "42"),
    ('**answer**: "42"', "42"),
    ('The final answer is `"answer": "42"`.', "42"),
    ('{"answer": "42"}\n### now "answer": "___"', "42"),
    ('{"answer": "42"}\nPut it as in e.g. `"answer": "7"`.', "42"),
    # emphasis, next line, display
    ("### Final Answer\n**42**", "42"),
    ("Final Answer:\n\\[\n42\n\\]\nDone.", "42"),
    ("**Answer:** $x = 3$", "x = 3"),
    ("The answer is the interval $(0,1)$.", "(0,1)"),
    ("The answer is 5 because 2+3=5.", "5"),
    ("\\boxed 7", "7"),
    # words of a box stay
    ("\\boxed{x > 2 where x is real}", "x > 2 where x is real"),
    # more than one value, and every type
    ("The answer is 3, 5 and 7.", "3, 5 and 7"),
    ("The answer is True.", "True"),
    ("\\boxed{\\text{(B)}}", "\\text{(B)}"),
    ("The answer is 1:03 PM.", "1:03 PM"),
    ("A: 45%", "45%"),
    # a remark about the answer says nothing of what it is
    ("\\boxed{5}. We check that the answer is correct.", "5"),
    ("\\boxed{5}. So the answer is indeed reasonable.", "5"),
    ("\\boxed{5}. The answer is the same for all of them.", "5"),
    ("The answer is therefore 5.", "5"),
    ("The answers are 3 and 5.", "3 and 5"),
    ("\\boxed{5}. Both answers are positive.", "5"),
    ("The correct option is (C).", "(C)"),
    ("Is the answer is 5? Yes", "5"),
    ("A: 6 (since 2*3 = 6)", "6"),
    ("**Answer**\n42", "42"),
    ("# Answer\n\n\\frac{1}{2}", "\\frac{1}{2}"),
    ("A: 5<|endoftext|>", "5"),
    ("#### 5</s>", "5"),
    ('{"answer": 5, "unit": "cm"}', "5"),
    ('{"answer": 5,\n"unit": "cm"}', "5"),
    ('{"Answer": ["1", "2"], "unit": ""}', '["1", "2"]'),
]


@pytest.mark.parametrize(("response", "answer"), CASES)
def test_final_answer(response: str, answer: str) -> None:
    assert extract_answer(response) == answer


@pytest.mark.parametrize(
    "response",
    [
        "",
        "2 + 2 = 4",
        "I answered 5",
        "The answer is",
        "The answer is:\n",
        "\\boxed{}",
        "\\boxed{5",
        "so x = 5.",
        "####",
        '{"answer": ""}',
        '{"answer": "___"}',
        "the answer is not known",
    ],
)
def test_no_explicit_form_is_no_answer(response: str) -> None:
    assert extract_answer(response) is None


def test_a_form_quoted_from_the_question_is_no_answer() -> None:
    query = "Find x and write it as \\boxed{n} with an integer n."
    assert extract_answer("We must find x and write it as \\boxed{n}.", query=query) is None
    assert extract_answer("We must write it as \\boxed{n}. So \\boxed{5}", query=query) == "5"
    assert extract_answer("Write it as \\boxed{n}: \\boxed{5}; I had to write it as \\boxed{n}", query=query) == "5"


@pytest.mark.parametrize(
    "hostile",
    [
        "answer is " * 50_000,
        "\\boxed{" * 50_000,
        "\\boxed{" * 50_000 + "}" * 50_000,
        "\\boxed{a}" * 50_000,
        "#### " * 50_000,
        "*" * 500_000 + "A:",
        "The answer is " + "\\." * 250_000,
        "Final answer: " + "$" * 500_000,
        '"answer": "' * 50_000,
        'answer": ' * 50_000 + "}",
        "Final answer:\\n\\\\[" * 30_000,
    ],
)
def test_time_is_linear(hostile: str) -> None:
    start = time.process_time()
    extract_answer(hostile)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("response", "strict", "lenient"),
    [
        ("The least common multiple of 2 and 10 is 10.", None, "10"),
        ("so 1,234.5 in all", None, "1,234.5"),
        ("it is -7", None, "-7"),
        ("half, that is 1/2 of it", None, "1/2"),
        ("hence $x^2+1$ is what we want", None, "x^2+1"),
        ("with 3 apples we get \\(\\frac{1}{2}\\)", None, "\\frac{1}{2}"),
        ("the statement is therefore **false**", None, "False"),
        ("first 3, then 4. The answer is 5, I think of 6", "5, I think of 6", "5, I think of 6"),
        ("no number here", None, None),
        # what is denied is no answer, and a formula is taken whole
        ("The answer is not 5.", None, None),
        ("It isn't 7 but 8, so it is never 9", None, "8"),
        ("x = \\frac{2}{5}", None, "\\frac{2}{5}"),
        ("that gives 3\\sqrt{2} in all", None, "3\\sqrt{2}"),
        ("it is 2^{10} then", None, "2^{10}"),
        ("we get \\binom{5}{2}", None, "\\binom{5}{2}"),
        ("they meet at (2, 3)", None, "(2, 3)"),
        ("from 3 it goes to [0,7)", None, "[0,7)"),
    ],
)
def test_only_lenient_reading_takes_the_last_number(response: str, strict: str | None, lenient: str | None) -> None:
    assert extract_answer(response) == strict
    assert extract_answer(response, lenient=True) == lenient

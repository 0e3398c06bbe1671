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
    ],
)
def test_no_explicit_form_is_no_answer(response: str) -> None:
    assert extract_answer(response) is None


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
        ("first 3, then 4. The answer is 5, I think of 6", "5, I think of 6", "5, I think of 6"),
        ("no number here", None, None),
    ],
)
def test_only_lenient_reading_takes_the_last_number(response: str, strict: str | None, lenient: str | None) -> None:
    assert extract_answer(response) == strict
    assert extract_answer(response, lenient=True) == lenient

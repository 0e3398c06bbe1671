"""Which boxes of a text state its answer together, and which one does alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dartlib.boxes import final_boxes, reference_in


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("$x=\\boxed{4}$ or $x=\\boxed{9}$.", "x = 4, x = 9"),
        ("\\[\n\\boxed{(0,1)}, \\quad \\boxed{(2,5)}\n\\]", "(0,1), (2,5)"),
        ("$\\boxed{1}$, $\\boxed{2}$, and $\\boxed{3}$", "1, 2, 3"),
        ("Its width is \\boxed{3} and its height is \\boxed{8}.", "3, 8"),
        ("\\begin{align*} a &= \\boxed{2}, \\\\ a+b &= 3+4 = \\boxed{7} \\end{align*}", "a = 2, 7"),
        ("exactly \\boxed{\\sqrt{7}} \\approx \\boxed{2.646}", "\\sqrt{7} \\approx 2.646"),
        ("$\\boxed{\\pi/3}$, numerically $\\boxed{\\approx 1.047}$", "\\pi/3 \\approx 1.047"),
        ("\\boxed{5} and \\boxed{5}", "5"),
        # another thought, another sentence: the last one alone
        ("first \\boxed{6}, then \\boxed{12}", "12"),
        ("$p=\\boxed{2}$ and $q=\\boxed{3}$, so $p+q=\\boxed{5}$", "5"),
        ("\\boxed{6} and the sum is \\boxed{11}", "11"),
        ("We had \\boxed{6}. Corrected: \\boxed{7}", "7"),
        ("\\boxed{6}\n\n\\boxed{7}", "7"),
        ("\\boxed{\\boxed{3}}", "\\boxed{3}"),
        ("\\boxed 7", "7"),
    ],
)
def test_final_boxes(text: str, answer: str) -> None:
    found = final_boxes(text)
    assert found is not None and found.answer == answer


@pytest.mark.parametrize("text", ["", "no box", "\\boxed{}", "\\boxed{ }", "\\boxed{5"])
def test_no_box(text: str) -> None:
    assert final_boxes(text) is None and reference_in(text, "") == ("", 0)


def test_references_with_several_boxes() -> None:
    apart = "If $t=1$, then $s=\\boxed{-8}$.\n\nIf $t=-1$, then $s=\\boxed{8}$."
    assert reference_in(apart, "Find all values of $s$.") == ("-8, 8", 2)
    assert reference_in(apart, "What is $s$?") == ("8", 1)
    assert reference_in("We get \\boxed{6}. Alternatively, \\boxed{6.0}.", "Find all roots.") == ("6.0", 1)
    assert reference_in("The points are \\boxed{(1,0)} and \\boxed{(3,0)}. (Either is fine.)", "Name one.") == (
        "(3,0)",
        1,
    )
    assert reference_in("that is \\boxed{x+3} or \\boxed{3+x}", "Simplify.") == ("3+x", 1)
    assert reference_in("so it is $\\boxed{4}$ and $\\boxed{5}$", "Solve.") == ("4, 5", 2)


def test_eight_references_of_math_keep_all_their_roots(test_data: Path) -> None:
    rows = [json.loads(line) for line in (test_data / "benchmarks" / "math-test.jsonl").open(encoding="utf-8")]
    several = {415: 2, 2153: 3, 2550: 2, 2657: 2, 2704: 2, 4560: 2, 4563: 3, 4861: 2}  # counted from 1 -> answers
    found = {number: reference_in(row["solution"], row["problem"]) for number, row in enumerate(rows, start=1)}
    assert {number: count for number, (_, count) in found.items() if count > 1} == several
    assert found[2153][0] == "5 - 10i, 11, -3 + 6i" and found[4560][0] == "-1, 2"


@pytest.mark.parametrize("unit", ["\\boxed{1}, ", "\\boxed{1}\\x", "\\boxed{1} and x=", "\\boxed{"])
def test_time_is_linear(unit: str) -> None:
    """Eight times the text takes about eight times as long, on whatever machine; if it were quadratic, 64 times."""
    seconds = []
    for times in (5_000, 40_000):
        start = time.process_time()
        final_boxes(unit * times)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 30 * seconds[0] + 0.1

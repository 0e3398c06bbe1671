"""The notebooks as lessons: each has its parts, and what its solutions say is true."""

from __future__ import annotations

from pathlib import Path

import pytest
from lesson_cells import lint_lesson, run_solution

TESTS = Path(__file__).parent
LESSONS = ["00_start_here"]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_its_parts(name: str) -> None:
    assert lint_lesson(name, TESTS) == []


def test_00_exercise_1_trials_that_cover_a_question() -> None:
    needed = run_solution("00_start_here", 1).names["needed"]
    assert needed == {0.3: 9, 0.05: 59}
    for p, n in needed.items():
        assert (1 - p) ** n <= 0.05 < (1 - p) ** (n - 1)


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        ("rrrr" + "rrrr", (8, 8, 1)),  # never wrong: the quota was met at the first trial, all 8 were asked
        ("wwww" + "wwww" + "w" * 12, (0, 20, 10)),  # never right: the cap
        ("rwww" + "wwwr" + "wrrwrrrw", (7, 15, 7)),  # 2 of 8: 10 * 6 / 8 = 7.5, met at the 15th trial
    ],
)
def test_00_exercise_2_measures_and_goes_on(flips: str, expected: tuple[int, int, int]) -> None:
    coin = iter(flips)
    measure_and_ask = run_solution("00_start_here", 2, ask=lambda rate: "right" if next(coin) == "r" else "wrong")
    assert measure_and_ask.names["measure_and_ask"](0.5, cap=20) == expected


def test_00_exercise_3_trials_for_a_narrow_interval() -> None:
    trials = run_solution("00_start_here", 3).names["trials"]
    # half the width of Wilson's interval at 1/2 is z / (2 sqrt(n + z²)): below .05 from n = (z / .1)² - z² on
    assert trials == 382 and (1.959964 / 0.1) ** 2 - 1.959964**2 == pytest.approx(380.3, abs=0.1)

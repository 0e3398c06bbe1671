"""What makes a notebook a lesson: an opening, questions asked before their result, exercises whose solutions run.

A solution is hidden in a markdown cell and is run by a test of its own, `test_<two digits>_exercise_<N>_<what>` in
`tests/test_lessons*.py`, on data that the test gives it:

    <details><summary>Solution to exercise 1</summary>

    ```python
    answer = 2 * rate
    ```

    </details>

    def test_03_exercise_1_doubles() -> None:
        assert run_solution("03_training", 1, rate=0.5).names["answer"] == 1
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from dartlib.pipeline.notebooks import read_notebook, source_of
from dartlib.pipeline.stages import NOTEBOOKS

_DETAILS = re.compile(r"<details><summary>(?P<summary>[^<]*)</summary>\n\n(?P<body>.*?)\n\n</details>", re.DOTALL)
_EXERCISE = re.compile(r"^\*\*Exercise (\d+)", re.MULTILINE)


class Solved(NamedTuple):
    """What a solution left behind: its names, and what it printed."""

    names: Mapping[str, Any]
    said: str


def prose_of(name: str) -> str:
    """All markdown cells of a notebook, in order."""
    cells = read_notebook(NOTEBOOKS / f"{name}.ipynb")["cells"]
    return "\n\n".join(source_of(cell) for cell in cells if cell["cell_type"] == "markdown")


def solutions(name: str) -> dict[int, str]:
    """The Python code of every hidden solution, by the exercise's number."""
    found: dict[int, str] = {}
    for hidden in _DETAILS.finditer(prose_of(name)):
        number = re.fullmatch(r"Solution to exercise (\d+)", hidden["summary"])
        if number:
            found[int(number[1])] = "\n".join(re.findall(r"```python\n(.*?)```", hidden["body"], re.DOTALL))
    return found


def run_solution(name: str, number: int, **given: Any) -> Solved:
    """Run a solution as if in a cell: ``given`` are the notebook's names that it needs."""
    return _run(solutions(name)[number], f"{name}, exercise {number}", given)


def run_cell(name: str, holding: str, **given: Any) -> Solved:
    """Run the one code cell that holds a text, for example ``"def dart_loop"``."""
    cells = read_notebook(NOTEBOOKS / f"{name}.ipynb")["cells"]
    (source,) = (source_of(cell) for cell in cells if cell["cell_type"] == "code" and holding in source_of(cell))
    return _run(source, f"{name}, {holding}", given)


def _run(source: str, where: str, given: Mapping[str, Any]) -> Solved:
    names, said = dict(given), io.StringIO()
    with redirect_stdout(said):
        exec(compile(source, where, "exec"), names)  # noqa: S102 - committed code
    return Solved(names, said.getvalue())


def lint_opening(name: str) -> list[str]:
    """What the first cell of a lesson lacks: three aims, the time it takes, links to its neighbours."""
    opening = source_of(read_notebook(NOTEBOOKS / f"{name}.ipynb")["cells"][0])
    problems = [
        f"no **{word}**"
        for word in ("Aims", "Time", "Before / Next")
        if not re.search(rf"^\*\*{word}\*\* ", opening, re.M)
    ]
    aims = re.search(r"^\*\*Aims\*\*.*\n\n?((?:- .*\n)+)", opening, re.MULTILINE)
    if not aims or len(aims[1].splitlines()) != 3:
        problems.append("not three aims")
    if not re.search(r"^\*\*Time\*\*.*\bminutes?\b", opening, re.MULTILINE):
        problems.append("its time is not in minutes")
    links = re.findall(r"\]\(([^)]+\.ipynb)\)", opening)
    return problems + [f"{link}: no such notebook" for link in links if not (NOTEBOOKS / link).is_file()]


def lint_lesson(name: str, tests: Path) -> list[str]:
    """What a lesson lacks: its opening, predictions with answers, exercises with tested solutions, what to remember."""
    text, problems = prose_of(name), lint_opening(name)
    hidden = [found["summary"] for found in _DETAILS.finditer(text)]
    if len(hidden) != text.count("<details>"):
        problems.append("a <details> block is not closed, or lacks a blank line around its text")
    asked, answered = len(re.findall(r"^\*\*Predict first", text, re.MULTILINE)), hidden.count("Answer")
    if not 2 <= asked <= 4 or asked != answered:
        problems.append(f"{asked} predictions, {answered} answers")
    exercises, solved = [int(number) for number in _EXERCISE.findall(text)], solutions(name)
    if exercises != list(range(1, len(exercises) + 1)) or not 2 <= len(exercises) <= 3 or set(exercises) != set(solved):
        problems.append(f"exercises {exercises}, solutions to {sorted(solved)}")
    tested = "".join(path.read_text(encoding="utf-8") for path in sorted(tests.glob("test_lessons*.py")))
    for number in solved:
        if f"def test_{name[:2]}_exercise_{number}_" not in tested:
            problems.append(f"no test runs the solution to exercise {number}")
    remember = re.search(r"^## .*What to remember\n\n((?:- .*\n?)+)", text, re.MULTILINE)
    if not remember or not 3 <= len(remember[1].splitlines()) <= 5:
        problems.append("no 'What to remember' of 3 to 5 points")
    return problems

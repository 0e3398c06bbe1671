"""The notebooks as lessons: each has its parts, and what its solutions say is true."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lesson_cells import lint_lesson, lint_opening, prose_of, run_cell, run_solution

from dartlib import analysis
from dartlib.files import RUNS
from dartlib.pipeline.notebooks import read_notebook, source_of
from dartlib.pipeline.stages import NOTEBOOKS
from dartlib.synthesis import triage

TESTS = Path(__file__).parent
LESSONS = ["00_start_here", "01_bias_analysis", "02_synthesis"]
REFERENCE = RUNS / "reference" / "02_synthesis"


def test_01_is_a_lesson_of_fifteen_cells_with_its_tool_behind_it() -> None:
    cells = [source_of(cell) for cell in read_notebook(NOTEBOOKS / "01_bias_analysis.ipynb")["cells"]]
    (tool,) = (place for place, source in enumerate(cells) if source.startswith("# A tool for your own sets"))
    assert tool <= 15 and "What to remember" in cells[tool - 1]
    assert not any("DATASETS" in source or "if sets" in source for source in cells[2:tool])


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_its_parts(name: str) -> None:
    assert lint_lesson(name, TESTS) == []


def test_the_lab_opens_like_a_lesson() -> None:
    assert lint_opening("06_planning_lab") == []


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


def test_01_exercise_1_shares_do_not_depend_on_the_trials() -> None:
    shares = run_solution("01_bias_analysis", 1).names["shares"]
    assert [round(100 * share, 1) for share in shares[4]] == [45.7, 30.5, 15.2, 6.1, 2.5]
    assert shares[400] == pytest.approx(shares[4])


def test_01_exercise_2_a_mean_promises_too_much() -> None:
    names = run_solution("01_bias_analysis", 2).names
    assert names["true"] == (1 - 1 / 256) / 2 and names["promised"] == 1 - 0.75**8


def test_01_exercise_3_the_best_served_tenth() -> None:
    counts = [*[1] * 18, 5, 9]  # two of twenty have 14 of 32
    frame = pd.DataFrame({"strategy": ["vrt"] * 20 + ["uniform"], "n_correct": [*counts, 99]})
    assert run_solution("01_bias_analysis", 3, outcomes=frame).names["share"] == 14 / 32


def test_01_says_what_its_gini_coefficients_mean() -> None:
    """Against all pairs: of 0, 0, 0, 8 two picked at random (with replacement) are 3 apart on average, 6 of 16 by 8."""
    counts = {"vrt": [8, 0, 0, 0], "uniform": [2, 2, 2, 2], "prop2diff": [1, 3, 0, 6]}
    rows = [(name, each, 1) for name, own in counts.items() for each in own]
    frame = pd.DataFrame(rows, columns=["strategy", "n_correct", "level"])
    frame = frame.assign(query_id=list("abcd") * 3, quota=math.nan, status="drawn", fail_rate=0.5)
    given = {"analysis": analysis, "outcomes": frame, "HTML": str, "display": lambda table: None}
    said = run_cell("01_bias_analysis", "def summarise", **given).said.splitlines()
    told = {line.split(":")[0]: line for line in said}
    for name, own in counts.items():
        apart = np.abs(np.subtract.outer(own, own)).mean()
        assert f"are {apart:.1f} responses apart on average, the mean being {np.mean(own):.1f};" in told[name]
    assert [told[name].rpartition(" has ")[2][:3] for name in counts] == ["0% ", "50%", "10%"]


def test_01_counts_the_unsolved_over_both_kinds_of_trials() -> None:
    """Solved at trial 1, at trial 3 (after the two difficulty trials), never."""
    verdicts = {"a": ["wrong", "correct"], "b": ["wrong", "wrong", "wrong", "correct"], "c": ["wrong"] * 5}
    rows = [(name, place, verdict) for name, own in verdicts.items() for place, verdict in enumerate(own)]
    samples = pd.DataFrame(rows, columns=["query_id", "trial", "verdict"])
    outcomes = pd.DataFrame({"query_id": list("abc"), "n_difficulty": 2})
    figures = type("Figures", (), {"coverage_by_level_figure": lambda *_: None})
    given = {"analysis": figures, "outcomes": outcomes, "samples": samples, "levels": None, "n_queries": 3}
    said = run_cell("01_bias_analysis", "solved_at =", publish=lambda *_: None, **given).said
    assert said.startswith("2 of 3 queries are unsolved in their 2 difficulty trials,\n1 of 3 in all their trials")
    assert "up to 5 (" in said


@pytest.mark.parametrize(("name", "sizes"), [("ladder-arithmetic", [43, 100, 100, 100, 100]), ("own.jsonl", [1])])
def test_01_asks_what_a_ladder_has(name: str, sizes: list[int], tmp_path: Path) -> None:
    """Level 1 of the arithmetic ladder has 43 training questions: 100 a level cannot be had."""
    (tmp_path / "own.jsonl").write_text('{"query": "What is 1 + 1?", "reference_answer": "2"}')
    asked = [name if name.startswith("ladder") else str(tmp_path / name)]
    ran = run_cell("01_bias_analysis", "rungs =", QUERIES=asked, pd=pd, partial=partial)
    assert [len(list(group)) for _, group in groupby(ran.names["asked"], key=lambda query: query.level)] == sizes
    assert (str(sizes) in ran.said) == name.startswith("ladder")


def test_01_quotes_the_pilot_as_it_came_out() -> None:
    text, pilot = prose_of("01_bias_analysis"), (RUNS / "study" / "PILOT.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (levels 3 to 5 \(the rule\)|level 1) \| (.*) \|$", pilot, re.MULTILINE)
    assert rows[:2] == [("levels 3 to 5 (the rule)", "+21.2 | +16.4 to +25.9"), ("level 1", "-22.0 | -33.9 to -10.1")]
    assert "**+21.2 points** better (95 % interval 16.4 to 25.9)" in text and "2.8 of the 21.2 points" in pilot
    assert "**22.0 points worse** (10.1 to 33.9)" in text and "only 2.8 of these points" in text


def exact_cost() -> Callable[..., dict[str, float]]:
    found: Callable[..., dict[str, float]] = run_cell(
        "02_synthesis", "def exact_cost", np=np, pd=pd, HTML=str, analysis=analysis
    ).names["exact_cost"]
    return found


@pytest.mark.parametrize(("p", "quota", "cap"), [(0.3, 3, 12), (0.02, 40, 2048), (1.0, 4, 9), (0.5, 20, 10)])
def test_02_costs_under_a_cap_are_those_of_the_plain_recursion(p: float, quota: int, cap: int) -> None:
    """One trial after the other: chances of 0, 1 … correct responses while the query is still asked."""
    asking, trials, correct = np.zeros(quota), 0.0, 0.0
    asking[0] = 1
    for _ in range(cap):
        trials += asking.sum()
        correct += p * asking.sum()
        asking = (1 - p) * asking + p * np.concatenate([[0], asking[:-1]])
    cost = exact_cost()(p, quota, cap)
    assert [cost["mean"], cost["correct"], cost["met"]] == pytest.approx([trials, correct, 1 - asking.sum()])


def test_02_difficulty_trials_are_asked_whatever_they_give() -> None:
    """p = 1/2, quota 1, cap 4: 1, 2, 3 or 4 trials in 1/2, 1/4, 1/8, 1/8 of cases; with two asked first 2, 2, 3, 4."""
    cost = exact_cost()
    assert cost(0.5, 1, 4)["asked"] == cost(0.5, 1, 4)["mean"] == 1.875
    assert cost(0.5, 1, 4, 2)["asked"] == pytest.approx(2.375) and cost(0.5, 1, 4, 2)["mean"] == 1.875
    assert cost(1.0, 1, 4, 4)["asked"] == 4


def yardstick() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The constructed case of notebook 02: its rows, and what triage and the rule of two witnesses made of them."""
    given = {"pd": pd, "HTML": lambda table: table, "analysis": analysis, "triage": triage}
    made = run_cell("02_synthesis", "constructed =", **given).names
    found = run_cell("02_synthesis", "found.append(triage(", **made).names
    return made, run_cell("02_synthesis", "agreed =", **found).names


def test_02_yardstick_flags_the_wrong_reference_and_no_hard_question() -> None:
    made, found = yardstick()
    truth = {question: str(int(eval(question))) for question, *_ in made["rows"]}  # noqa: S307 - committed sums
    assert [row[2] for row in made["rows"]] == list(truth.values())
    assert {row[0] for row in made["rows"] if row[1] != row[2]} == {"17 + 25", "13 * 7"}
    for _, reference, _, *answers in made["rows"]:
        assert all(len(each.split()) == 8 and reference not in each.split() for each in answers)
    suspected = found["found"][found["found"].suspicion == "reference"]
    named = suspected.groupby("witness").apply(lambda part: dict(zip(part["query"], part.top_share * 8, strict=True)))
    assert named.to_dict() == {  # counted by hand
        "A .5": {"17 + 25": 6, "12 * 8 - 9": 5, "7 * 14 - 3": 5, "8 - 5 - 2": 7},
        "A 1": {"17 + 25": 4, "8 - 5 - 2": 5},
        "B": {"17 + 25": 8, "7 * 14 - 3": 6, "8 - 5 - 2": 8},
    }
    assert set(found["found"].suspicion) == {"reference", "hard"}
    # found: 17 + 25; two false alarms of one witness gone; not knowable: an idea that all share, and 13 * 7
    assert found["agreed"] == {"17 + 25": "42", "8 - 5 - 2": "5"} and truth["17 + 25"] == "42"
    judged = found["judged"].set_index("question")
    assert list(judged.index[judged["A .5 alone"] == "doubted"]) == ["17 + 25", "12 * 8 - 9", "7 * 14 - 3", "8 - 5 - 2"]
    assert "casts doubt on four references, and is right once" in prose_of("02_synthesis")


def test_02_answers_are_computed() -> None:
    cost = exact_cost()(0.02, 40, 2048)
    said = (
        f"{cost['mean']:,.0f}, for the long runs",
        f"at most {cost['low']:,.0f} trials",
        f"{cost['correct']:.1f} correct",
    )
    assert all(text in prose_of("02_synthesis") for text in said) and round(100 * cost["met"]) == 58
    assert round(100 * (1 - 0.02) ** 16) == 72 and round(100 * (1 - 0.1) ** 16) == 19


def test_02_loop_of_fifteen_lines_gives_what_a_real_run_recorded() -> None:
    """The committed reference run, made by vLLM and the scheduler: every quota, trial count and response count."""
    outcomes, samples = (analysis.read_outcomes(REFERENCE / "outcomes.parquet"), REFERENCE / "samples.parquet")
    settings = {"n_d": int(outcomes["n_difficulty"].max()), "cap": int(outcomes["cap"].max())}
    dart_loop = run_cell("02_synthesis", "def dart_loop", DIFFICULTY_TRIALS=settings["n_d"]).names["dart_loop"]
    trials = analysis.read_samples(samples).sort_values("trial")
    recorded = (trials["verdict"] == "correct").groupby(trials["query_id"]).apply(list)
    top = {"uniform": 4, "prop2diff": 6}
    ended = outcomes[outcomes["strategy"].isin(list(top))]
    assert len(ended) == 100 and set(ended["status"]) == {"met", "cap"}
    for row in ended.to_dict("records"):
        rule = top[row["strategy"]], 0 if row["strategy"] == "uniform" else 1
        by_hand = dart_loop(iter(recorded[row["query_id"]]).__next__, *rule, settings["cap"])
        assert by_hand == (row["quota"], row["n_trials"], row["n_correct"])


def test_02_exercise_1_average_scatter_and_cap() -> None:
    solved = run_solution("02_synthesis", 1, exact_cost=exact_cost())
    assert (solved.names["mean"], solved.names["scatter"]) == (80, pytest.approx(math.sqrt(7.2) / 0.1))
    assert solved.said == "80 ± 27 trials; with the cap 74.9, quota met in 76%\n"


def test_02_exercise_2_a_cap_that_is_met() -> None:
    cap: Any = run_solution("02_synthesis", 2).names["cap"]
    assert cap == 2541
    assert exact_cost()(0.02, 40, cap)["met"] >= 0.95 > exact_cost()(0.02, 40, cap - 1)["met"]


def test_02_exercise_3_a_lower_cap_is_a_prefix() -> None:
    """Against the table behind the paper's figure 4: the achieving ratio had the cap been lower."""
    outcomes = analysis.read_outcomes(REFERENCE / "outcomes.parquet")
    trials = analysis.read_samples(REFERENCE / "samples.parquet")
    given = {"trials": trials, "TRIAL_CAP": 32, "UNIFORM_QUOTA": 4}
    met = run_solution("02_synthesis", 3, **given).names["met"]
    table = analysis.achieving_table(outcomes[outcomes["strategy"] == "uniform"], trials).set_index("cap")
    assert 0 < met == round(table.loc[16, "achieving_ratio"] * table.loc[16, "queries"])

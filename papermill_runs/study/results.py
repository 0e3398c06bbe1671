"""The declared comparisons of the main run, from the committed items alone: tables, JSON and figures.

An arm that is not complete is not looked at, as PLAN.md demands, unless the run is said to have ended early.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dartlib.analysis import accuracy_by_level_figure, publish, read_outcomes, responses_by_level_figure
from dartlib.files import write_text_atomically
from dartlib.statistics import MIN_SEEDS, compare_over_seeds, holm

HOME, LEVELS, HARD = "ladder-steps", (1, 2, 3, 4, 5), (3, 4, 5)
OUTSIDE = "out of domain"
Items = str | tuple[int, ...]  # levels of the ladder, or OUTSIDE
PRIMARY: tuple[str, str, Items] = ("vrt", "prop2diff", HARD)
SECONDARY: tuple[tuple[str, str, Items], ...] = (
    ("vrt-tokens", "prop2diff", HARD),
    *(("vrt", "prop2diff", (level,)) for level in LEVELS),
    ("vrt", "prop2diff", LEVELS),
    ("vrt", "prop2diff", OUTSIDE),
    ("vrt", "uniform", HARD),
    ("uniform", "prop2diff", HARD),
    ("vrt", "uniform", LEVELS),
)
# Declared as a picture (the paper's figure 3 in small), not as a test.
SHOWN = tuple((f"{first}-800", f"{second}-800", HARD) for first, second in (("vrt", "prop2diff"), ("vrt", "uniform")))


class Student(NamedTuple):
    replicate: int
    metrics: Mapping[str, Any]
    items: pd.DataFrame


Arms = Mapping[str, list[Student]]


def analyse(folder: Path, replicates: Mapping[str, int], *, ended: bool = False) -> dict[str, Any]:
    """Write ``RESULT.md``, ``result.json`` and ``figures/`` into the folder of the main run, and print the first."""
    arms = read_arms(folder, replicates, ended=ended)
    primary, *secondary = (compared(arms, replicates, *pair) for pair in (PRIMARY, *SECONDARY))
    tested = [row for row in secondary if "p_value" in row]
    for row, p_value in zip(tested, holm([row["p_value"] for row in tested]), strict=True):
        row["p_holm"] = p_value
    found = {
        "ended_early": ended,
        "primary": primary,
        "secondary": secondary,
        "shown": [compared(arms, replicates, *pair) for pair in SHOWN],
        "arms": [arm_row(arm, students) for arm, students in arms.items() if students],
    }
    write_text_atomically(folder / "result.json", json.dumps(found, indent=1) + "\n")
    text = result_page(found, folder)
    write_text_atomically(folder / "RESULT.md", text)
    draw(folder, arms)
    print(text)
    return found


def read_arms(folder: Path, replicates: Mapping[str, int], *, ended: bool) -> dict[str, list[Student]]:
    """The students of each complete arm (ended: of each arm) by replicate; and the base under its name."""
    arms: dict[str, list[Student]] = {}
    for arm, wanted in {**replicates, "base": 1}.items():
        places = [folder / f"{arm}-{number}" for number in range(1, wanted + 1)]
        made = [place for place in places if (place / "metrics.json").exists()]
        complete = ended or len(made) == wanted
        arms[arm] = [read_student(place) for place in made] if complete else []
        if not complete:
            print(f"{arm}: {len(made)} of {wanted} students, so none is looked at")
    return arms


def read_student(place: Path) -> Student:
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    items = pd.read_parquet(place / "items.parquet").sort_values("query_id", ignore_index=True)
    return Student(int(place.name.rpartition("-")[2]), metrics, items)


def scores(student: Student, chosen: Items) -> npt.NDArray[np.float64]:
    """The student's 0/1 on the chosen items, weighted so that each level counts the same in the mean."""
    items = student.items
    home = items.source == HOME
    part = items[~home] if isinstance(chosen, str) else items[home & items.level.isin(chosen)]
    right = (part.verdict == "correct").to_numpy(dtype=float)
    if isinstance(chosen, str):
        return right
    sizes = part.groupby("level").query_id.transform("size").to_numpy(dtype=float)
    weighted: npt.NDArray[np.float64] = right * len(part) / (len(chosen) * sizes)
    return weighted


def compared(arms: Arms, planned: Mapping[str, int], first: str, second: str, chosen: Items) -> dict[str, Any]:
    """Second minus first in points, with interval and test over students and items, as far as they are to be had.

    Of arms that were to have equally many students only the replicates count that both have (the run may end early).
    """
    name = chosen if isinstance(chosen, str) else f"level{'s' if len(chosen) > 1 else ''} {_span(chosen)}"
    row: dict[str, Any] = {"comparison": f"{second} - {first}", "items": name}
    both = [arms.get(arm, []) for arm in (first, second)]
    if planned.get(first) == planned.get(second):
        common = set.intersection(*({student.replicate for student in arm} for arm in both))
        both = [[student for student in arm if student.replicate in common] for arm in both]
    pair = [[scores(student, chosen) for student in arm] for arm in both]
    row["students"] = [len(arm) for arm in pair]
    if not all(pair):
        return row
    row["difference"] = 100 * float(np.mean(pair[1]) - np.mean(pair[0]))
    if min(row["students"]) >= MIN_SEEDS:
        result = compare_over_seeds(np.array(pair[0]), np.array(pair[1]))
        row |= {"low": 100 * result.low, "high": 100 * result.high, "p_value": result.p_value}
    return row


def _span(levels: tuple[int, ...]) -> str:
    return str(levels[0]) if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"


def arm_row(arm: str, students: list[Student]) -> dict[str, Any]:
    """Means over an arm's students, shares in 0 to 1; what was trained on where there is training."""
    groups: dict[str, Items] = {str(level): (level,) for level in LEVELS} | {"hard": HARD, OUTSIDE: OUTSIDE}
    row: dict[str, Any] = {"arm": arm, "students": len(students)}
    row |= {name: float(np.mean([scores(student, chosen) for student in students])) for name, chosen in groups.items()}
    row["each"] = [float(scores(student, HARD).mean()) for student in students]
    row["unusable"] = [student.replicate for student in students if student.metrics["unusable"]]
    facts = [student.metrics for student in students if student.metrics["tokens"]]
    row["hours"] = sum(s.metrics["training_seconds"] + s.metrics["evaluation_seconds"] for s in students) / 3600
    row["machines"] = sorted({student.metrics["machine"] for student in students})
    if facts:
        levels = np.array([[each["rows_by_level"][str(level)] for level in LEVELS] for each in facts])
        row |= {"rows": float(levels.sum(axis=1).mean()), "shares": (levels.sum(axis=0) / levels.sum()).tolist()}
        for name in ("tokens", "repeats_passed_over"):
            row[name] = float(np.mean([each[name] for each in facts]))
    return row


def result_page(found: Mapping[str, Any], folder: Path) -> str:
    """``RESULT.md``: everything that PLAN.md promises to report."""
    lines = ["# The main run of the study: what came out", "", "Made by `main.py analyse` from the files beside it."]
    if found["ended_early"]:
        lines.append("The run was ended early: the students that are there count, their number is part of the result.")
    for title, rows in (
        ("Primary", [found["primary"]]),
        ("Secondary, p corrected by Holm's method", found["secondary"]),
        ("At 800 rows, not tested", found["shown"]),
    ):
        lines += ["", f"## {title}", "", "| comparison | items | students | points | 95 % | p |"]
        lines += ["| --- | --- | --- | ---: | --- | ---: |", *map(_comparison_line, rows)]
    lines += ["", "## Arms", "", "Shares right; the base is asked with worked examples, students without.", ""]
    lines += ["| arm | students | level 1 | 2 | 3 | 4 | 5 | levels 3 to 5 | out of domain | each student |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in found["arms"]:
        shares = " | ".join(f"{row[name]:.3f}" for name in (*map(str, LEVELS), "hard", OUTSIDE))
        each = " ".join(f"{share:.3f}" for share in row["each"])
        marked = f" (unusable: {row['unusable']})" if row["unusable"] else ""
        lines.append(f"| {row['arm']} | {row['students']} | {shares} | {each}{marked} |")
    lines += ["", "| arm | rows | repeats passed over | tokens | shares of levels 1 to 5 | hours |"]
    lines += ["| --- | ---: | ---: | ---: | --- | ---: |"]
    for row in (row for row in found["arms"] if "rows" in row):
        shares = " ".join(f"{share:.2f}" for share in row["shares"])
        numbers = f"{row['rows']:.0f} | {row['repeats_passed_over']:.0f} | {row['tokens']:,.0f}"
        lines.append(f"| {row['arm']} | {numbers} | {shares} | {row['hours']:.2f} |")
    if (folder / "pool.json").exists():
        pool = json.loads((folder / "pool.json").read_text(encoding="utf-8"))
        told = ", ".join(f"{name} {count:,}" for name, count in pool["rows"].items())
        lines += ["", f"Pool: {pool['trials']:,} trials; rows: {told}. Pool's machine: {pool['machine']}."]
    machines = sorted({machine for row in found["arms"] for machine in row["machines"]})
    return "\n".join([*lines, "", f"Students' machines: {'; '.join(machines)}."]) + "\n"


def _comparison_line(row: Mapping[str, Any]) -> str:
    students = " and ".join(str(count) for count in reversed(row["students"]))
    points = f"{row['difference']:+.1f}" if "difference" in row else "not looked at"
    interval = f"{row['low']:+.1f} to {row['high']:+.1f}" if "low" in row else "too few students"
    p_value = row.get("p_holm", row.get("p_value"))
    shown = "" if p_value is None else f"{p_value:.4f}" if p_value >= 0.0001 else "< 0.0001"
    return f"| {row['comparison']} | {row['items']} | {students} | {points} | {interval} | {shown} |"


def draw(folder: Path, arms: Arms) -> None:
    """The flagship (what each strategy collects, by level) and the arms by level."""
    figures = {"folder": folder / "figures", "notebook": "papermill_runs/study/main.py"}
    outcomes = folder / "outcomes.parquet"
    with contextlib.redirect_stdout(io.StringIO()):  # a notebook would show them
        if outcomes.exists():
            table = read_outcomes(outcomes)
            queries = table["query_id"].nunique()
            caption = f"Correct responses per query by level and strategy; run: study, one pool of {queries:,} queries"
            name = "study_responses_by_level"
            publish(responses_by_level_figure(table), name, caption, inputs=[outcomes], queries=queries, **figures)
        shown = {arm: arms[arm] for arm in ("vrt", "uniform", "prop2diff") if arms.get(arm)}
        if shown:
            parts = [
                student.items.assign(model=arm, trial=student.replicate)
                for arm, students in shown.items()
                for student in students
            ]
            items = pd.concat(parts, ignore_index=True)
            counts = ", ".join(f"{len(students)} of {arm}" for arm, students in shown.items())
            caption = (
                f"Accuracy by level at equal rows; run: study; means over students ({counts}), intervals over items"
            )
            files = [folder / f"{arm}-{each.replicate}" / "items.parquet" for arm in shown for each in shown[arm]]
            figure = accuracy_by_level_figure(items, HOME, "Accuracy of students")
            publish(figure, "study_accuracy_by_level", caption, inputs=files, **figures)

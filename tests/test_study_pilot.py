"""The study's pilot: its formulas against made-up tables, and its published numbers from the committed answers."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

STUDY = Path(__file__).resolve().parents[1] / "papermill_runs" / "study"


@pytest.fixture(scope="module")
def pilot() -> ModuleType:
    spec = importlib.util.spec_from_file_location("study_pilot", STUDY / "pilot.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_standard_error_by_hand(pilot: ModuleType) -> None:
    """R 0.0004 and 0.0012, D 0.06, E1 + E2 0.24; five students an arm, 300 items."""
    error, freedom = pilot.standard_error(pilot.Variances((0.0004, 0.0012), 0.06, 0.24), 5, 300)
    assert error**2 == pytest.approx(0.0016 / 5 + 0.06 / 300 + 0.24 / 1500)
    students = (0.00008 + 0.00008) ** 2 / 4 + (0.00024 + 0.00008) ** 2 / 4
    others = (0.0002 + 0.00016) ** 2 / 299 + 0.00016**2 / (8 * 299)
    assert freedom == pytest.approx(0.00068**2 / (students + others))


def test_residual_of_a_table_by_hand(pilot: ModuleType) -> None:
    """Means of students 1/2 and 1, of items 1/2 and 1: the residuals are -1/4, 1/4, 1/4, -1/4."""
    assert pilot.residual_variance(np.array([[0.0, 1.0], [1.0, 1.0]])) == pytest.approx(4 / 16)


def test_interval_covers_and_detectable_difference_is_found(pilot: ModuleType) -> None:
    """Simulated with known variances: coverage of the 95 % interval, power at the detectable difference."""
    draw = np.random.default_rng(0)
    truth = pilot.Variances((0.0004, 0.0004), 0.09, 0.18)
    seeds, items = 10, 200
    shift = pilot.detectable(truth, seeds, items)
    covered = found = 0
    for _ in range(400):
        common = draw.normal(0, 0.3, items)
        arms = [
            effect
            + common
            + draw.normal(0, (0.09 / 2) ** 0.5, items)
            + draw.normal(0, 0.02, (seeds, 1))
            + draw.normal(0, 0.3, (seeds, items))
            for effect in (0.3, 0.3 + shift)
        ]
        low, high = pilot.compare(*arms).interval()
        covered += low <= shift <= high
        found += low > 0
    assert 0.92 < covered / 400 < 0.98
    assert 0.74 < found / 400 < 0.86


def test_the_published_numbers_are_what_the_command_makes_of_the_committed_answers(
    pilot: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pilot.py table`, line by line, against PILOT.md: arms, differences, variances, what is detectable, verdict."""
    page = (STUDY / "PILOT.md").read_text()
    pilot.table()
    printed = capsys.readouterr().out
    arms = [
        line.replace("0.", ".").replace(", ", " ") for line in printed.splitlines() if re.match(r"\| \S+ \| 4 ", line)
    ]
    assert len(arms) == 3 and all(line in page for line in arms)
    told = re.findall(
        r"^\| level\S* ([\d to]+)(?: \(the rule\))? \| ([+\d.-]+) \| ([+\d.-]+) to ([+\d.-]+) \|$", page, re.M
    )
    made = re.findall(r"^prop2diff - vrt\S*, levels \((.*)\): (\S+) \[(\S+), (\S+)\], 4 each$", printed, re.M)
    assert len(told) == len(made) == 12
    for (levels, *points), (chosen, *shares) in zip(told, made, strict=True):
        assert levels[0] == chosen[0] and ("to" in levels) == (chosen == "3, 4, 5")
        assert [float(number) for number in points] == pytest.approx(
            [100 * float(share) for share in shares], abs=0.051
        )
    assert "seed spread 1.6 and 1.5 points; difference between items 0.208" in printed
    assert "residual (both arms, standard deviation) 0.499" in printed
    assert "detectable with 10 x 600: 0.037, careful 0.056" in printed and "= 5.8 (rule: at least 1.5): go" in printed
    sentences = re.sub(r"\s+", " ", page)
    assert (
        "1.6 points for vrt and 1.5 for prop2diff; spread of the difference between items .208; residual .499"
        in sentences
    )
    assert "5.8 times the 3.7 points" in sentences and "careful seed variances 5.6 points: 3.8 times" in sentences
    assert "2.8 of the 21.2 points" in sentences


def test_students_of_two_arms_share_no_seed(pilot: ModuleType) -> None:
    seeds = [pilot.student_seed(arm, replicate) for arm in pilot.ARMS for replicate in range(1, pilot.REPLICATES + 1)]
    assert len(set(seeds)) == len(seeds)

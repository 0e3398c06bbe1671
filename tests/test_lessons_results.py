"""Notebooks 03 to 05 as lessons: each has its parts, and what its solutions and answers say is true."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from lesson_cells import lint_lesson, prose_of, run_solution

from dartlib.statistics import compare_paired, detectable_difference, holm, majority_at_k, pass_at_k
from dartlib.training import TrainingConfig, plan_steps

TESTS = Path(__file__).parent
PILOT = TESTS.parent / "papermill_runs" / "study"


@pytest.mark.parametrize("name", ["03_training", "04_evaluation", "05_paper_figures"])
def test_a_lesson_has_its_parts(name: str) -> None:
    assert lint_lesson(name, TESTS) == []


def test_03_exercise_1_the_end_token_is_lost() -> None:
    """Token 0 ends a text; one also stands in a prompt, which is no response."""
    pair = [
        SimpleNamespace(token_ids=[5, 0, 7, 8, 0], prompt_tokens=2),
        SimpleNamespace(token_ids=[5, 7, 0], prompt_tokens=1),
    ]
    assert run_solution("03_training", 1, pair=pair).said == "[[2], [1]]\n"


def test_03_exercise_2_next_fit_is_the_packages() -> None:
    names = run_solution("03_training", 2).names
    assert names["packs"] == [[0, 1], [2, 3, 4]] and names["empty"] == pytest.approx(1 - 410 / 512)
    assert [len(names["next_fit"](lengths, 256)) for lengths in ([40, 100, 120, 90, 60], [])] == [3, 0]
    lengths = np.random.default_rng(1).integers(1, 100, 60).tolist()
    config = TrainingConfig("ladder", 1e-4, 1, max_tokens_per_pack=100, packs_per_step=3, packs_per_forward=1, seed=1)
    theirs = [list(pack) for step in plan_steps(lengths, config) for pack in step.packs]
    order = [number for pack in theirs for number in pack]  # the package shuffles first
    packs = names["next_fit"]([lengths[number] for number in order], 100)
    assert [[order[place] for place in pack] for pack in packs] == theirs


def test_03_exercise_3_what_moves_a_bf16_weight() -> None:
    """Next to w, a power of two, bf16 numbers lie w / 128 apart: the step must be more than half of that."""
    assert run_solution("03_training", 3).names["largest"] == {1e-4: 1 / 64, 1e-5: 1 / 512}
    assert 2**-6 / 256 < 1e-4 < 2**-5 / 256 and 2**-9 / 256 < 1e-5 < 2**-8 / 256


def test_04_exercise_1_questions_for_five_points() -> None:
    questions = run_solution("04_evaluation", 1).names["questions"]
    assert questions == 787 and detectable_difference(787) <= 0.05 < detectable_difference(786)
    assert pytest.approx(784) == 2.8**2 * 0.25 / 0.05**2


def test_04_answers_on_power() -> None:
    """About 26 points by the formula; the exact test finds ten points in about one of ten studies: summed up here."""
    assert detectable_difference(30) == pytest.approx(0.26, abs=0.005)
    found = 0.0
    for won in range(31):
        for lost in range(31 - won):
            chance = math.comb(30, won) * math.comb(30 - won, lost) * 0.175**won * 0.075**lost
            chance *= 0.75 ** (30 - won - lost)
            tail = 2 * sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1)) / 2 ** (won + lost)
            found += chance * (tail < 0.05)
    assert found == pytest.approx(0.1, abs=0.02)


def test_04_exercise_2_bounds_of_a_cut_accuracy() -> None:
    names = run_solution("04_evaluation", 2).names
    assert (names["lowest"], names["highest"]) == pytest.approx((1 / 30, 26 / 30))


def test_04_exercise_3_triples_are_the_packages_estimators() -> None:
    names = run_solution("04_evaluation", 3).names
    assert names["passed"] == pytest.approx(pass_at_k(5, 2, 3)) == 0.9
    assert names["majority"] == pytest.approx(majority_at_k(5, [(2, True), (3, False)], 3)) == 0.3


def outcomes(won: int, lost: int, both: int) -> tuple[list[float], list[float]]:
    return [0.0] * won + [1.0] * lost + [1.0] * both, [1.0] * won + [0.0] * lost + [1.0] * both


def test_05_exercise_1_mcnemar_by_hand() -> None:
    solved = run_solution("05_paper_figures", 1)
    assert solved.said == "0.065 0.012\n"
    for won, lost in ((9, 2), (10, 1), (3, 3), (0, 0)):
        assert solved.names["mcnemar"](won, lost) == compare_paired(*outcomes(won, lost, 5), seed=1).p_value


def test_05_answer_on_16_against_12() -> None:
    p_values = [compare_paired(*outcomes(lost, lost + 4, 0), seed=1).p_value for lost in range(13)]
    assert p_values[0] == min(p_values) == 0.125 and p_values[12] == max(p_values) == pytest.approx(0.57, abs=0.005)


def test_05_exercise_2_holm() -> None:
    names = run_solution("05_paper_figures", 2).names
    assert [names["adjusted"][p] for p in names["p_values"]] == pytest.approx(holm([0.01, 0.04, 0.03]))


def test_05_exercise_3_when_the_biased_set_wins() -> None:
    """From the pilot's table: s of level 1 (-22.0), the rest evenly over levels 2 to 5."""
    table = (PILOT / "PILOT.md").read_text(encoding="utf-8").split("prop2diff minus vrt-tokens")[0]
    gain = pd.Series({int(k): float(v) for k, v in re.findall(r"\| level (\d) \| ([+-][\d.]+) \|", table)})
    turning = run_solution("05_paper_figures", 3, gain=gain).names["turning"]
    others = (11.0 + 20.7 + 20.5 + 22.3) / 4
    assert turning * -22.0 + (1 - turning) * others == pytest.approx(0, abs=1e-9) and round(turning, 2) == 0.46


def test_05_tells_the_pilots_arms_as_they_were() -> None:
    told = prose_of("05_paper_figures")
    written = (PILOT / "PILOT.md").read_text(encoding="utf-8")
    for shares in (".40 .30 .18 .09 .03", ".03 .12 .25 .30 .30"):
        assert shares in told and shares in written

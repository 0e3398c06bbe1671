"""Hostile answers: nothing is executed, nothing runs past the limits, every answer gets one verdict."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from unicodedata import normalize

import math_verify
import pytest
import sympy
from grading_hostile import CANARY, hostile_answers
from sympy.parsing import sympy_parser

from dartlib.grading import GradingPool
from dartlib.grading.equality import symbolic
from dartlib.grading.equality.comparison import Pair, compare_fast, compare_symbolic
from dartlib.grading.explanation import RULES
from dartlib.records import Query, Verdict

GOLDS = ("5", "\\frac{\\sqrt{2}}{x}", "\\int x dx", "x<3 or x>5")
SECONDS = 0.5  # CPU time for an item here; the stated limit of 2 s would only make this test slower


def test_set_is_large_and_distinct() -> None:
    assert len(set(hostile_answers())) >= 2000


@pytest.mark.slow
def test_everything_gets_one_verdict_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # workers start here: a payload that ran would leave its file
    query = Query(query_id="q", source="test", query="?", reference_answer=GOLDS[0])
    answers = hostile_answers()
    with GradingPool(seconds_per_item=SECONDS) as pool:
        start = time.process_time()
        graded = pool.grade_many((query, f"\\boxed{{{answer}}}", "stop") for answer in answers)
        in_this_process = time.process_time() - start
    counts = Counter(verdict for _, verdict, _ in graded)
    assert sum(counts.values()) == len(graded) == len(answers)
    assert counts[Verdict.TIMEOUT] < 0.01 * len(answers), [g for g in graded if g[1] is Verdict.TIMEOUT][:5]
    assert {reason.partition(":")[0] for _, _, reason in graded} <= RULES.keys()
    assert in_this_process < 60
    assert not list(tmp_path.iterdir())
    # What equals 5 is 5 in some disguise, and nothing that only hides a 5 somewhere.
    correct = {normalize("NFKC", answer or "") for answer, verdict, _ in graded if verdict is Verdict.CORRECT}
    assert all("5" in answer and CANARY not in answer and ";" not in answer for answer in correct), correct


def test_nothing_but_numbers_and_short_latex_reaches_a_parser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A spy on SymPy's evaluating parsers and on math-verify's reader, in this process, over all hostile answers."""
    monkeypatch.chdir(tmp_path)
    evaluated: list[str] = []
    parsed: list[str] = []
    for name in ("parse_expr", "eval_expr"):  # sympify of a text goes through the first, every evaluation through both
        monkeypatch.setattr(sympy_parser, name, lambda text, *_, **__: evaluated.append(str(text)) or sympy.Integer(0))
    monkeypatch.setattr(symbolic, "_is_zero", lambda value: False)  # evaluating may take for ever: that is the workers'
    monkeypatch.setattr(math_verify, "parse", lambda text, **_: parsed.append(text) or [])
    for gold in GOLDS:
        for answer in hostile_answers():
            if compare_fast(Pair(gold=gold, pred=answer)) is None:
                compare_symbolic(Pair(gold=gold, pred=answer))
    assert len(parsed) > 10
    assert all(len(text) <= 302 for text in parsed)
    assert not [text for text in parsed if re.search(r"__[a-z]{3}|\bopen|import|eval|\d{8}", text)]
    assert evaluated == []  # formulas are built from SymPy's constructors
    assert CANARY not in "".join(parsed) and not list(tmp_path.iterdir())

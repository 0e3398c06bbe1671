"""Real references graded against themselves in other notation, against other items', and labelled responses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from grading_references import NAMES, Reference, read_references, same_pairs, unequal_pairs
from grading_rewrites import REWRITES

from dartlib.grading import GradingPool
from dartlib.records import Query, Verdict

ITEMS = {
    "math": 5000,
    "gsm8k": 1319,
    "college-math": 2818,
    "deepmind-mathematics": 1000,
    "olympiadbench": 675,
    "theoremqa": 800,
}
FAILING = 3  # references per benchmark of which any rewrite may fail
EDITS_ALLOWED = 0.001  # share of edited or foreign references that may be judged equal


def _query(reference: Reference) -> Query:
    return Query(query_id="q", source="test", query=reference.query, reference_answer=reference.answer)


def _sample(folder: Path, name: str, slow: bool) -> list[Reference]:
    """All references in the slow tier; every seventh in the fast one."""
    references = read_references(folder / "benchmarks", name)
    assert len(references) == ITEMS[name]
    return references if slow else references[:: max(1, len(references) // 200)]


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_references_equal_themselves_in_other_notation(test_data: Path, name: str, slow: bool) -> None:
    references = _sample(test_data, name, slow)
    checks = same_pairs(references)
    inapplicable = len(REWRITES) * len(references) - len(checks) + len(references)
    with GradingPool() as pool:
        graded = pool.grade_many((_query(ref), f"\\boxed{{{text}}}", "stop") for ref, _, text in checks)
    failed = {
        ref: (kind, text, grade[2])
        for (ref, kind, text), grade in zip(checks, graded, strict=True)
        if grade[1] is not Verdict.CORRECT
    }
    assert len(checks) > 4 * len(references) and inapplicable > 0
    assert len(failed) <= FAILING, failed


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_edited_and_foreign_references_differ(test_data: Path, name: str, slow: bool) -> None:
    references = _sample(test_data, name, slow)
    pairs, excluded = unequal_pairs(references)
    with GradingPool() as pool:
        graded = pool.grade_many((_query(ref), f"\\boxed{{{text}}}", "stop") for ref, text in pairs)
    equal = [
        (ref.answer, text, grade[2])
        for (ref, text), grade in zip(pairs, graded, strict=True)
        if grade[1] is Verdict.CORRECT
    ]
    assert len(pairs) > 2 * len(references) and excluded < 0.05 * len(pairs)
    assert len(equal) <= EDITS_ALLOWED * len(pairs), equal


def test_labelled_responses(test_data: Path) -> None:
    """2,638 responses with published labels: no disagreement that is not listed here with its reason."""
    explained: dict[str, str] = {}
    path = test_data / "labelled" / "gsm8k-6b-responses.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    items = [
        (_query(Reference(row["query"], row["reference_solution"].rpartition("A: ")[2])), row["response"], "stop")
        for row in rows
    ]
    with GradingPool() as pool:
        graded = pool.grade_many(items)
    verdicts = Counter(verdict for _, verdict, _ in graded)
    assert len(graded) == 2638 == sum(verdicts.values())
    disagreements = [
        (item[0].reference_answer, grade, row["is_correct"])
        for item, grade, row in zip(items, graded, rows, strict=True)
        if (grade[1] is Verdict.CORRECT) != row["is_correct"] and row["response"] not in explained
    ]
    assert disagreements == []

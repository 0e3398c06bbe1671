"""The reference answers of the six benchmarks, with the error bounds that their files state, and pairs made of them.

Imports nothing of the grader: which pairs are equal follows from how they are made.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grading_rewrites import edits, known_unequal, rewrites

DECIMAL = 1e-6  # relative: edits of a decimal reference inside the stated precision are left out, and counted
FOREIGN = 8  # other items' references that each reference is held against


class Reference(NamedTuple):
    """One item: its query, reference answer and largest absolute error (OlympiadBench states one for a few)."""

    query: str
    answer: str
    tolerance: float | None = None


NAMES = ("math", "gsm8k", "college-math", "deepmind-mathematics", "olympiadbench", "theoremqa")


def read_references(folder: Path, name: str) -> list[Reference]:
    """All items of one benchmark; ``folder`` holds the original files."""
    return {
        "math": lambda: [
            Reference(row["problem"], _boxed(row["solution"])) for row in _rows(folder / "math-test.jsonl")
        ],
        "gsm8k": lambda: [
            Reference(row["question"], row["answer"].rpartition("####")[2].strip())
            for row in _rows(folder / "gsm8k-test.jsonl")
        ],
        "college-math": lambda: [
            Reference(row["question"], row["answer"]) for row in _rows(folder / "college-math-test.jsonl")
        ],
        "deepmind-mathematics": lambda: [
            Reference(row["question"], row["answer"]) for row in _rows(folder / "deepmind-mathematics.json")
        ],
        "olympiadbench": lambda: [
            Reference(row["question"], row["final_answer"][0], float(row["error"]) if _is_bound(row["error"]) else None)
            for row in _rows(folder / "OE_TO_maths_en_COMP.json")
        ],
        "theoremqa": lambda: [
            Reference(row["Question"], str(row["Answer"])) for row in _rows(folder / "theoremqa.json")
        ],
    }[name]()


def same_pairs(references: Sequence[Reference]) -> list[tuple[Reference, str, str]]:
    """(reference, rewrite, text) of each reference as it is and in every other notation that applies to it."""
    return [
        (ref, kind, text) for ref in references for kind, text in {"same": ref.answer, **rewrites(ref.answer)}.items()
    ]


def unequal_pairs(references: Sequence[Reference]) -> tuple[list[tuple[Reference, str]], int]:
    """(reference, another answer) by edits and by other items' references, and how many edits were left out."""
    edited = [(ref, text) for ref in references for text in edits(ref.answer).values()]
    pairs = [(ref, text) for ref, text in edited if not _within_precision(ref.answer, text)]
    excluded = len(edited) - len(pairs)
    rng = random.Random(0)
    for ref in references:
        others = [other.answer for other in rng.sample(references, FOREIGN)]
        pairs += [(ref, other) for other in others if known_unequal(ref.answer, other)]
    return pairs, excluded


def _within_precision(reference: str, edited: str) -> bool:
    if "." not in reference:
        return False
    plain = [
        re.sub(r"[$ ]|\\[,;]", "", text).replace("\\times10^{", "e").rstrip("}") for text in (reference, edited[:-4])
    ]
    try:
        value, other = float(plain[0]), float(plain[1] if edited.endswith((" + 1", " - 1")) else edited)
    except ValueError:
        return False
    other += edited.endswith(" + 1") - edited.endswith(" - 1")
    return abs(value - other) <= DECIMAL * abs(value)


def _is_bound(error: str | None) -> bool:
    """A few items state several bounds, one per answer: those are left out."""
    return error is not None and "," not in error


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def _boxed(solution: str) -> str:
    """The content of the last box, found by counting braces; ``\\boxed 5`` has none."""
    start = max(solution.rfind("\\boxed"), solution.rfind("\\fbox"))
    brace = solution.find("{", start)
    if solution[start:].startswith("\\boxed "):
        return solution[start + 7 :].split("$")[0]
    depth = 0
    for place in range(brace, len(solution)):
        depth += (solution[place] == "{") - (solution[place] == "}")
        if not depth:
            return solution[brace + 1 : place]
    raise ValueError("a box that never closes")

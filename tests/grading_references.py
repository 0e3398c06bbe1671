"""The reference answers of the six benchmarks, with the error bounds and answer types that their files state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple


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

"""Answers graded per second and agreement, beside math-verify: `make bench NAME=grading` (about 4 minutes, one core).

Distinct (reference, answer) pairs of the eight models' responses and of the labelled file, and the lines of the case
table; every pair once, nothing remembered from before. math-verify runs its own ``parse`` and ``verify`` on the boxed
texts, in this process as well. Agreement counts only pairs with a truth: labels, or the case table's construction;
the models' responses have none and count for speed. Needs DARTLIB_TEST_DATA.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from math_verify import parse, verify

from dartlib.grading import extract_answer
from dartlib.grading.equality import comparison

CASES = Path(__file__).parents[1] / "grading_cases.tsv"


class Pair(NamedTuple):
    """A reference and an answer; ``equal`` is the truth where there is one."""

    kind: str
    gold: str
    pred: str
    equal: bool | None = None
    tolerance: float | None = None
    query: str | None = None


def response_pairs(folder: Path) -> list[Pair]:
    """Distinct stated answers of eight models on MATH level 5; no truth is known."""
    found = {}
    for path in sorted((folder / "responses").glob("*.jsonl")):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if answer := extract_answer(row["response"]):
                found[row["reference_answer"], answer] = Pair("responses", row["reference_answer"], answer)
    return list(found.values())


def labelled_pairs(folder: Path) -> list[Pair]:
    """Distinct stated answers to GSM8K with the published labels."""
    found = {}
    text = (folder / "labelled" / "gsm8k-6b-responses.jsonl").read_text(encoding="utf-8")
    for row in map(json.loads, text.splitlines()):
        gold = row["reference_solution"].rpartition("A: ")[2]
        if answer := extract_answer(row["response"]):
            found[gold, answer] = Pair("labelled", gold, answer, row["is_correct"])
    return list(found.values())


def case_pairs() -> list[Pair]:
    """The case table, by type of answer."""
    with CASES.open(encoding="utf-8", newline="") as handle:
        return [
            Pair(
                f"cases: {row['type']}",
                row["gold"],
                row["answer"],
                row["expected"] == "equal",
                float(row["tolerance"]) if row["tolerance"] else None,
                row["query"] or None,
            )
            for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def ours(pair: Pair) -> bool:
    """Our comparison, SymPy included."""
    asked = comparison.Pair(pair.gold, pair.pred, pair.tolerance, pair.query)
    return (comparison.compare_fast(asked) or comparison.compare_symbolic(asked)).equal


def theirs(pair: Pair) -> bool:
    """math-verify with its own defaults (time limits included); its failures count as unequal."""
    try:
        return bool(verify(parse(f"\\boxed{{{pair.gold}}}"), parse(f"\\boxed{{{pair.pred}}}")))
    except Exception:  # noqa: BLE001
        return False


def timed(grade: Callable[[Pair], bool], pairs: Iterable[Pair]) -> tuple[list[bool], dict[str, float]]:
    """Verdicts, and seconds of CPU time by kind of pair."""
    verdicts, seconds = [], dict[str, float]()
    for pair in pairs:
        start = time.process_time()
        verdicts.append(grade(pair))
        seconds[pair.kind] = seconds.get(pair.kind, 0.0) + time.process_time() - start
    return verdicts, seconds


def agreement(pairs: list[Pair], verdicts: list[bool]) -> float:
    """Share of the pairs with a truth that were judged so."""
    known = [pair.equal == verdict for pair, verdict in zip(pairs, verdicts, strict=True) if pair.equal is not None]
    return sum(known) / len(known)


def row(metric: str, mine: float, reference: float, unit: str) -> dict[str, Any]:
    """One measured number beside math-verify's."""
    name = "math-verify parse + verify"
    return dict(metric=metric, ours=mine, reference=reference, reference_name=name, ratio=mine / reference, unit=unit)


def measure(pairs: list[Pair]) -> list[dict[str, Any]]:
    """All rows: the mix, then every kind of pair."""
    for warm in (ours, theirs):  # imports and parser tables, not answers
        warm(Pair("warm", "\\sqrt{2}", "2^{1/2}"))
    (my_verdicts, mine), (their_verdicts, reference) = timed(ours, pairs), timed(theirs, pairs)
    total = len(pairs)
    rows = [
        row("answers_per_second", total / sum(mine.values()), total / sum(reference.values()), "1/s"),
        row("agreement", agreement(pairs, my_verdicts), agreement(pairs, their_verdicts), "share"),
    ]
    for kind in mine:
        chosen = [number for number, pair in enumerate(pairs) if pair.kind == kind]
        rows.append(row(f"answers_per_second, {kind}", len(chosen) / mine[kind], len(chosen) / reference[kind], "1/s"))
        if pairs[chosen[0]].equal is not None:
            shares = [
                agreement([pairs[n] for n in chosen], [verdicts[n] for n in chosen])
                for verdicts in (my_verdicts, their_verdicts)
            ]
            rows.append(row(f"agreement, {kind}", shares[0], max(shares[1], 1e-9), "share"))
    return rows


def main() -> None:
    """Print the rows, and write them as JSON where a path is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    folder = Path(os.environ["DARTLIB_TEST_DATA"])
    pairs = [*response_pairs(folder), *labelled_pairs(folder), *case_pairs()]
    rows = measure(pairs)
    for each in rows:
        print("{metric:38} {ours:>12.4f} {unit:6} {reference:>12.4f} {reference_name} x {ratio:.3f}".format(**each))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The verifier card: how often three graders are right on real responses, weighted to all 5,768 of them.

``verifier_card.csv`` holds 300 responses of eight models to 721 MATH level-5 problems (WildEval/ZeroEval, Apache-2.0),
as reference and stated answer only. They are a stratified sample: responses on which the graders disagree, all of them
say equal, or all say different. Two readers (language models, told to judge as a careful teacher would) read each, in
two orders, not knowing of each other nor of the graders' verdicts: the problem, the reference and the last 700
characters of the response. ``first`` and ``second`` are their readings, ``verdict`` the resolved one. Four responses
answer and then run on into exercises of their own, beyond what the readers saw: for these the whole response decides,
by its answer to the problem that was asked. ``model`` and ``problem`` (its id) name the response; ``solved_by`` counts
the eight models that our grader finds correct on the problem. The three graders saw the whole response: ours (strict),
math-verify's ``parse`` and ``verify``, and a naive matcher (the last number of the text).

Run as a script it prints the table that ``verifier_card_table.csv`` stores.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dartlib.statistics import wilson_interval

ROWS = Path(__file__).with_name("verifier_card.csv")
TABLE = Path(__file__).with_name("verifier_card_table.csv")
STRATA = {"disagree": 308, "equal": 1067, "different": 4393}  # responses of each kind among all
GRADERS = ("ours", "math_verify", "naive")
BY_DIFFICULTY = {"0-1": range(2), "2-4": range(2, 5), "5-8": range(5, 9)}  # models that solve the problem
COLUMNS = ["grader", "solved_by", "measure", "rows", "value", "low", "high"]

Row = dict[str, str]


def read_rows() -> list[Row]:
    """The 300 sampled responses."""
    with ROWS.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def weights(rows: Iterable[Row]) -> dict[str, float]:
    """How many responses one sampled row of a stratum stands for."""
    found = [row["stratum"] for row in rows]
    return {stratum: size / found.count(stratum) for stratum, size in STRATA.items()}


def weighted_share(rows: list[Row], weight: dict[str, float], hit: Callable[[Row], bool]) -> tuple[float, float, float]:
    """(share, low, high): weighted, with the Wilson interval of as many rows as the unequal weights are worth.

    The worth is Kish's effective size, the squared sum of the weights over the sum of their squares, rounded down.
    """
    total = sum(weight[row["stratum"]] for row in rows)
    if not total:
        return math.nan, 0.0, 1.0
    share = sum(weight[row["stratum"]] for row in rows if hit(row)) / total
    effective = int(total**2 / sum(weight[row["stratum"]] ** 2 for row in rows))
    low, high = wilson_interval(round(share * effective), effective)
    return share, low, high


def card_table(rows: list[Row]) -> list[dict[str, Any]]:
    """Precision and recall of every grader, and its share of false accepts by difficulty."""
    weight = weights(rows)
    table = []
    for grader in GRADERS:
        accepted = [row for row in rows if row[grader] == "1"]
        true = [row for row in rows if row["verdict"] == "equal"]
        measures = [
            ("precision", "all", accepted, lambda row: row["verdict"] == "equal"),
            ("recall", "all", true, lambda row, grader=grader: row[grader] == "1"),
        ]
        for name, solved_by in BY_DIFFICULTY.items():
            group = [row for row in accepted if int(row["solved_by"]) in solved_by]
            measures.append(("false accepts", name, group, lambda row: row["verdict"] != "equal"))
        for measure, name, group, hit in measures:
            share, low, high = weighted_share(group, weight, hit)
            cells = [grader, name, measure, len(group), *(f"{value:.4f}" for value in (share, low, high))]
            table.append(dict(zip(COLUMNS, cells, strict=True)))
    return table


def main() -> None:
    """Print the table as CSV."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(card_table(read_rows()))


if __name__ == "__main__":
    main()

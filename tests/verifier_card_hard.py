"""The verifier card where it is hard: answers to questions whose references are no plain integers.

``verifier_card_hard.csv`` holds two tables that are never pooled, answers only. *constructed*: references of five
benchmarks, each with one answer written to be equal in another form and one written as a near miss, by a language model
that ran no grader. *real*: answers of GPT-4, ChatGPT and Claude v2 to TheoremQA (outputs published with it, MIT) and of
GPT-4 to GAOKAO-Bench; few of them are right, so this table tests false accepts more than recall. Two readers (language
models) judged every pair with its question, in two orders, knowing neither each other nor how a pair was made nor any
grader's verdict: ``first`` and ``second``. Eight conflicts were settled by one rule: a form or unit that the question
asks for must be met, a finer value is no fault. ``problem`` is the question's place in its benchmark's file, from 0.

The graders saw the answer in a box: ours with the question (strict, no tolerance), math-verify without, and a naive
matcher (the same text without spaces and dollar signs). Run as a script it prints the table that
``verifier_card_hard_table.csv`` stores, with Wilson intervals.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from dartlib.statistics import wilson_interval

ROWS = Path(__file__).with_name("verifier_card_hard.csv")
TABLE = Path(__file__).with_name("verifier_card_hard_table.csv")
TABLES = ("constructed", "real")
GROUPS = ("sets and intervals", "decimals and units", "expressions and equations")
GRADERS = ("ours", "math_verify", "naive")
COLUMNS = ["table", "group", "grader", "measure", "hits", "rows", "value", "low", "high"]


def read_rows() -> list[dict[str, str]]:
    """All pairs of both tables."""
    with ROWS.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def card_table(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Precision and recall of every grader, by table and group and over the groups of a table."""
    table = []
    for name in TABLES:
        for group in (*GROUPS, "all"):
            own = [row for row in rows if row["table"] == name and group in (row["group"], "all")]
            for grader in GRADERS:
                accepted = [row["verdict"] == "equal" for row in own if row[grader] == "1"]
                found = [row[grader] == "1" for row in own if row["verdict"] == "equal"]
                for measure, hits in (("precision", accepted), ("recall", found)):
                    low, high = wilson_interval(sum(hits), len(hits))
                    share = f"{sum(hits) / len(hits):.3f}" if hits else ""
                    cells = [name, group, grader, measure, sum(hits), len(hits), share, f"{low:.3f}", f"{high:.3f}"]
                    table.append(dict(zip(COLUMNS, cells, strict=True)))
    return table


def main() -> None:
    """Print the table as CSV."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(card_table(read_rows()))


if __name__ == "__main__":
    main()

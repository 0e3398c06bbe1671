"""Queries that were never solved: is the reference wrong, the query broken, did the grader miss, or is it just hard?

One row per query, with what helps to decide. Four patterns are named, in this order, because each makes the next one
unlikely; the thresholds are ours, and the responses to read are the judge.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dartlib.grading import GradingPool, extract_answer
from dartlib.records import Query, Verdict

COLUMNS = [
    "query_id", "level", "query", "reference_answer", "trials", "top_answer", "top_share", "answers", "near_misses",
    "near_miss", "no_answer_share", "cut_share", "odd_reference", "suspicion", "read",
]  # fmt: skip
AGREEMENT = 0.3  # so many independent wrong trials rarely agree on one answer unless it is the right one
USUAL = 0.95  # a teacher errs alike where the reference is right, too: only more agreement than there, mostly, is odd
CUT = 0.5
_ODD_REFERENCES = (
    ("empty", re.compile(r"\s*")),
    ("placeholder", re.compile(r"(?i)\W*(n/?a|none|null|nan|unknown|tbd|see .*|\?+|\.{2,})\W*")),
    ("several answers", re.compile(r"(?i).*(\bor\b|(?<!\\);).*", re.DOTALL)),
    ("sentence", re.compile(r"(?:[A-Za-z]{2,}\W+){6,}.*", re.DOTALL)),
)
_REFERS_ELSEWHERE = re.compile(
    r"(?i)\b(figure|diagram|graph|table|picture|chart) (below|above|shown|at (the )?right)|\[asy\]|\[image"
)


def triage(queries: Sequence[Query], samples: pd.DataFrame, *, min_trials: int = 8, workers: int = 1) -> pd.DataFrame:
    """One row (columns ``COLUMNS``) per query without a correct response, the most suspicious kinds first.

    ``samples`` needs query_id, trial, verdict, answer, finish_reason and response, as ``open_pool(path).samples()``
    gives; queries with fewer than ``min_trials`` trials are left out, as nothing can be said of them. Every distinct
    answer is graded once more leniently, also of responses that were cut: ``near_misses`` counts the trials that
    would then be correct, and ``near_miss`` shows one such answer. ``read`` names the trials to read first.
    """
    never = samples.groupby("query_id").filter(
        lambda group: len(group) >= min_trials and not (group["verdict"] == Verdict.CORRECT.value).any()
    )
    groups = dict(list(never.groupby("query_id")))
    chosen = [query for query in queries if query.query_id in groups]
    agreement = max(AGREEMENT, _usual_agreement(samples, min_trials))
    with GradingPool(workers=workers, lenient=True) as grading:
        rows = [_row(query, groups[query.query_id].sort_values("trial"), grading, agreement) for query in chosen]
    order = {name: place for place, name in enumerate(("grader", "reference", "query", "cut", "hard"))}
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values("suspicion", key=lambda kind: kind.map(order), kind="stable", ignore_index=True)


def _usual_agreement(samples: pd.DataFrame, min_trials: int) -> float:
    """How much wrong trials agree on one answer where others were right, at its USUAL quantile; 0 where nothing was."""
    right = samples["verdict"] == Verdict.CORRECT.value
    solved = samples[~right & samples["query_id"].isin(samples.loc[right, "query_id"])]
    groups = [answers for _, answers in solved.groupby("query_id")["answer"] if len(answers) >= min_trials]
    shares = [max(answers.value_counts(), default=0) / len(answers) for answers in groups]
    return float(np.quantile(shares, USUAL, method="higher")) if shares else 0.0


def odd_reference(query: Query) -> str:
    """Why a reference answer looks unusable ("" when it does not): a look at the text, not a proof."""
    text = query.reference_answer
    if text.count("{") != text.count("}"):
        return "unbalanced"
    return next((name for name, pattern in _ODD_REFERENCES if pattern.fullmatch(text)), "")


def _row(query: Query, trials: pd.DataFrame, grading: GradingPool, agreement: float) -> dict[str, object]:
    lenient = [extract_answer(text, lenient=True) for text in trials["response"]]
    strict = Counter(answer for answer in trials["answer"] if isinstance(answer, str))
    top, count = strict.most_common(1)[0] if strict else (None, 0)
    near = _near_misses(query, lenient, grading)
    cut = float((trials["finish_reason"] == "length").mean())
    row: dict[str, object] = {
        "query_id": query.query_id,
        "level": query.level,
        "query": query.query,
        "reference_answer": query.reference_answer,
        "trials": len(trials),
        "top_answer": top,
        "top_share": count / len(trials),
        "answers": len(strict),
        "near_misses": sum(answer in near for answer in lenient),
        "near_miss": next((answer for answer in lenient if answer in near), None),
        "no_answer_share": float((trials["verdict"] == Verdict.NO_ANSWER.value).mean()),
        "cut_share": cut,
        "odd_reference": odd_reference(query),
    }
    row["suspicion"] = _suspicion(query, row, agreement)
    row["read"] = _to_read(trials, lenient, near, top)
    return row


def _near_misses(query: Query, answers: Sequence[str | None], grading: GradingPool) -> set[str]:
    """Distinct answers that the lenient grader takes for the reference."""
    distinct = sorted({answer for answer in answers if answer is not None})
    graded = grading.grade_many((query, f"The answer is \\boxed{{{answer}}}", "stop") for answer in distinct)
    return {answer for answer, (_, verdict, _) in zip(distinct, graded, strict=True) if verdict is Verdict.CORRECT}


def _suspicion(query: Query, row: dict[str, object], agreement: float) -> str:
    """``grader``, ``reference``, ``query``, ``cut`` or ``hard``: where to look first."""
    if row["near_misses"]:
        return "grader"
    if row["odd_reference"] or float(str(row["top_share"])) > agreement:
        return "reference"
    if _REFERS_ELSEWHERE.search(query.query):
        return "query"
    return "cut" if float(str(row["cut_share"])) >= CUT else "hard"


def _to_read(trials: pd.DataFrame, lenient: Sequence[str | None], near: set[str], top: str | None) -> list[int]:
    """Up to three trial numbers: the first near miss, the first with the most frequent answer, the first one."""
    numbers = trials["trial"].tolist()
    misses = [number for number, answer in zip(numbers, lenient, strict=True) if answer in near]
    agreeing = [number for number, answer in zip(numbers, trials["answer"], strict=True) if top and answer == top]
    return list(dict.fromkeys([*misses[:1], *agreeing[:1], *numbers[:1]]))

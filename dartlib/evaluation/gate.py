"""The sanity gate: replies that say nothing about the model, counted per benchmark before any score."""

from collections.abc import Collection

import pandas as pd

from dartlib.records import Verdict

LARGEST_SHARE = 0.5  # of replies cut, empty or without an answer, or of questions that got one and the same reply
_FEWEST = 5  # questions from which "all alike" means something
_LOOK_AT = "template, stop strings and max_tokens"


class EvaluationError(RuntimeError):
    """The evaluation says nothing about the model; the message shows replies and what to look at."""


def unusable_counts(items: pd.DataFrame) -> dict[str, int]:
    """Of one benchmark's items: replies ``cut`` by length, ``empty``, with ``no_answer``; and ``alike``.

    Of the first three a reply counts once, in this order. ``alike``: questions that got the most frequent reply, where
    five or more were asked.
    """
    cut = items["finish_reason"] == "length"
    empty = ~cut & (items["response"].str.strip() == "")
    silent = ~cut & ~empty & (items["verdict"] == Verdict.NO_ANSWER.value)
    asked = items[~empty].groupby(items["response"].str.strip())["query_id"].nunique()
    alike = int(asked.max()) if len(asked) and items["query_id"].nunique() >= _FEWEST and asked.max() > 1 else 0
    return {"cut": int(cut.sum()), "empty": int(empty.sum()), "no_answer": int(silent.sum()), "alike": alike}


def is_usable(items: pd.DataFrame) -> bool:
    """Whether at most half of one benchmark's replies are unusable, and at most half of its questions alike."""
    counts = unusable_counts(items)
    alike = counts.pop("alike") / items["query_id"].nunique()
    return max(sum(counts.values()) / len(items), alike) <= LARGEST_SHARE


def check_usable(items: pd.DataFrame, *, allow: bool) -> Collection[str]:
    """Benchmarks whose replies are unusable; unless allowed, EvaluationError with counts and replies of each."""
    found = {str(name): part for name, part in items.groupby("benchmark", sort=False) if not is_usable(part)}
    if found and not allow:
        raise EvaluationError("\n".join(_complaint(name, part) for name, part in found.items()))
    return list(found)


def _complaint(name: str, items: pd.DataFrame) -> str:
    counts = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in unusable_counts(items).items() if count)
    shown = items.sort_values("verdict", key=lambda column: column != Verdict.NO_ANSWER.value, kind="stable")
    examples = "\n".join(f"  {text[:200]!r}" for text in shown["response"].head(3))
    return f"{name}: of {len(items)} replies {counts}: check {_LOOK_AT}, or allow unusable replies. Three:\n{examples}"

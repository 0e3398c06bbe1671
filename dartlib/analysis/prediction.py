"""VRT from pass rates alone: what n trials of every query must give, laid over what a data set holds.

A query that the teacher solves with probability p gets n·p correct responses on average, and at least one with
probability 1-(1-p)^n. The rates come from the first half of a run's own trials, or were recorded
elsewhere (`synthesis.read_pass_rates`).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, lgamma
from typing import TYPE_CHECKING, Any

import numpy as np

from dartlib.analysis import tables
from dartlib.analysis.inputs import AnalysisError
from dartlib.analysis.points import remember, samples_below
from dartlib.analysis.style import (
    BLUE,
    ORANGE,
    WHISKERS,
    display_name,
    draw_intervals,
    group_label,
    group_ticks,
    label,
    legend_below,
    new_figure,
)
from dartlib.statistics import fit_beta

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def rate_prediction_table(outcomes: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """One data set (``outcomes`` as in ResponseSet) against recorded pass rates (columns level, pass_rate), per level.

    The one free number is ``n``, the trials per query that give a set of this size; it may be a fraction. Columns as
    in vrt_prediction_table, ``coverage_spread`` being 1-(1-p)^n averaged over the rated queries of the group. Only
    levels that both have are compared; where either has none, all queries are one group. Rates of few trials
    understate coverage: a query seen to fail in all of them counts as hopeless. Raises AnalysisError without any
    group in common.
    """
    import pandas as pd

    both = outcomes["level"].notna().any() and rates["level"].notna().any()
    pairs = list(_paired_groups(outcomes, rates)) if both else [(tables.ALL, outcomes["n_correct"], rates["pass_rate"])]
    if not pairs:
        raise AnalysisError("the data set and the pass rates have no level in common")
    per_trial = sum(len(counts) * p.mean() for _, counts, p in pairs)
    n = sum(counts.sum() for _, counts, _ in pairs) / per_trial if per_trial else 0.0
    rows = []
    for group, counts, p in pairs:
        row: dict[str, Any] = {"group": group, "queries": len(counts), "n": n, "predicted": n * p.mean()}
        row |= tables.mean_with_band("responses", counts)
        row |= tables.share_with_band("coverage", int((counts > 0).sum()), len(counts))
        row |= {"coverage_one_rate": 1 - (1 - p.mean()) ** n, "coverage_spread": (1 - (1 - p) ** n).mean()}
        rows.append(row)
    return pd.DataFrame(rows)


def _paired_groups(outcomes: pd.DataFrame, rates: pd.DataFrame) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    for level in sorted(set(outcomes["level"].dropna()) & set(rates["level"].dropna())):
        counts = outcomes.loc[outcomes["level"] == level, "n_correct"]
        yield str(int(level)), counts, rates.loc[rates["level"] == level, "pass_rate"]


def vrt_prediction_table(samples: pd.DataFrame, trials: int) -> pd.DataFrame:
    """VRT as pass rates alone predict it, against what it is: the first half of its trials predicts the rest.

    Columns: group, queries, n (trials checked per query); ``responses`` measured per query, ``predicted`` n·p;
    ``coverage`` measured, ``coverage_one_rate`` 1-(1-p)^n as if every query of the group had its mean p, and
    ``coverage_spread`` the same averaged over a beta population of p. Groups are levels; queries without any form
    one group, because bins by the first half would regress to the mean. Raises ValueError for fewer than 2 trials.
    """
    import pandas as pd

    half, n = trials // 2, trials - trials // 2
    if half < 1:
        raise ValueError(f"a prediction needs at least 2 trials per query, got {trials}")
    everything = tables.pass_rates(samples, trials).set_index("query_id")
    first = tables.pass_rates(samples, half).set_index("query_id").loc[everything.index]
    later = (everything["correct"] - first["correct"]).astype(float)
    rows = []
    for group, part in first.groupby(tables.difficulty_groups(first[["level"]])[0], observed=True):
        measured, p = later[part.index], part["pass_rate"].mean()
        a, b = fit_beta(part["correct"].astype(int).tolist(), part["trials"].astype(int).tolist())
        none_correct = exp(lgamma(a + b) - lgamma(b) + lgamma(b + n) - lgamma(a + b + n))
        row: dict[str, Any] = {"group": group, "queries": len(part), "n": n, "predicted": n * p}
        row |= tables.mean_with_band("responses", measured)
        row |= tables.share_with_band("coverage", int((measured > 0).sum()), len(part))
        rows.append(row | {"coverage_one_rate": 1 - (1 - p) ** n, "coverage_spread": 1 - none_correct})
    return pd.DataFrame(rows)


def vrt_prediction_figure(samples: pd.DataFrame, trials: int) -> Figure:
    """VRT as pass rates predict it, n·p and 1-(1-p)^n, laid over what was drawn. Halves of the trials, no overlap."""
    table = vrt_prediction_table(samples, trials)
    n, queries = int(table["n"].max()), int(table["queries"].sum())
    title = (
        f"VRT from pass rates alone: the first {trials // 2} of {trials} trials predict the rest ({queries:,} queries)"
    )
    figure = _prediction_figure(table, title, f"responses per query ({n} trial{'s' if n > 1 else ''})")
    first, later = samples_below(trials - n), samples_below(trials, trials - n)
    for columns, rows in ((("predicted", "coverage_spread"), first), (("responses", "coverage"), later)):
        remember(figure, table, columns[0], "level", rows, 1, columns[0])
        remember(figure, table, columns[1], "level", rows, 100, columns[1])
    return figure


def rate_prediction_figure(outcomes: pd.DataFrame, rates: pd.DataFrame, name: str) -> Figure:
    """A data set called ``name`` under what VRT must look like from pass rates alone (see rate_prediction_table)."""
    table = rate_prediction_table(outcomes, rates)
    n, queries = table["n"].max(), int(table["queries"].sum())
    title = f"{display_name(name)} ({queries:,} queries) against VRT at the pass rates of {len(rates):,}"
    return _prediction_figure(table, title, f"responses per query\n({n:.1f} trials fit the set's size)")


def _prediction_figure(table: pd.DataFrame, title: str, responses: str) -> Figure:
    axis_name = group_label("queries" if list(table["group"]) == [tables.ALL] else "level")
    figure, (left, right) = new_figure(title, 2, width=7.5)
    places = np.arange(len(table))
    left.bar(places, table["responses"], color=BLUE, alpha=0.75, width=0.7, label="measured")
    draw_intervals(left, places, table, "responses", **WHISKERS)
    dash: dict[str, Any] = {"colors": "black", "linewidth": 2, "label": "predicted: n·p; 1-(1-p)^n over a spread of p"}
    left.hlines(table["predicted"], places - 0.42, places + 0.42, **dash)
    right.bar(places, 100 * table["coverage"], color=BLUE, alpha=0.75, width=0.7, label="measured")
    draw_intervals(right, places, table, "coverage", scale=100, **WHISKERS)
    one_rate, spread = 100 * table["coverage_one_rate"], 100 * table["coverage_spread"]
    cross: dict[str, Any] = {"color": ORANGE, "markersize": 9, "markeredgewidth": 2}
    right.plot(places, one_rate, "x", label="1-(1-p)^n, one p for all", **cross)
    right.hlines(spread, places - 0.42, places + 0.42, **dash)
    for axis in (left, right):
        group_ticks(axis, table["group"], table["queries"])
    label(left, axis_name, responses, "correct responses")
    label(right, axis_name, "queries covered (%)", "coverage")
    right.set_ylim(0, 108)
    legend_below(figure, right)
    return figure

"""Figures of data sets side by side: who gets responses, how long they are, who solves what. Tables in, Figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dartlib.analysis.points import remember, remember_published
from dartlib.analysis.style import (
    BLUE,
    GREY,
    RED,
    display_name,
    draw_intervals,
    group_label,
    group_ticks,
    label,
    legend_below,
    look,
    new_figure,
    side_by_side,
)
from dartlib.statistics import wilson_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def response_share_figure(composition: pd.DataFrame, axis_name: str, published: pd.DataFrame | None = None) -> Figure:
    """Share of the responses by group and set, beside the share of the queries (the paper's figure 2 middle).

    ``published`` (the table ``metamathqa_by_level``) adds a panel of its own: the paper's data.
    """
    columns = 1 if published is None else 2
    figure, axes = new_figure("Who gets the responses?", columns, share_y=True, width=7.5)
    _draw_sets(axes[0], composition, "share", 100)
    remember(figure, composition, "share", axis_name, None, 100)
    label(axes[0], group_label(axis_name), "share of the responses (%)", "measured here")
    if published is not None:
        levels = published[published["level"].astype(str) != "all"].pivot(
            index="level", columns="quantity", values="value"
        )
        remember_published(figure, published[published["quantity"] == "response_share"])
        places = np.arange(len(levels))
        axes[1].bar(places, levels["response_share"], color="white", edgecolor=GREY, hatch="..", width=0.6)
        queries = levels["queries"].to_numpy(dtype=float)
        axes[1].hlines(100 * queries / queries.sum(), places - 0.4, places + 0.4, colors="black")
        for place, value in enumerate(levels["response_share"]):
            where: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
            where["bbox"] = {"facecolor": "white", "linewidth": 0, "pad": 1}  # the line of the queries' share may cross
            axes[1].annotate(f"{value:.1f}", (place, value), (0, 3), **where)
        group_ticks(axes[1], levels.index, levels["queries"].astype(int))
        label(axes[1], "MATH level (queries)", title="the paper's data: MetaMathQA-MATH-AnsAug\n(figure 2 middle)")
    highest = float(composition[["share_high", "query_share"]].to_numpy(dtype=float).max())
    axes[0].set_ylim(0, 1.15 * max(35.0, 100 * highest))
    legend_below(figure, axes[0])
    return figure


def lengths_figure(composition: pd.DataFrame, axis_name: str) -> Figure:
    """Characters per response and share of repeated responses, by group and set."""
    figure, (left, right) = new_figure("Lengths and repeats", 2, width=7.5)
    _draw_sets(left, composition, "characters", 1)
    remember(figure, composition, "characters", axis_name, None, note="characters")
    remember(figure, composition, "repeats", axis_name, None, 100, "repeats")
    label(left, group_label(axis_name), "characters per response\n(mean, 95 % interval over queries)", "length")
    left.set_ylim(0, 1.1 * max(1.0, float(composition["characters_high"].fillna(0).max())))
    names = list(dict.fromkeys(composition["strategy"]))
    for number, name in enumerate(names):
        part = composition[composition["strategy"] == name]
        style = look(name, number) | {"linestyle": "", "clip_on": False}  # most repeats are at zero
        right.plot(side_by_side(len(part), number, len(names)), 100 * part["repeats"].to_numpy(dtype=float), **style)
    first = composition[composition["strategy"] == composition["strategy"].iloc[0]]
    group_ticks(right, first["group"], first["queries"])
    label(right, group_label(axis_name), "responses equal to another\nof their query (%)", "repeats")
    right.set_ylim(0, max(5.0, 115 * float(composition["repeats"].fillna(0).max())))
    legend_below(figure, left)
    return figure


def _draw_sets(axis: Axes, table: pd.DataFrame, column: str, scale: float) -> None:
    """One series per set, side by side, with whiskers; for shares the queries' share as a black line."""
    names = list(dict.fromkeys(table["strategy"]))
    first = table[table["strategy"] == names[0]]
    for number, name in enumerate(names):
        part = table[table["strategy"] == name]
        shifted = side_by_side(len(part), number, len(names))
        style = look(name, number) | {"linestyle": ""}
        draw_intervals(axis, shifted, part, column, scale=scale, label=display_name(name), **style)
    if column == "share":
        places = np.arange(len(first))
        axis.hlines(
            100 * first["query_share"], places - 0.4, places + 0.4, colors="black", label="share of the queries"
        )
    group_ticks(axis, first["group"], first["queries"])


def solvers_figure(solved: pd.DataFrame) -> Figure:
    """Who solves what, from a solver_table: one column per query (hardest left), and how many models solve a query."""
    models, queries = list(solved.columns), len(solved)
    figure, (left, right) = new_figure(f"Who solves what ({queries:,} queries, {len(models)} models)", 2, width=9.5)
    left.imshow(solved.to_numpy().T, aspect="auto", interpolation="nearest", cmap="Blues", vmin=0, vmax=1.3)
    rates = [f"{display_name(name)}\n{_rate(int(solved[name].sum()), queries)}" for name in models]
    left.set_yticks(range(len(models)), rates, fontsize=7)
    left.set_xlabel("query, solved by few (left) to many models", fontsize=10)
    left.set_title("solved: blue", fontsize=10)
    left.grid(visible=False)
    counts = np.bincount(solved.sum(axis=1), minlength=len(models) + 1)
    right.bar(range(len(counts)), counts, color=[RED, *[BLUE] * len(models)])
    above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
    for place, count in enumerate(counts):
        right.annotate(str(count), (place, count), (0, 3), **above)
    right.set_xticks(range(len(counts)))
    label(right, "models that solve a query", "queries", "red: nobody does")
    right.set_ylim(0, 1.12 * counts.max())
    return figure


def _rate(solved: int, queries: int) -> str:
    low, high = wilson_interval(solved, queries)
    return f"{100 * solved / queries:.0f} % ({100 * low:.0f}–{100 * high:.0f})"

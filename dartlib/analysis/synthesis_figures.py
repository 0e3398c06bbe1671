"""Figures about data sets: who gets responses, at what cost, and what pass rates predict. Tables in, Figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dartlib.analysis import tables
from dartlib.analysis.points import OUTCOMES, remember, remember_published, samples_below
from dartlib.analysis.style import (
    BLUE,
    GREY,
    SKY,
    WHISKERS,
    by_groups,
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

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREYS = ("#111111", "#555555", "#888888", "#AAAAAA")


def responses_by_level_figure(outcomes: pd.DataFrame) -> Figure:
    """Responses per query by difficulty group, one panel per strategy, with quota and shortfall.

    Bars with 95 % bootstrap intervals over queries; the line is the mean quota (for VRT the number of trials), the
    hatched part on top what is missing to it.
    """
    strategies = tables.strategies_of(outcomes)
    table, axis_name = tables.bias_table(outcomes), _axis_name(outcomes)
    title = f"Responses per query{by_groups(axis_name)} ({outcomes['query_id'].nunique():,} queries)"
    figure, axes = new_figure(title, len(strategies), share_y=True, width=max(6.0, 2.7 * len(strategies)))
    remember(figure, table, "mean", axis_name, OUTCOMES)
    line_at = 0
    for number, (axis, strategy) in enumerate(zip(axes, strategies, strict=True)):
        part = table[table["strategy"] == strategy]
        places = np.arange(len(part))
        axis.bar(places, part["mean"], color=look(strategy, number)["color"], width=0.7)
        draw_intervals(axis, places, part, "mean", **WHISKERS)
        if part["quota"].notna().any():
            _draw_quota(axis, part)
        elif strategy == "vrt" and "n_trials" in outcomes:
            line_at = int(outcomes.loc[outcomes["strategy"] == "vrt", "n_trials"].max())
            axis.axhline(line_at, color="black", linestyle=":", linewidth=1.2, label=f"{line_at} trials per query")
            axis.legend(fontsize=8, loc="upper left")
        group_ticks(axis, part["group"], part["queries"])
        label(axis, group_label(axis_name), title=display_name(strategy))
    axes[0].set_ylabel("correct responses per query\n(mean, 95 % interval)", fontsize=10)
    heights = [table["mean_high"].max(), table["quota"].max(), line_at]
    axes[0].set_ylim(0, 1.35 * np.nanmax(heights) or 1)
    return figure


def _draw_quota(axis: Axes, part: pd.DataFrame) -> None:
    """Mean quota per group as a short line, the shortfall hatched between bar and line."""
    places = np.arange(len(part))
    early = part["ended_early"].sum() > 0
    name = "shortfall (cap or run ended)" if early else "shortfall (cap reached)"
    missing: dict[str, Any] = {"color": "white", "edgecolor": GREY, "hatch": "////", "label": name}
    axis.bar(places, part["shortfall"], bottom=part["mean"], width=0.7, **missing)
    axis.hlines(part["quota"], places - 0.42, places + 0.42, colors="black", linewidth=2, label="mean quota")
    axis.legend(fontsize=8, loc="upper left", handlelength=1.4)


def responses_by_rank_figure(
    outcomes: pd.DataFrame, samples: pd.DataFrame | None = None, published: pd.DataFrame | None = None
) -> Figure:
    """Responses per query by difficulty rank, hardest first: one dot a query, the line a running median.

    ``published`` (the table ``responses_by_rank``) adds a panel of its own: the paper's data (figure 1 right).
    """
    table = tables.rank_table(outcomes, samples)
    n = outcomes["query_id"].nunique()
    title = f"Responses per query by difficulty rank ({n:,} queries)"
    figure, (axis, *others) = new_figure(title, 1 if published is None else 2, width=6.0 if published is None else 9.0)
    _remember_ranks(figure, table, outcomes)
    window, size = max(5, n // 20), 22 if n < 500 else 7
    known = bool(outcomes["fail_rate"].notna().any())
    for number, strategy in enumerate(tables.strategies_of(outcomes)):
        part = table[table["strategy"] == strategy].sort_values("rank")
        style = look(strategy, number)
        axis.scatter(part["rank"], part["responses"], s=size, alpha=0.35, linewidths=0, rasterized=n > 2000, **style)
        name = display_name(strategy) + _rank_note(strategy, known, bool(part["held_out"].any()))
        median = part["responses"].rolling(window, center=True, min_periods=1).median()
        axis.plot(part["rank"], median, color=style["color"], linewidth=2, label=name)
    order = "measured fail rate" if known else "own number of responses"
    label(axis, f"query rank by {order} (1 = hardest)", "correct responses per query")
    for other in others:
        axis.set_title("measured here", fontsize=10)
        _draw_published_ranks(other, published)
    legend_below(figure, axis)
    return figure


def _remember_ranks(figure: Figure, ranks: pd.DataFrame, outcomes: pd.DataFrame) -> None:
    """Of one dot a query, the mean per fail-rate bin."""
    frame = ranks.merge(outcomes[["strategy", "query_id", "fail_rate"]], on=["strategy", "query_id"])
    groups, axis_name = tables.difficulty_groups(frame)
    means = frame.assign(group=groups).groupby(["strategy", "group"], observed=True)["responses"].agg(["mean", "size"])
    table = means.reset_index().rename(columns={"size": "queries"})
    remember(figure, table, "mean", axis_name, OUTCOMES, note="mean of the dots")


def _draw_published_ranks(axis: Axes, published: Any) -> None:
    for strategy in dict.fromkeys(published["strategy"]):
        part = published[published["strategy"] == strategy]
        axis.plot(part["rank"], part["value"], markersize=4, label=display_name(strategy), **look(strategy))
    label(
        axis,
        "query rank (1 = hardest; 14,973 queries)",
        "",
        "the paper's data: local medians\nread off its figure 1 right",
    )
    axis.legend(fontsize=8)


def _rank_note(strategy: str, ranked_by_fail_rate: bool, held_out: bool) -> str:
    """Whether VRT's own trials made the rank: then chance puts its lucky queries on the easy side."""
    if strategy != "vrt" or not ranked_by_fail_rate:
        return ""
    return " (trials not used for the rank, scaled)" if held_out else " (ranked by the same trials)"


def pass_rate_ladder_figure(rates: pd.DataFrame) -> Figure:
    """Pass rate of the teacher by level: a dot per query, the mean with its bootstrap interval over queries."""
    table = tables.pass_at_k_table(rates)
    table = table[(table["k"] == 1) & ((table["group"] != tables.ALL) | (table["group"].nunique() == 1))]
    groups, axis_name = tables.difficulty_groups(rates)
    trials = int(rates["trials"].max())
    figure, (axis,) = new_figure(
        f"Teacher's pass rate{by_groups(axis_name)} ({len(rates):,} queries, {trials} trials each)"
    )
    remember(figure, table.drop(columns="k"), "pass_at_k", axis_name, samples_below(trials))  # k is 1
    generator = np.random.default_rng(0)
    for index, group in enumerate(table["group"]):
        values = rates.loc[groups.astype(str) == group, "pass_rate"]
        spread = index + generator.uniform(-0.28, 0.28, len(values))
        axis.scatter(spread, values, s=10, color=SKY, alpha=0.6, linewidths=0, label="" if index else "one query")
    name = "mean, 95 % interval over queries"
    draw_intervals(axis, np.arange(len(table)), table, "pass_at_k", fmt="o-", color=BLUE, capsize=4, label=name)
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
    for index, rate in enumerate(table["pass_at_k"]):
        axis.annotate(f"{rate:.2f}", (index, rate), (9, 6), textcoords="offset points", fontsize=9, bbox=box)
    group_ticks(axis, table["group"], table["queries"])
    label(axis, group_label(axis_name), "pass rate (share of trials)")
    axis.set_ylim(-0.02, 1.04)
    legend_below(figure, axis, 2)
    return figure


def coverage_by_level_figure(outcomes: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Share of queries with a correct response, by group and strategy, with Wilson intervals.

    ``published`` (the table ``metamathqa_by_level``) adds a panel of its own: the paper's data, not this run's.
    """
    table, axis_name = tables.bias_table(outcomes), _axis_name(outcomes)
    n = outcomes["query_id"].nunique()
    columns = 1 if published is None else 2
    figure, axes = new_figure("Coverage: queries with at least one correct response", columns, share_y=True, width=7.5)
    remember(figure, table, "coverage", axis_name, OUTCOMES, 100)
    strategies = tables.strategies_of(outcomes)
    for number, strategy in enumerate(strategies):
        part = table[table["strategy"] == strategy]
        shifted = side_by_side(len(part), number, len(strategies))
        style = look(strategy, number) | {"linestyle": "", "label": display_name(strategy)}
        draw_intervals(axes[0], shifted, part, "coverage", scale=100, **style)
    first = table[table["strategy"] == strategies[0]]
    group_ticks(axes[0], first["group"], first["queries"])
    label(axes[0], group_label(axis_name), "coverage (% of queries, Wilson 95 %)", f"measured here ({n:,} queries)")
    legend_below(figure, axes[0])
    if published is not None:
        single = published[published["level"].astype(str) != "all"]
        remember_published(figure, single[single["quantity"] == "coverage"])
        levels = single.pivot(index="level", columns="quantity", values="value")
        axes[1].bar(np.arange(len(levels)), levels["coverage"], color="white", edgecolor=GREY, hatch="..", width=0.6)
        above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
        for index, value in enumerate(levels["coverage"]):
            axes[1].annotate(f"{value:.1f}", (index, value), (0, 3), **above)
        group_ticks(axes[1], levels.index, levels["queries"].astype(int))
        label(axes[1], "MATH level (queries)", title="the paper's data: MetaMathQA-MATH-AnsAug\n(figure 2 left)")
    axes[0].set_ylim(0, 108)
    return figure


def pass_at_k_figure(rates: pd.DataFrame, group: str = "", k: int = 0, published: pd.DataFrame | None = None) -> Figure:
    """Share of queries solved by at least one of k trials (the paper's figure 2 right), one curve per group.

    ``group`` picks one curve out, ``k`` draws a line at that many trials; ``published`` (the table ``pass_at_k``)
    adds a panel of its own: the paper's curves.
    """
    from matplotlib import colormaps

    table = tables.pass_at_k_table(rates)
    axis_name = tables.difficulty_groups(rates)[1]
    title = f"pass@k{by_groups(axis_name)} ({len(rates):,} queries)"
    figure, (axis, *others) = new_figure(
        title, 1 if published is None else 2, share_y=True, width=6.0 + 2.5 * (published is not None)
    )
    remember(figure, table, "pass_at_k", axis_name, samples_below(int(rates["trials"].max())), 100)
    groups = list(dict.fromkeys(table["group"]))
    for index, name in enumerate(groups):
        part = table[table["group"] == name]
        colour = "black" if name == tables.ALL else colormaps["viridis"](0.95 * index / max(1, len(groups) - 1))
        faint = bool(group) and group != name
        style: dict[str, Any] = {"color": colour, "alpha": 0.2 if faint else 1, "marker": "os^Dv"[index % 5]}
        shifted = part["k"] * 2 ** (0.05 * (index - (len(groups) - 1) / 2))  # side by side: intervals stay apart
        title = f"{axis_name} {name}" if name != tables.ALL else "all queries"
        draw_intervals(axis, shifted, part, "pass_at_k", scale=100, capsize=2, markersize=5, label=title, **style)
    ks = sorted(set(table["k"]))
    axis.set_xscale("log", base=2)
    axis.set_xticks(ks, [str(number) for number in ks])
    axis.minorticks_off()
    if k:
        axis.axvline(k, color=GREY, linestyle=":")
    label(axis, "k, trials per query (log scale)", "queries with a correct response (%)")
    for other in others:
        axis.set_title("measured here", fontsize=10)
        _draw_published_pass_at_k(other, published)
    axis.set_ylim(0, 104)
    legend_below(figure, axis)
    return figure


def _draw_published_pass_at_k(axis: Axes, published: Any) -> None:
    for number, ((model, temperature), part) in enumerate(published.groupby(["model", "temperature"], sort=False)):
        name = f"{model.removeprefix('DeepSeekMath-7B-')}, temperature {temperature:g}"
        axis.plot(
            part["k"], part["value"], marker="os^D"[number % 4], markersize=4, color=_GREYS[number % 4], label=name
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 8, 64, 512], ["1", "8", "64", "512"])
    axis.minorticks_off()
    label(axis, "k (log scale)", "", "the paper's data: DeepSeekMath-7B\non MATH500 (figure 2 right)")
    axis.legend(fontsize=8, loc="lower right")


def synthesis_cost_figure(outcomes: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Trials per query by group and strategy, and the achieving ratio had the cap been lower (paper's figure 4)."""
    cost, reached = tables.cost_table(outcomes), tables.achieving_table(outcomes, samples)
    axis_name = _axis_name(outcomes)
    n = outcomes["query_id"].nunique()
    figure, (left, right) = new_figure(f"Cost of synthesis ({n:,} queries)", 2, width=7.5)
    remember(figure, cost, "mean", axis_name, OUTCOMES, note="trials per query")
    remember(figure, reached, "achieving_ratio", axis_name, OUTCOMES, 100)
    for strategy in tables.strategies_of(outcomes):
        part = cost[cost["strategy"] == strategy]
        name = f"{display_name(strategy)}: {part['trials'].sum():,} trials"
        draw_intervals(left, np.arange(len(part)), part, "mean", label=name, **look(strategy))
        curve = reached[reached["strategy"] == strategy] if len(reached) else reached
        if len(curve):
            style = look(strategy) | {"label": display_name(strategy)}
            draw_intervals(right, curve["cap"], curve, "achieving_ratio", scale=100, **style)
    first = cost[cost["strategy"] == cost["strategy"].iloc[0]]
    group_ticks(left, first["group"], first["queries"])
    label(left, group_label(axis_name), "trials per query (mean, 95 % interval)", "what was spent")
    left.legend(fontsize=8, loc="upper left")
    left.set_ylim(top=1.35 * left.get_ylim()[1])
    label(right, "cap on trials per query (log scale)", "queries that met their quota (%)", "had the cap been lower")
    if len(reached):
        caps = sorted(set(reached["cap"]))
        right.set_xscale("log", base=2)
        right.set_xticks(caps, [str(cap) for cap in caps], fontsize=9)
        right.minorticks_off()
        right.legend(fontsize=8, loc="lower right")
    right.set_ylim(0, 104)
    return figure


def _axis_name(outcomes: pd.DataFrame) -> str:
    return tables.difficulty_groups(outcomes)[1]

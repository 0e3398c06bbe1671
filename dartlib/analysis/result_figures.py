"""Figures about models and about the paper's own numbers: accuracy, training loss, verdicts, published curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dartlib.analysis import tables
from dartlib.analysis.points import remember, remember_published
from dartlib.analysis.style import (
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    display_name,
    draw_intervals,
    group_ticks,
    label,
    legend_below,
    legend_names,
    look,
    new_figure,
)
from dartlib.analysis.text import escape
from dartlib.records import STRATEGIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_VERDICT_COLOURS = {"correct": GREEN, "wrong": ORANGE, "no_answer": GREY, "timeout": RED, "error": PURPLE}


def accuracy_by_level_figure(items: pd.DataFrame, source: str, title: str = "Accuracy") -> Figure:
    """Accuracy of every model on one source, by level and over all levels, with intervals over its questions."""
    table = tables.accuracy_by_level(items[items["source"] == source])
    models, groups = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["group"]))
    sizes = table[table["model"] == models[0]].set_index("group")["n"]
    heading = f"{title} on {escape(source, 'figure')}"
    samples = items["trial"].nunique()
    asked = f"{sizes.iloc[-1]:,} questions, {samples} sample{'s' if samples > 1 else ''} each"
    figure, (axis,) = new_figure(f"{heading} ({asked})", width=7.0)
    step, names = 0.8 / len(models), legend_names(models)
    crowded = len(models) > 6
    thin: dict[str, Any] = {"linestyle": "", "capsize": 0, "markersize": 4 if crowded else 6}
    for number, model in enumerate(models):
        part = table[table["model"] == model]
        remember(figure, part, "accuracy", "level", (f"{model}/items.parquet", "", None), 100)
        places = np.array([groups.index(group) for group in part["group"]]) + step * (number - (len(models) - 1) / 2)
        style = look(model) | thin | {"elinewidth": 0.8 if crowded else 1.5, "label": names[model]}
        draw_intervals(axis, places, part, "accuracy", scale=100, **style)
    if "all" in groups and len(groups) > 1:
        axis.axvspan(len(groups) - 1.5, len(groups) - 0.5, color="#EEEEEE", zorder=0)
    ticks = ["all levels" if group == "all" else group for group in groups]
    group_ticks(axis, ticks, [sizes[group] for group in groups])
    axis.set_xlim(-0.5, len(groups) - 0.5)
    label(axis, "level (questions)", "accuracy (%), 95 % interval")
    axis.set_ylim(-2, 104)  # the same scale for every benchmark; a marker at 0 stays whole
    legend_below(figure, axis, 4)
    return figure


def training_loss_figure(logs: pd.DataFrame) -> Figure:
    """Loss by optimiser step of every training run: thin as logged, thick as a running mean."""
    tokens = logs.groupby("run")["tokens"].max()
    size = " to ".join(f"{count:,.0f}" for count in sorted({tokens.min(), tokens.max()}))
    count = "1 run, " if len(tokens) == 1 else f"{len(tokens)} runs, each "
    figure, (axis,) = new_figure(f"Training loss ({count}{size} tokens)")
    names = legend_names(list(dict.fromkeys(logs["run"])))
    for run, name in names.items():
        part, colour = logs[logs["run"] == run], look(run)["color"]
        last = (f"{run}/training_log.jsonl", f"step == {part['step'].max()}", None)
        remember(figure, part.tail(1), "loss", "", last)  # a point per step would be too many
        axis.plot(part["step"], part["loss"], color=colour, alpha=0.3, linewidth=0.8)
        smooth = part["loss"].rolling(max(1, len(part) // 20), min_periods=1, center=True).mean()
        axis.plot(part["step"], smooth, color=colour, linewidth=2, label=name)
    axis.locator_params(axis="x", integer=True)
    label(axis, "optimiser step", "loss (nats per response token)")
    legend_below(figure, axis)
    return figure


def verdict_shares_figure(table: pd.DataFrame) -> Figure:
    """Shares of the five verdicts per stage, from a verdict_table, one bar a stage."""
    stages = list(dict.fromkeys(table["stage"]))
    figure, (axis,) = new_figure("Verdicts by stage", width=7.0)
    figure.set_figheight(max(4.0, 1.4 + 0.42 * len(stages)))
    for stage, part in table.rename(columns={"count": "queries"}).groupby("stage", sort=False):
        file = "samples.parquet" if stage == "synthesis" else f"{stage}/items.parquet"
        remember(figure, part, "share", "", (file, "", 1), 100)  # failed requests leave no rows
    left = np.zeros(len(stages))
    for verdict, colour in _VERDICT_COLOURS.items():
        shares = table[table["verdict"] == verdict].set_index("stage")["share"][stages].to_numpy() * 100
        count = int(table.loc[table["verdict"] == verdict, "count"].sum())
        axis.barh(
            np.arange(len(stages)), shares, left=left, color=colour, label=f"{verdict.replace('_', ' ')} ({count:,})"
        )
        left += shares
    totals = table.groupby("stage")["count"].sum()
    names = [f"{display_name(stage)}\n({totals[stage]:,} replies)" for stage in stages]
    axis.set_yticks(range(len(stages)), names, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("share of replies (%)", fontsize=10)
    axis.grid(visible=False, axis="y")
    legend_below(figure, axis, 5)
    return figure


def published_averages_figure(averages: pd.DataFrame, ranks: pd.DataFrame) -> Figure:
    """The paper's figure 1 redrawn from its numbers: average accuracy (axis from zero) and responses by rank."""
    figure, (left, right) = new_figure("The paper's figure 1, redrawn from its published numbers", 2, width=8.0)
    bases, data = list(dict.fromkeys(averages["base_model"])), list(dict.fromkeys(averages["data"]))
    remember_published(figure, averages)
    remember_published(figure, ranks)
    colours = dict(zip(data, [SKY, PURPLE, *(look(name)["color"] for name in STRATEGIES)], strict=True))
    for number, name in enumerate(data):
        part = averages[averages["data"] == name].set_index("base_model")["value"][bases]
        places = np.arange(len(bases)) + 0.16 * (number - 2)
        left.bar(places, part, width=0.15, color=colours[name], label=display_name(name))
        for place, value in zip(places, part, strict=True):
            left.annotate(f"{value:.1f}", (place, value), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    group_ticks(left, bases)
    label(left, "base model", "mean accuracy of six benchmarks (%)", "printed values, axis from zero")
    left.set_ylim(0, 52)
    left.legend(fontsize=8, ncols=2, loc="upper center")
    for strategy in STRATEGIES:
        part = ranks[ranks["strategy"] == strategy]
        style = look(strategy)
        right.plot(part["rank"], part["value"], markersize=4, label=display_name(strategy), **style)
    label(right, "query rank (1 = hardest; 14,973 queries)", "responses per query", "local medians read off the figure")
    right.legend(fontsize=8)
    return figure


def published_scaling_figure(scaling: pd.DataFrame) -> Figure:
    """The paper's figure 3 redrawn: MATH accuracy against the number of training samples, axis from zero."""
    bases = list(dict.fromkeys(scaling["base_model"]))
    figure, axes = new_figure(
        "The paper's figure 3, redrawn from values read off it", len(bases), share_y=True, width=8
    )
    remember_published(figure, scaling)
    for axis, base in zip(axes, bases, strict=True):
        for strategy in STRATEGIES:
            part = scaling[(scaling["base_model"] == base) & (scaling["strategy"] == strategy)]
            axis.plot(
                part["training_samples"], part["value"], markersize=4, label=display_name(strategy), **look(strategy)
            )
        axis.set_xscale("log")
        label(axis, "training samples", title=base)
    axes[0].set_ylabel("MATH test accuracy (%)", fontsize=10)
    axes[0].set_ylim(0, 1.08 * scaling["value"].max())
    legend_below(figure, axes[0])
    return figure


def published_cost_figure(cost: pd.DataFrame) -> Figure:
    """The paper's figure 4 (3) and (4) redrawn: raw samples and achieving ratio against the cap, axes from zero."""
    figure, axes = new_figure("The paper's figure 4 (3), (4), redrawn from values read off it", 2, width=7.5)
    remember_published(figure, cost)
    quantities = [("raw_samples", 1e-6, "raw samples (million)"), ("achieving_ratio", 1.0, "achieving ratio (%)")]
    for axis, (quantity, scale, name) in zip(axes, quantities, strict=True):
        part = cost[cost["quantity"] == quantity]
        for strategy in [name for name in STRATEGIES if name in set(part["strategy"])]:
            curve = part[part["strategy"] == strategy]
            axis.plot(curve["cap"], scale * curve["value"], label=display_name(strategy), **look(strategy))
        caps = sorted(set(part["cap"]))
        axis.set_xscale("log", base=2)
        axis.set_xticks(caps, [str(cap) for cap in caps], fontsize=8)
        axis.minorticks_off()
        label(axis, "cap on trials per query (log scale)", name)
        axis.set_ylim(0, 1.08 * scale * part["value"].max())
    legend_below(figure, axes[0])
    return figure

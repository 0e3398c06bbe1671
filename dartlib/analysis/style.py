"""How figures look: one palette that colour-blind readers can tell apart, one marker per strategy, axes from zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dartlib.analysis.text import escape

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct under the common colour-vision deficiencies and in grey
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#666666",
)
WHISKERS: dict[str, Any] = {"fmt": "none", "ecolor": "black", "linewidth": 1}  # of bars
_NAMES = {"vrt": "VRT", "uniform": "Uniform", "prop2diff": "Prop2Diff", "base": "base model"}
_LOOKS = {"vrt": (BLUE, "o"), "uniform": (ORANGE, "s"), "prop2diff": (GREEN, "^"), "base": (GREY, "D")}
_OTHER_LOOKS = ((PURPLE, "v"), (RED, "p"), (SKY, "X"), (GREY, "D"), ("black", "*"))


def display_name(name: str) -> str:
    """``prop2diff-seed1`` as ``Prop2Diff, seed 1``; other names escaped for a figure."""
    strategy, separator, seed = name.partition("-seed")
    if strategy not in _NAMES:
        return escape(name if len(name) <= 32 else name[:31] + "…", "figure")
    return f"{_NAMES[strategy]}, seed {escape(seed, 'figure')}" if separator else _NAMES[strategy]


def legend_names(models: Sequence[str]) -> dict[str, str]:
    """Legend text per model; of several seeds only the first is named, ``VRT (5 seeds)``, the others stay unnamed."""
    strategies = [model.partition("-seed")[0] for model in models]
    names = {}
    for place, (model, strategy) in enumerate(zip(models, strategies, strict=True)):
        seeds = strategies.count(strategy)
        several = f"{display_name(strategy)} ({seeds} seeds)" if strategies.index(strategy) == place else ""
        names[model] = display_name(model) if seeds == 1 else several
    return names


def look(name: str, number: int = 0) -> dict[str, Any]:
    """Colour and marker of a strategy or of a model trained on it; of another data set by its number in the figure."""
    colour, marker = _LOOKS.get(name.partition("-seed")[0], _OTHER_LOOKS[number % len(_OTHER_LOOKS)])
    return {"color": colour, "marker": marker}


def new_figure(title: str, columns: int = 1, *, share_y: bool = False, width: float = 6.0) -> tuple[Figure, list[Axes]]:
    """A figure 4 inches high with ``columns`` axes side by side. It belongs to no window and needs no backend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.0), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, columns, sharey=share_y, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#DDDDDD", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9)
    return figure, list(axes)


def label(axis: Axes, x: str, y: str = "", title: str = "") -> None:
    """Axis labels and panel title in the sizes of this package; the y axis starts at zero."""
    axis.set_xlabel(x, fontsize=10)
    axis.set_ylabel(y, fontsize=10)
    if title:
        axis.set_title(title, fontsize=10)
    axis.set_ylim(bottom=0)


def legend_below(figure: Figure, axis: Axes, columns: int = 3) -> None:
    """One legend under all panels, where it can hide no data."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)


def draw_intervals(axis: Axes, x: Any, table: pd.DataFrame, column: str, *, scale: float = 1, **style: Any) -> None:
    """Points of a table's column with its ``_low`` and ``_high`` as whiskers; ``fmt="none"`` for whiskers alone."""
    middle, low, high = (scale * table[column + end].to_numpy(dtype=float) for end in ("", "_low", "_high"))
    whiskers = np.clip(np.stack([middle - low, high - middle]), 0, None)  # never negative by rounding
    axis.errorbar(x, middle, whiskers, **{"capsize": 3, "linewidth": 1.5, **style})


def by_groups(axis_name: str) -> str:
    """`` by level`` for a title; nothing when all queries are one group (see difficulty_groups)."""
    return "" if axis_name == "queries" else f" by {axis_name}"


def group_label(axis_name: str) -> str:
    """The axis label under group_ticks with numbers of queries."""
    return "queries" if axis_name == "queries" else f"{axis_name} (queries)"


def side_by_side(places: int, number: int, count: int) -> Any:
    """The x of series ``number`` of ``count`` in groups at 0, 1 … ``places`` - 1, never as far as the next group."""
    return np.arange(places) + min(0.2, 0.8 / count) * (number - (count - 1) / 2)


def group_ticks(axis: Axes, groups: Iterable[Any], queries: Iterable[int] | None = None) -> None:
    """Ticks at 0, 1, 2 … named after the groups, with the number of queries under each name."""
    names = [escape(group, "figure") for group in groups]
    if queries is not None:
        names = [f"{name}\n({count})" for name, count in zip(names, queries, strict=True)]
    axis.set_xticks(range(len(names)), names, fontsize=9 if len(names) < 7 else 8)
    axis.set_xlim(-0.5, len(names) - 0.5)

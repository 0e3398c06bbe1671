"""Students of several sizes and seeds in one run: a row and a point per kind of student, with honest intervals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from dartlib.analysis.points import remember
from dartlib.analysis.style import display_name, draw_intervals, label, legend_below, look, new_figure
from dartlib.analysis.tables import strategies_of
from dartlib.analysis.text import escape
from dartlib.statistics import MIN_SEEDS, clustered_interval, compare_over_seeds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def sweep_table(items: pd.DataFrame, source: str) -> pd.DataFrame:
    """Accuracy on one source of every kind of student: models named ``<strategy>-<point>-seed<n>``, or without point.

    Columns: strategy, point, seeds, items, accuracy (mean over seeds), accuracy_low, accuracy_high, covers. With five
    seeds or more the interval holds over seeds and items (`compare_over_seeds` against nothing), else over items.
    """
    import pandas as pd

    own = items[items["source"] == source].assign(right=lambda part: (part["verdict"] == "correct").astype(float))
    wide = own.pivot_table(index="model", columns="query_id", values="right")
    kinds = pd.Series([re.sub(r"-seed\d+$", "", model) for model in wide.index], index=wide.index)
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(re.sub(r"-seed\d+$", "", model) for model in items["model"]):
        scores = wide[kinds == kind].dropna(axis=1).to_numpy()
        strategy, _, point = kind.partition("-")
        row = {"strategy": strategy, "point": point, "seeds": len(scores), "items": scores.shape[1]}
        if enough := len(scores) >= MIN_SEEDS:
            low, high = compare_over_seeds(np.zeros_like(scores), scores)[1:3]
        else:
            low, high = clustered_interval(scores.mean(axis=0), seed=0)
        row |= {"accuracy": scores.mean(), "accuracy_low": max(0.0, low), "accuracy_high": min(1.0, high)}
        rows.append(row | {"covers": "seeds and questions" if enough else "questions"})
    return pd.DataFrame(rows)


def sweep_figure(items: pd.DataFrame, source: str) -> Figure:
    """`sweep_table` drawn: accuracy by point of the sweep, small numbers first, one line per strategy."""
    table = sweep_table(items, source)
    table = table[table["point"] != ""].sort_values("point", key=lambda column: column.map(_in_order))
    points = list(dict.fromkeys(table["point"]))
    figure, (axis,) = new_figure(f"Accuracy on {escape(source, 'figure')} ({table['items'].max():,} questions)")
    for number, strategy in enumerate(strategies_of(table)):
        part = table[table["strategy"] == strategy]
        remember(figure, part.rename(columns={"point": "group"}), "accuracy", "point", None, 100)
        places = np.array([points.index(point) for point in part["point"]]) + 0.06 * (number - 1)
        style = look(strategy, number) | {"capsize": 3, "label": display_name(strategy)}
        draw_intervals(axis, places, part, "accuracy", scale=100, **style)
    axis.set_xticks(range(len(points)), [escape(point, "figure") for point in points])
    label(axis, "point of the sweep", f"accuracy (%), 95 % over {' / '.join(dict.fromkeys(table['covers']))}")
    legend_below(figure, axis, 3)
    return figure


def _in_order(point: str) -> tuple[list[float], str]:
    """Sorts ``rows600`` before ``rows1200``, and ``learning_rate1e_05`` before ``learning_rate0_0005``."""
    found = re.findall(r"\d+(?:_\d+)?(?:e_\d+)?", point)
    return [float(number.replace("e_", "e-").replace("_", ".")) for number in found], point

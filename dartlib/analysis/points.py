"""The points of a figure: the values that are drawn, and for each the rows that made it.

A figure carries its points from the moment it is drawn, made of the very table that is drawn, and `publish` writes them
into the sidecar. From there any of them leads back to its rows, and so to its samples, in whatever place the run folder
lies. What no condition on rows can say (groups by a fail rate that was measured on the spot, data sets of one's own)
keeps its value and names no file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.tables import ALL, BINS
from dartlib.records import RecordError
from dartlib.sampling.conditions import Condition
from dartlib.sampling.pool import PoolError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    from matplotlib.figure import Figure

Rows = tuple[str, str, int | None]  # the end of an input's path, a condition, and how many rows there are per query
OUTCOMES: Rows = ("outcomes.parquet", "", 1)
_CARRIED = "dartlib_points"  # the attribute of a figure
_NAMED = ("run", "stage", "model", "strategy", "verdict")  # columns of a table that name a series, in labels
_FILTERED = {"strategy": "strategy", "source": "benchmark", "verdict": "verdict"}  # columns of a table -> of its file
_STEPS = {"k": "k = ", "cap": "cap ", "step": "step "}
_ABOUT = ("value", "unit", "source", "mark")  # columns of a published table that are no part of a row's name


@dataclass(frozen=True, slots=True)
class Point:
    """A drawn value with its interval, None where there is none.

    ``file`` is the input it was made from as the sidecar's ``inputs`` name it, empty for published numbers;
    ``where`` tells its rows there, as `sampling.conditions` understands it, empty for all; ``n`` counts them.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    file: str = ""
    where: str = ""
    n: int | None = None


def samples_below(trials: int, first: int = 0) -> Rows:
    """The trials ``first`` to ``trials`` - 1 of every query."""
    return "samples.parquet", (f"trial >= {first} and " if first else "") + f"trial < {trials}", trials - first


def remember(
    figure: Figure, table: pd.DataFrame, column: str, axis: str, rows: Rows | None, scale: float = 1, note: str = ""
) -> None:
    """Have a figure carry one point per row of the table that it draws, ``scale`` times its ``column``.

    Labels and conditions follow from the columns that the table has: model, strategy, source, ``group`` on the axis
    of that name, k, cap; ``note`` ends the label. ``rows`` says what a point was made from (None: no rows of a run);
    where they are not told per query, `publish` counts them.
    """
    file, also, each = rows or ("", "", None)
    for row in table.to_dict("records"):
        value, low, high = (_scaled(row.get(column + end), scale) for end in ("", "_low", "_high"))
        conditions = [f"{of_file} == {row[key]!r}" for key, of_file in _FILTERED.items() if key in row]
        group = _group_condition(axis, str(row.get("group", ALL)), file)
        where = " and ".join(part for part in (*conditions, group, also) if part)
        found = (file, where, each and each * int(row["queries"])) if file and group is not None else ("", "", None)
        vars(figure).setdefault(_CARRIED, []).append(Point(_label(row, axis, note), value, low, high, *found))


def remember_published(figure: Figure, table: pd.DataFrame) -> None:
    """Have a figure carry the rows of a table of `load_published`, named after where the paper has them."""
    for row in table.to_dict("records"):
        named = [f"{'' if isinstance(row[key], str) else f'{key} '}{row[key]}" for key in row if key not in _ABOUT]
        label = f"published: {', '.join(named)} ({row['source']}, {row['mark']})"
        vars(figure).setdefault(_CARRIED, []).append(Point(label, _scaled(row["value"], 1)))


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None or value != value else round(scale * float(value), 10)


def _label(row: Mapping[Any, Any], axis: str, note: str) -> str:
    parts = [str(row[key]) for key in _NAMED if key in row]
    if "group" in row:
        group = str(row["group"]).replace("–", "-")  # as a person types it
        parts.append({ALL: "all queries", "none": f"no {axis}"}.get(group, f"{axis} {group}"))
    parts += [f"{words}{row[key]}" for key, words in _STEPS.items() if key in row]
    return ", ".join(parts) + (f": {note}" if note else "")


def _group_condition(axis: str, group: str, file: str) -> str | None:
    """The condition of a difficulty group (see tables.difficulty_groups); None when the file cannot tell it."""
    if axis == "level" and group != ALL:
        return "level.isna()" if group == "none" else f"level == {group}"
    if group == ALL or file != OUTCOMES[0]:
        return "" if group == ALL else None
    number, place = BINS.index(group), "fail_rate * 5 + 1e-9"
    last = number == len(BINS) - 1
    return f"({place} >= {number} or fail_rate.isna())" if last else f"{place} >= {number} and {place} < {number + 1}"


def located_points(figure: Figure, given: Iterable[Point], inputs: Mapping[str, Path]) -> list[Point]:
    """The points that a figure carries and those ``given``, for its sidecar: their files named as in ``inputs``.

    Every condition is counted in its file. A point whose rows are others than those drawn (queries were left out)
    loses its file and keeps its value. Raises ValueError for two points with one label.
    """
    points: list[Point] = [*vars(figure).get(_CARRIED, []), *given]
    labels = [point.label for point in points]
    if doubled := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"two points of the figure are called {doubled[0]!r}")
    count, located = cache(_count), []
    for point in points:
        files = [name for name in inputs if point.file and f"/{name}".endswith(f"/{point.file}")]
        n = count(inputs[files[0]], point.where) if len(files) == 1 else None
        same = n is not None and point.n in (None, n)
        found = {"file": files[0], "n": n} if same else {"file": "", "where": "", "n": None}
        located.append(replace(point, **found))
    return located


def _count(path: Path, where: str) -> int | None:
    with suppress(RecordError):  # no table, or one without these columns
        return int(select("count(*) AS n", path, where)["n"].item())
    return None


def points_of(sidecar: Path) -> list[Point]:
    """The points in a figure's sidecar. Raises RecordError when it is none, or was made without points."""
    try:
        return [Point(**row) for row in json.loads(sidecar.read_bytes())["points"]]
    except (OSError, ValueError, KeyError, TypeError):
        why = "no sidecar with points: draw the figure again" if sidecar.is_file() else "no such file"
        raise RecordError(f"{sidecar}: {why}") from None


def file_of(run_folder: Path, point: Point) -> Path:
    """The file a point was made from, in a run folder that may lie anywhere. Raises RecordError."""
    path = run_folder / point.file
    if not point.file or not path.resolve().is_relative_to(run_folder.resolve()):
        raise RecordError(f"{point.label}: no rows of the run made this value ({point.file or 'published'})")
    if not path.is_file():
        raise RecordError(f"{point.file} is not in {run_folder}: name the run that holds it")
    return path


def rows_of(run_folder: Path, point: Point) -> pd.DataFrame:
    """The rows that made a point, with all columns of their file. Raises RecordError when they cannot be told."""
    return select("*", file_of(run_folder, point), point.where)


def select(what: str, path: Path, where: str, rest: str = "", **beside: Path) -> pd.DataFrame:
    """SELECT ``what`` from the rows of a file that a condition keeps (the table ``chosen``), and the ``rest`` in SQL.

    Files: Parquet, JSON Lines, or JSON (an object is one row); those ``beside`` are tables of that name. Raises
    RecordError for a file that holds no rows, and for a condition that is not understood or names no column of it.
    """
    import duckdb

    with _database().cursor() as connection:
        try:
            for name, file in {"rows": path, **beside}.items():
                read = connection.read_parquet if file.suffix == ".parquet" else connection.read_json
                read(re.sub(r"[*?\[]", r"[\g<0>]", str(file))).create_view(name)  # nothing in a path is a wildcard
            columns = [str(row[0]) for row in connection.execute("DESCRIBE rows").fetchall()]
            condition = Condition(where or "1 == 1", columns)
            sql = f"WITH chosen AS (SELECT * FROM rows WHERE {condition.sql}) SELECT {what} FROM chosen {rest}"
            return connection.execute(sql, condition.values).df()
        except (duckdb.Error, PoolError) as error:
            raise RecordError(f"{path}: {error}") from None


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One in memory for all points: to start one takes longer than a question."""
    import duckdb

    return duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})

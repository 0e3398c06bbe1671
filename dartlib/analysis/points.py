"""The points of a figure: the values that are drawn, and for each the rows that made it.

A figure carries its points from the moment it is drawn, made of the very table that is drawn, and `publish` writes them
into the sidecar. From there any of them leads back to its rows, and so to its samples, in whatever place the run folder
lies. What no condition on rows can say (groups by a fail rate that was measured on the spot, data sets of one's own)
keeps its value and names no file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.tables import ALL, BINS
from dartlib.records import RecordError
from dartlib.sampling.conditions import Condition
from dartlib.sampling.pool import PoolError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    from matplotlib.figure import Figure, SubFigure

OUTCOMES, SAMPLES, ITEMS = "outcomes.parquet", "samples.parquet", "items.parquet"
_DIGITS = 10  # of the values in a sidecar
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


def remember(
    figure: Figure,
    table: pd.DataFrame,
    column: str,
    axis_name: str = "",
    *,
    file: str = "",
    also: str = "",
    each: int | None = None,
    scale: float = 1,
    note: str = "",
) -> None:
    """Have a figure carry one point per row of the table that it draws, ``scale`` times its ``column``.

    Labels and conditions follow from the columns that the table has: model, strategy, source, ``group`` on the axis
    called ``axis_name``, k, cap; ``note`` ends the label, ``also`` is one more condition. ``file`` is the end of the
    input's path, ``each`` the rows in it per query (None: `publish` counts them).
    """
    kept = _carried(figure)
    for row in table.to_dict("records"):
        value, low, high = (_scaled(row.get(column + end), scale) for end in ("", "_low", "_high"))
        conditions = [f"{of_file} == {row[key]!r}" for key, of_file in _FILTERED.items() if key in row]
        group = _group_condition(axis_name, str(row.get("group", ALL)), file)
        conditions += [part for part in (group, also) if part]
        found = (file, " and ".join(conditions)) if file and group is not None else ("", "")
        n = each * int(row["queries"]) if each and found[0] else None
        kept.append(Point(_label(row, axis_name, note), value, low, high, *found, n))


def remember_published(figure: Figure | SubFigure, table: pd.DataFrame) -> None:
    """Have a figure carry the rows of a table of `load_published`, named after where the paper has them."""
    for row in table.to_dict("records"):
        named = [str(value) if isinstance(value, str) else f"{key} {value}" for key, value in row.items()
                 if key not in _ABOUT]  # fmt: skip
        label = f"published: {', '.join(named)} ({row['source']}, {row['mark']})"
        _carried(figure).append(Point(label, _scaled(row["value"], 1)))


def _carried(figure: Figure | SubFigure) -> list[Point]:
    points: list[Point] = vars(figure).setdefault("dartlib_points", [])
    return points


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None or value != value else round(scale * float(value), _DIGITS)


def _label(row: Mapping[Any, Any], axis_name: str, note: str) -> str:
    parts = [str(row[key]) for key in _NAMED if key in row]
    if "group" in row:
        group = str(row["group"]).replace("–", "-")  # as a person types it
        parts.append({ALL: "all queries", "none": f"no {axis_name}"}.get(group, f"{axis_name} {group}"))
    parts += [f"{words}{row[key]}" for key, words in _STEPS.items() if key in row]
    return ", ".join(parts) + (f": {note}" if note else "")


def _group_condition(axis_name: str, group: str, file: str) -> str | None:
    """The condition of a difficulty group (see tables.difficulty_groups); None when the file cannot tell it."""
    if group == ALL:
        return ""
    if axis_name == "level":
        return "level.isna()" if group == "none" else f"level == {group}"
    if axis_name != "fail rate" or file != OUTCOMES:
        return None
    number, place = BINS.index(group), "fail_rate * 5 + 1e-9"
    if number == len(BINS) - 1:
        return f"({place} >= {number} or fail_rate.isna())"
    return f"{place} < {number + 1}" + (f" and {place} >= {number}" if number else "")


def located_points(figure: Figure, given: Iterable[Point], inputs: Mapping[str, Path]) -> list[Point]:
    """The points that a figure carries and those ``given``, for its sidecar: their files named as in ``inputs``.

    Every condition is counted in its file. A point whose rows are others than those drawn (queries were left out)
    loses its file and keeps its value. Raises ValueError for two points with one label.
    """
    points = [*_carried(figure), *given]
    labels = [point.label for point in points]
    if doubled := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"two points of the figure are called {doubled[0]!r}")
    named = {file: [name for name in inputs if f"/{name}".endswith(f"/{file}")] for file in {p.file for p in points}}
    counts: dict[tuple[str, str], int | None] = {}
    located = []
    for point in points:
        files = named[point.file] if point.file else []
        if len(files) == 1:
            key = (files[0], point.where)
            counts[key] = counts[key] if key in counts else _count_or_none(inputs[files[0]], point.where)
            if counts[key] is not None and point.n in (None, counts[key]):
                located.append(replace(point, file=files[0], n=counts[key]))
                continue
        located.append(replace(point, file="", where="", n=None))
    return located


def _count_or_none(path: Path, where: str) -> int | None:
    with suppress(RecordError):  # no table, or one without these columns
        return count_rows(path, where)
    return None


def points_of(sidecar: Path) -> list[Point]:
    """The points in a figure's sidecar. Raises RecordError when it is none, or was made without points."""
    try:
        rows = json.loads(sidecar.read_bytes())["points"]
        return [Point(**{field.name: row[field.name] for field in fields(Point)}) for row in rows]
    except FileNotFoundError:
        raise RecordError(f"{sidecar}: no such file") from None
    except (ValueError, KeyError, TypeError):
        raise RecordError(f"{sidecar}: no sidecar with points: draw the figure again") from None


def point_rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Points as a sidecar holds them."""
    return [asdict(point) for point in points]


def file_of(run_folder: Path, point: Point) -> Path:
    """The file a point was made from, in a run folder that may lie anywhere. Raises RecordError."""
    if not point.file:
        raise RecordError(f"{point.label}: no rows of a run made this value")
    path = run_folder / point.file
    if not path.resolve().is_relative_to(run_folder.resolve()):
        raise RecordError(f"{point.file}: lies outside of the run folder and is not read")
    if not path.is_file():
        raise RecordError(f"{point.file} is not in {run_folder}: name the run that holds it")
    return path


def rows_of(run_folder: Path, point: Point) -> pd.DataFrame:
    """The rows that made a point, with all columns of their file. Raises RecordError when they cannot be told."""
    with opened(rows=file_of(run_folder, point)) as connection:
        sql, values = selected(connection, point.where)
        return connection.execute(f"SELECT * FROM rows WHERE {sql}", values).df()


def count_rows(path: Path, where: str) -> int:
    """How many rows of a file a condition keeps."""
    with opened(rows=path) as connection:
        sql, values = selected(connection, where)
        (count,) = connection.execute(f"SELECT count(*) FROM rows WHERE {sql}", values).fetchall()[0]
        return int(count)


@contextmanager
def opened(**files: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory in which these files are tables: Parquet, JSON Lines, or JSON (an object is one row)."""
    import duckdb

    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as connection:
        for name, path in files.items():
            try:
                connection.register(name, _table(path))
            except (ValueError, AttributeError):  # also ArrowInvalid
                raise RecordError(f"{path}: holds no rows that can be read") from None
        yield connection


def _table(path: Path) -> Any:
    import pandas as pd
    import pyarrow.dataset as ds

    if path.suffix == ".parquet":
        return ds.dataset(path, format="parquet")
    text = path.read_text(encoding="utf-8")
    found = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    rows = found if isinstance(found, list) else [found]
    flat = [{k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
    return pd.DataFrame(flat)


def selected(connection: duckdb.DuckDBPyConnection, where: str) -> tuple[str, list[object]]:
    """A condition on the table ``rows`` as SQL with its constants."""
    if not where:
        return "true", []
    columns = [str(row[0]) for row in connection.execute("DESCRIBE rows").fetchall()]
    try:
        condition = Condition(where, columns)
    except PoolError as error:
        raise RecordError(str(error)) from None
    return condition.sql, condition.values

"""From a point of a figure to its samples: `dartlib show`, and the same in a notebook."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.points import OUTCOMES, SAMPLES, Point, count_rows, file_of, opened, points_of, selected
from dartlib.analysis.text import escape, table_html
from dartlib.files import NEWEST, REPOSITORY, RUNS, content_digest, find_path
from dartlib.records import RecordError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_READ = ["query_id", "trial", "verdict", "level", "query", "reference_answer", "answer", "response"]
_LIMIT = 400  # characters of a text in a terminal


def show_figure(figure: str, label: str = "", run: str = "", samples: int = 3) -> int:
    """Print the points of a figure, or one point with its rows recounted and some of its samples; returns 0.

    ``figure`` is the path of a picture or sidecar, or the name of a figure of ``run`` (a name or a folder; else the
    newest complete run that has it, else the repository's own figures). Raises RecordError for what is not there.
    """
    sidecar, run_folder = _find_figure(figure, run)
    points = points_of(sidecar)
    chosen = _chosen(points, label) if label else None
    print(escape(f"{sidecar.stem}: {json.loads(sidecar.read_bytes()).get('caption', '')}", "terminal"))
    if chosen is None:
        for point in points:
            rows = f"{point.n:,} rows of {point.file}" if point.n is not None else "no rows of a run"
            print(escape(f"  {point.label:<40} {_value(point):<32} {rows}", "terminal"))
        return 0
    print(*(escape(line, "terminal") for line in described(sidecar, chosen, run_folder)), sep="\n")
    if chosen.file:
        frame, total = samples_of(run_folder, chosen, samples)
        print(f"{_picked(frame, total)}:")
        for row in frame.to_dict("records"):
            print(*(f"    {name}: {_short(value)}" for name, value in row.items()), "", sep="\n")
    return 0


def show_point(sidecar: Path, label: str, run_folder: Path | None = None, samples: int = 10) -> None:
    """Display a point of a published figure in a notebook: value, rows, and some of its samples, all text escaped.

    ``run_folder`` holds the figure's inputs (default: the folder above the sidecar's). Raises RecordError.
    """
    from IPython.display import HTML, display

    run_folder, point = run_folder or _home(sidecar), _chosen(points_of(sidecar), label)
    page = "<br>".join(escape(line) for line in described(sidecar, point, run_folder))
    if point.file:
        frame, total = samples_of(run_folder, point, samples)
        page += table_html(frame, _picked(frame, total))
    display(HTML(page))


def described(sidecar: Path, point: Point, run_folder: Path) -> list[str]:
    """A point in words: its value, which rows made it, and whether they are still the same when counted again."""
    lines = [f"{point.label}: {_value(point)}"]
    if not point.file:
        return [*lines, "no rows of a run made this value: it was published, or no condition tells its rows"]
    path = file_of(run_folder, point)
    lines.append(f"made from {point.n:,} rows of {point.file}: {point.where or 'all'}")
    count, digest = count_rows(path, point.where), content_digest(path)
    drawn = json.loads(sidecar.read_bytes())["inputs"].get(point.file, "")
    if (count, digest) == (point.n, drawn):
        return [*lines, f"recounted: {count:,} rows; the file is the one that was drawn (sha256 {digest[:12]}…)"]
    return [*lines, f"CHANGED: {point.file} has sha256 {digest[:12]}… and {count:,} such rows; when drawn "
                    f"{drawn[:12]}… and {point.n:,}: draw the figure again"]  # fmt: skip


def samples_of(run_folder: Path, point: Point, limit: int = 10) -> tuple[pd.DataFrame, int]:
    """Some of the samples behind a point, and how many there are: the first by a hash of query and trial.

    Rows of outcomes lead to the trials that they count. Queries and references are added where the run keeps them;
    rows of another kind of file come as they are. Raises RecordError.
    """
    path = file_of(run_folder, point)
    beside = path.with_name(SAMPLES)
    joined = path.name == OUTCOMES and beside.is_file()
    with opened(rows=path, **({"samples": beside} if joined else {})) as connection:
        sql, values = selected(connection, point.where)
        chosen = f"(SELECT * FROM rows WHERE {sql})"
        if joined:
            chosen = f"(SELECT s.* FROM samples s JOIN {chosen} o ON s.query_id = o.query_id AND s.trial < o.n_trials)"
        (total,) = connection.execute(f"SELECT count(*) FROM {chosen}", values).fetchall()[0]
        columns = [str(row[0]) for row in connection.execute(f"DESCRIBE SELECT * FROM {chosen}", values).fetchall()]
        order = "ORDER BY md5(query_id || ' ' || trial)" if {"query_id", "trial"} <= set(columns) else ""
        frame = connection.execute(f"SELECT * FROM {chosen} {order} LIMIT ?", [*values, limit]).df()
    if "query_id" in columns and "query" not in columns:
        frame = frame.merge(_query_texts(path.parent, list(frame["query_id"])), how="left", on="query_id")
    return frame[[name for name in _READ if name in frame] if "response" in frame else list(frame)], int(total)


def _query_texts(folder: Path, query_ids: Sequence[str]) -> pd.DataFrame:
    """Queries and references from the file of a synthesis, or from an evaluation's pool; an empty frame without."""
    import pandas as pd
    import pyarrow.dataset as ds

    columns = ["query_id", "query", "reference_answer"]
    whole = folder / "queries.parquet"
    files = [whole] if whole.is_file() else sorted(folder.glob("pool/*/queries-*.parquet"))
    if not files:
        return pd.DataFrame(columns=columns)
    found = ds.dataset([str(file) for file in files]).to_table(columns, filter=ds.field("query_id").isin(query_ids))
    frame: pd.DataFrame = found.to_pandas().drop_duplicates("query_id", keep="last")
    return frame


def _find_figure(figure: str, run: str) -> tuple[Path, Path]:
    """The sidecar, and the run folder that holds its inputs."""
    named = (find_path(run) if "/" in run else RUNS / run) if run else None
    if Path(figure).suffix in (".json", ".png", ".pdf"):
        sidecar = Path(figure).with_suffix(".json")
        return sidecar, named or _home(sidecar)
    if named is None:
        try:
            named = find_path(NEWEST / "figures" / f"{figure}.json").parents[1]
        except FileNotFoundError:
            named = REPOSITORY
    sidecar = named / "figures" / f"{figure}.json"
    if not sidecar.is_file():
        found = [path.stem for path in sidecar.parent.glob("*.json")]
        raise RecordError(f"{sidecar.parent}: no figure {figure!r}; {did_you_mean(figure, found)}")
    return sidecar, _home(sidecar)


def _home(sidecar: Path) -> Path:
    """The run folder of a sidecar; the repository's own figures are those of the reference run."""
    folder = sidecar.resolve().parents[1]
    return RUNS / "reference" if folder == REPOSITORY else folder


def _chosen(points: Sequence[Point], label: str) -> Point:
    for point in points:
        if point.label == label:
            return point
    raise RecordError(f"no point {label!r} in this figure: {did_you_mean(label, [point.label for point in points])}")


def _value(point: Point) -> str:
    if point.value is None:
        return "no data"
    band = f" [{point.low:.6g}, {point.high:.6g}]" if point.low is not None and point.high is not None else ""
    return f"{point.value:.6g}{band}"


def _picked(frame: pd.DataFrame, total: int) -> str:
    kind = "samples" if "response" in frame else "rows"
    return f"{len(frame)} of its {total:,} {kind}" + (", picked by a hash" if len(frame) < total else "")


def _short(value: Any) -> str:
    text = str(value)
    shown = text if len(text) <= _LIMIT else f"{text[:_LIMIT]} … ({len(text)} characters)"
    return escape(shown, "terminal")

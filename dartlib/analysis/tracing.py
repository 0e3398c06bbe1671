"""From a point of a figure to its samples: `dartlib show`, and the same in a notebook."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dartlib.analysis.inputs import read_queries
from dartlib.analysis.points import OUTCOMES, Point, file_of, points_of, select
from dartlib.analysis.text import escape, shorten, table_html
from dartlib.files import NEWEST, REPOSITORY, RUNS, content_digest, find_path
from dartlib.records import RecordError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_READ = "query_id trial verdict level source benchmark query reference_answer answer response".split()
_BY_HASH = "ORDER BY md5(query_id || ' ' || trial)"  # nobody chose them, and they are the same every time


def show_figure(figure: str, label: str = "", run: str = "", samples: int = 3) -> int:
    """Print the points of a figure, or one point with its rows recounted and some of its samples; returns 0.

    ``figure`` is the path of a picture or sidecar, or the name of a figure of ``run`` (a name or a folder; else the
    newest complete run that has it, else the repository's own figures). Raises RecordError for what is not there.
    """
    sidecar, run_folder = _find_figure(figure, run)
    if label:
        lines, frame = trace_point(sidecar, label, run_folder, samples)
        for row in frame.to_dict("records"):
            lines += ["", *(f"    {name}: {shorten(value, 400)}" for name, value in row.items())]
    else:
        rows = {point: f"{point.n:,} rows of {point.file}" if point.file else "" for point in points_of(sidecar)}
        lines = [f"  {point.label:<40} {_value(point):<32} {rows[point]}" for point in rows]
    caption = json.loads(sidecar.read_bytes()).get("caption", "")
    print(*(escape(line, "terminal") for line in (f"{sidecar.stem}: {caption}", *lines)), sep="\n")
    return 0


def show_point(sidecar: Path, label: str, run_folder: Path, samples: int = 10) -> None:
    """Display a point of a published figure in a notebook: value, rows, and some of its samples, all text escaped.

    ``run_folder`` holds the figure's inputs. Raises RecordError.
    """
    from IPython.display import HTML, display

    lines, frame = trace_point(sidecar, label, run_folder, samples)
    display(HTML("<br>".join(map(escape, lines)) + (table_html(frame) if len(frame) else "")))


def trace_point(sidecar: Path, label: str, run_folder: Path, samples: int) -> tuple[list[str], pd.DataFrame]:
    """A point in words: its value, its rows, whether they are the same when counted again; and some of its samples."""
    import pandas as pd

    points = {point.label: point for point in points_of(sidecar)}
    if label not in points:
        raise RecordError(f"no point {label!r} in this figure: {did_you_mean(label, points)}")
    point = points[label]
    lines = [f"{label}: {_value(point)}"]
    if not point.file:
        return [*lines, "no rows of a run: it was published, or no condition tells its rows"], pd.DataFrame()
    path = file_of(run_folder, point)
    lines.append(f"made from {point.n:,} rows of {point.file}: {point.where or 'all'}")
    count, digest = int(select("count(*) AS n", path, point.where)["n"].item()), content_digest(path)
    drawn = json.loads(sidecar.read_bytes())["inputs"].get(point.file, "?")
    now, then = (f"{rows:,} rows, sha256 {hexed[:12]}…" for rows, hexed in ((count, digest), (point.n, drawn)))
    same = (count, digest) == (point.n, drawn)
    lines.append(f"recounted: {now}, as drawn" if same else f"CHANGED since it was drawn: {now}; drawn from {then}")
    frame, total = samples_of(run_folder, point, samples)
    return [*lines, f"{len(frame)} of its {total:,} {'samples' if 'response' in frame else 'rows'}:"], frame


def samples_of(run_folder: Path, point: Point, limit: int = 10) -> tuple[pd.DataFrame, int]:
    """Some of the samples behind a point, and how many there are: the first by a hash of query and trial.

    Rows of outcomes lead to the trials that they count. Queries and references are added where the run keeps them;
    rows of another kind of file come as they are. Raises RecordError.
    """
    path = file_of(run_folder, point)
    what, rest, beside = "*", "", {"samples": path.with_name("samples.parquet")}
    if path.name == OUTCOMES[0] and beside["samples"].is_file():
        what, rest = "s.*", "JOIN samples s USING (query_id) WHERE s.trial < n_trials"
    else:
        beside = {}
    total = int(select("count(*) AS n", path, point.where, rest, **beside)["n"].item())
    columns = set(select(what, path, point.where, f"{rest} LIMIT 0", **beside))
    order = _BY_HASH if {"query_id", "trial"} <= columns else ""
    frame = select(what, path, point.where, f"{rest} {order} LIMIT {max(0, limit)}", **beside)
    if "query_id" in frame and "query" not in frame:
        frame = _with_queries(frame, path.parent)
    return frame[[name for name in _READ if name in frame] if "response" in frame else list(frame)], total


def _with_queries(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """With query and reference, from a synthesis' file or else an evaluation's pool, where there is one."""
    import pandas as pd

    files = [*folder.glob("queries.parquet")] or sorted(folder.glob("pool/*/queries-*.parquet"), reverse=True)
    if not files:
        return frame
    queries = pd.concat([read_queries(file) for file in files]).drop_duplicates("query_id")  # the newest of each
    return frame.merge(queries[["query_id", "source", "query", "reference_answer"]], how="left", on="query_id")


def _find_figure(figure: str, run: str) -> tuple[Path, Path]:
    """The sidecar, and the run folder that holds its inputs."""
    home = (Path(run) if "/" in run else RUNS / run) if run else None
    if Path(figure).suffix:
        sidecar = Path(figure).with_suffix(".json")
        return sidecar, home or _inputs_of(sidecar)
    sidecar = (home or REPOSITORY) / "figures" / f"{figure}.json"
    if not home:
        with suppress(FileNotFoundError):
            sidecar = find_path(NEWEST / "figures" / sidecar.name)
    if not sidecar.is_file():
        found = [path.stem for path in sidecar.parent.glob("*.json")]
        raise RecordError(f"{sidecar.parent}: no figure {figure!r}; {did_you_mean(figure, found)}")
    return sidecar, _inputs_of(sidecar)


def _inputs_of(sidecar: Path) -> Path:
    """The run folder of a sidecar; the repository's own figures are those of the reference run."""
    folder = sidecar.resolve().parents[1]
    return RUNS / "reference" if folder == REPOSITORY else folder


def _value(point: Point) -> str:
    value = "no data" if point.value is None else f"{point.value:.6g}"
    return value if point.low is None or point.high is None else f"{value} [{point.low:.6g}, {point.high:.6g}]"

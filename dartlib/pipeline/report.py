"""`dartlib report`: a run folder as one HTML file to send. Nothing is run again, nothing is loaded from elsewhere.

The file holds no script: whole samples are popovers, lists fold by themselves. All text is escaped, and a content
security policy forbids the rest. Order and looks are in ``report.html``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dartlib.analysis import Point, points_of, table_html
from dartlib.analysis.tracing import samples_of
from dartlib.evaluation import compare_results
from dartlib.files import write_text_atomically
from dartlib.pipeline.digest import manifest_of
from dartlib.pipeline.execution import scrub
from dartlib.pipeline.rendering import attribute, cells_of, markdown, read_json, shown
from dartlib.pipeline.stages import Run, load_run
from dartlib.pipeline.status import stage_states
from dartlib.queries import why_withheld
from dartlib.records import Manifest, RecordError

LARGEST = 15_000_000  # bytes of a report
MOST_POINTS = 200  # of one figure; neighbours of more are taken together
_ASKING = ("QUERIES", "BENCHMARKS", "DATASETS", "POOL")  # parameters that name whose questions a notebook shows


def write_report(folder: Path, out: Path) -> int:
    """Write the report on a run folder as ``out``, whole or not at all; returns its size in bytes.

    What is missing is named in it. Above 15 MB it holds fewer samples, then no executed copies, and says so. Raises
    ProfileError when the folder is no run's, RecordError when a file of it cannot be read or its figures are too many.
    """
    run = load_run(folder / "run.json")
    manifests = {stage.name: found for stage in run.stages if (found := manifest_of(stage.name, folder))}
    contents = _contents(folder, run, manifests)
    own_files = {Path(name).stem for name in _named(run, manifests) if "/" in name or Path(name).suffix}
    for per_point in (10, 3, 1, 0):
        book = _SampleBook(folder, per_point, own_files)
        contents |= {"per_point": per_point, "figures": _figures(folder, book), "samples": book.samples}
        if per_point == 1 and contents["copies"]:
            contents |= {"copies": {}, "left_out": "with them this file would be too large"}
        html = _render(contents).encode()
        if len(html) <= LARGEST:
            write_text_atomically(out, html.decode())
            return len(html)
    raise RecordError(f"{folder.name}: its pictures alone are larger than {LARGEST / 1e6:.0f} MB")


def _render(contents: Mapping[str, Any]) -> str:
    """The template filled; whatever is not marked as ours is escaped and cut."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = lambda value: value if isinstance(value, Markup) else shown(value)
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(contents, attribute=attribute)


def _contents(folder: Path, run: Run, manifests: Mapping[str, Manifest]) -> dict[str, Any]:
    """All but figures and samples."""
    metrics = {name: read_json(path) for name in manifests if (path := folder / name / "metrics.json").is_file()}
    withheld = _withheld(run, manifests, metrics)
    copies = {stage.name: folder / stage.name / "notebook.ipynb" for stage in run.stages if not withheld}
    header = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # which is the Hub's
    cards = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("02_synthesis/datasets/[!R]*.md")}
    return {
        "name": folder.resolve().name,
        "run": run,
        "states": stage_states(run, folder),
        "manifests": manifests,
        "machines": list({json.dumps(each.hardware): each.hardware for each in manifests.values()}.values()),
        "versions": list({json.dumps(each.versions): each.versions for each in manifests.values()}.values()),
        "tables": _tables(folder, metrics),
        "cards": {name: markdown(header.sub("", text)) for name, text in sorted(cards.items())},
        "copies": {name: list(cells_of(path)) for name, path in copies.items() if path.is_file()},
        "left_out": f"they quote questions that may not be passed on ({'; '.join(withheld)})" if withheld else "",
    }


def _withheld(run: Run, manifests: Mapping[str, Manifest], metrics: Mapping[str, Any]) -> list[str]:
    """Why the executed copies may not be passed on: they quote questions of sources that parameters name.

    And those of benchmarks that turned out to share questions with the data.
    """
    named = _named(run, manifests)
    shared = metrics.get("01_bias_analysis", {}).get("contamination", [])
    named |= {row["benchmark"] for row in shared if row["whole"] or row["part"]}
    return sorted(filter(None, map(why_withheld, named)))


def _named(run: Run, manifests: Mapping[str, Manifest]) -> set[str]:
    """The sources and files that parameters name: one or several, each perhaps a part of a set (``NAME:20``)."""
    given = [*(stage.parameters for stage in run.stages), *(each.parameters for each in manifests.values())]
    values = [parameters.get(name, []) for parameters in given for name in _ASKING]
    names = [name for value in values for name in ([value] if isinstance(value, str) else value)]
    return {part.partition(":")[0].strip() for name in names for part in name.split(",")} - {""}


def _tables(folder: Path, metrics: Mapping[str, Any]) -> list[Markup]:
    """The numbers that the stages left, and the models side by side."""
    made, bias, end = (metrics.get(name, {}) for name in ("02_synthesis", "01_bias_analysis", "05_paper_figures"))
    numbers = {name: {k: v for k, v in each.items() if isinstance(v, int | float)} for name, each in metrics.items()}
    found: dict[str, Any] = {
        "data sets": bias.get("summary") or [{"strategy": k, "rows": v} for k, v in made.get("rows", {}).items()],
        "sampling": [numbers["02_synthesis"] | made.get("verdicts", {})] if made else [],
        "training": [{"stage": name} | each for name, each in numbers.items() if name.startswith("03_")],
    }
    if results := [folder / name for name in metrics if (folder / name / "result.json").is_file()]:
        compared = compare_results(results, unlike=True)
        found |= {"scores": compared.scores, "primary comparison (second minus first)": end.get("primary", [])}
        found |= {"other pairs (p_holm corrects for their number)": end.get("others") or compared.pairs}
        found |= {"arms over seeds and items": compared.arms, "the paper, percent": compared.published.reset_index()}
        found |= {"what may stand beside what": [{"note": note} for note in compared.notes]}
    return [_table(title, rows) for title, rows in found.items() if len(rows)]


def _table(caption: str, rows: Any) -> Markup:
    """Rows (mappings, or a data frame) without this machine's paths; an interval stands beside its value."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    if "low" in frame:
        value = list(frame)[list(frame).index("low") - 1]
        frame = frame.rename(columns={"low": f"{value}_low", "high": f"{value}_high"})
    for value in [name for name in frame if f"{name}_low" in frame]:
        low, high = f"{value}_low", f"{value}_high"
        bands = zip(frame[value], frame[low], frame[high], strict=True)
        texts = ["" if a != a else f"{a:.3g}\N{NO-BREAK SPACE}[{b:.3g},\N{NO-BREAK SPACE}{c:.3g}]" for a, b, c in bands]
        frame = frame.assign(**{str(value): texts}).drop(columns=[low, high])
    return Markup(table_html(frame.map(lambda cell: scrub(cell) if isinstance(cell, str) else cell), caption))


class _SampleBook:
    """The ``samples`` chosen so far: a row of its file each, with its question, or why its texts are ``withheld``."""

    def __init__(self, run_folder: Path, most: int, own_files: Collection[str]) -> None:
        self._folder, self._most, self._own_files = run_folder, most, own_files
        self._numbers: dict[tuple[str, str, int], int] = {}
        self.samples: list[dict[str, Any]] = []

    def choose(self, points: Sequence[Point]) -> list[int]:
        """Places in ``samples`` of a few rows behind some points, drawn at random, but always the same ones."""
        each = -(-self._most // len(points))
        return [number for point in points for number in self._choose(point, each)][: self._most]

    def _choose(self, point: Point, most: int) -> list[int]:
        try:
            rows = samples_of(self._folder, point, most)[0]
        except RecordError:  # a published number, or rows that were not handed on with the figure
            return []
        judged = rows.astype(object).where(rows.notna(), None).to_dict("records") if "verdict" in rows else []
        return [self._number(Path(point.file).parent.as_posix(), row) for row in judged]

    def _number(self, stage: str, row: dict[Any, Any]) -> int:
        key = (stage, row["query_id"], row["trial"])
        if key not in self._numbers:
            self._numbers[key] = len(self.samples)
            source = row.get("benchmark") or row.get("source") or "an unknown source"
            is_own = source in self._own_files  # a file of one's own is called by its stem, whatever that is
            withheld = f"no licence is known for a file called {source}" if is_own else why_withheld(source)
            bare = {name: row.get(name) for name in ("query_id", "trial", "level", "verdict")}
            self.samples.append((bare if withheld else row) | {"stage": stage, "withheld": withheld})
        return self._numbers[key]


def _figures(run_folder: Path, book: _SampleBook) -> list[dict[str, Any]]:
    """Every figure with a picture and a sidecar, by notebook; its points alone or in bins, each with its samples."""
    figures = []
    for path in sorted(run_folder.glob("figures/*.json")):
        if (drawn := path.with_suffix(".png")).is_file():
            sidecar = read_json(path)
            points = points_of(path) if sidecar.get("points") else []
            size = max(1, -(-len(points) // MOST_POINTS))
            bins = [points[first : first + size] for first in range(0, len(points), size)]
            groups = [{"points": each, "samples": book.choose(each)} for each in bins]
            picture = Markup(base64.b64encode(drawn.read_bytes()).decode())
            figures.append({**sidecar, "name": path.stem, "picture": picture, "groups": groups})
    return sorted(figures, key=lambda figure: figure["notebook"])

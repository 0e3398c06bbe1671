"""Figures to files: PNG, PDF and a JSON sidecar that says from what they were drawn. The same input, the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.analysis.points import Point, located_points
from dartlib.files import sha256_of, write_bytes_atomically, write_text_atomically
from dartlib.processes import STAGE_VARIABLE, git_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_DATES: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}


def publish(
    figure: Figure,
    name: str,
    caption: str,
    *,
    folder: Path,
    notebook: str,
    inputs: Sequence[str | Path] = (),
    queries: int | None = None,
    points: Sequence[Point] | None = None,
) -> None:
    """Save a figure in the ``figures`` folder of a run and show it in the notebook: none is saved unseen.

    Writes ``name``.png (160 dpi), .pdf and, last, .json, each whole or absent. ``inputs`` are the files drawn (none for
    published numbers and thought experiments), ``queries`` how many are drawn. The sidecar adds the figure's title,
    run and stage (none where no run draws it), the commit, and per input its sha256 under its path in its run folder;
    inputs of no run appear by name alone, so that no machine's paths are committed. It also holds the drawn
    values: those that the figure carries (see `points`) and ``points``. Raises FileNotFoundError for a missing input.
    """
    stem, run_folder = folder / name, folder.parent.resolve()
    paths = {_name_in(run_folder, path): path for path in (Path(path).resolve() for path in inputs)}
    sidecar = {
        "caption": caption,
        "notebook": notebook,
        "queries": queries,
        "title": figure.get_suptitle() or " / ".join(axis.get_title() for axis in figure.axes),
        "run": run_folder.name,
        "stage": os.environ.get(STAGE_VARIABLE, ""),
        "inputs": {name: sha256_of(path) for name, path in paths.items()},
        "points": [asdict(point) for point in located_points(figure, points or (), paths)],
        "git_commit": git_state(Path(__file__).parent)[0],
    }
    for suffix in ("png", "pdf"):
        write_bytes_atomically(stem.with_name(f"{name}.{suffix}"), _render(figure, suffix))
    text = json.dumps(sidecar, indent=2, sort_keys=True, ensure_ascii=False)
    write_text_atomically(stem.with_name(f"{name}.json"), text + "\n")
    show(figure)


def file_name(title: str) -> str:
    """A title as part of a file name; what is not plain ASCII is told apart by a few hex digits."""
    plain = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    return (
        plain if plain and title.isascii() else f"{plain}_{hashlib.sha256(title.encode()).hexdigest()[:8]}".strip("_")
    )


def show(figure: Figure) -> None:
    """Display a figure that is not kept, as the parts of `explore` do: a picture, sharp on screens of high density."""
    from IPython.display import Image, display

    display(Image(data=_render(figure, "png", dpi=200), width=figure.get_figwidth() * 100))


def _render(figure: Figure, suffix: str, dpi: int = 160) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # text in PDFs stays text
        figure.savefig(buffer, format=suffix, dpi=dpi, metadata=_NO_DATES[suffix])
    return buffer.getvalue()


def _name_in(folder: Path, path: Path) -> str:
    homes = [folder, *(parent for parent in path.parents if (parent / "run.json").is_file())]
    home = next((home for home in homes if path.is_relative_to(home)), path.parent)
    return path.relative_to(home).as_posix()

"""Figures to files: PNG, PDF and a JSON sidecar that says from what they were drawn. The same input, the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.files import sha256_of, write_bytes_atomically, write_text_atomically
from dartlib.processes import git_state

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDECAR_KEYS = ("caption", "notebook", "inputs", "queries")
_NO_DATES: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}


def save_figure(figure: Figure, stem: Path, sidecar: Mapping[str, Any]) -> None:
    """Write ``stem``.png (160 dpi), .pdf and, last, .json, into the ``figures`` folder of a run. Each whole or absent.

    ``sidecar`` has ``caption``, ``notebook``, ``inputs`` (paths of the files drawn; empty for published numbers and
    thought experiments) and ``queries`` (how many are drawn, or None). The file written adds the figure's title, the
    run's name, the commit, and per input its sha256 under its path in the run folder; inputs from elsewhere appear
    by name alone, so that no machine's paths are committed. Raises ValueError for a missing or unknown key,
    FileNotFoundError for a missing input.
    """
    if set(sidecar) != set(SIDECAR_KEYS):
        wrong = sorted(set(sidecar) ^ set(SIDECAR_KEYS))[0]
        raise ValueError(f"figure {stem.name}: the sidecar has exactly {', '.join(SIDECAR_KEYS)}; look at {wrong!r}")
    run_folder = stem.parent.parent.resolve()
    inputs = [Path(path).resolve() for path in sidecar["inputs"]]
    values = dict(sidecar) | {
        "title": figure.get_suptitle() or " / ".join(axis.get_title() for axis in figure.axes),
        "run": run_folder.name,
        "inputs": {_name_in(run_folder, path): sha256_of(path) for path in inputs},
        "git_commit": git_state(Path(__file__).parent)[0],
    }
    for suffix in ("png", "pdf"):
        write_bytes_atomically(stem.with_name(f"{stem.name}.{suffix}"), _render(figure, suffix))
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    write_text_atomically(stem.with_name(f"{stem.name}.json"), text + "\n")


def file_name(title: str) -> str:
    """A title as part of a file name; what is not plain ASCII is told apart by a few hex digits."""
    plain = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    return (
        plain if plain and title.isascii() else f"{plain}_{hashlib.sha256(title.encode()).hexdigest()[:8]}".strip("_")
    )


def show(figure: Figure) -> None:
    """Display a figure in a notebook, headless or not: as a picture, without a pyplot backend."""
    from IPython.display import Image, display

    display(Image(data=_render(figure, "png", dpi=100)))


def _render(figure: Figure, suffix: str, dpi: int = 160) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # text in PDFs stays text
        figure.savefig(buffer, format=suffix, dpi=dpi, metadata=_NO_DATES[suffix])
    return buffer.getvalue()


def _name_in(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name

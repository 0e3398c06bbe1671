"""Figures to files: PNG, PDF and a JSON sidecar that says from what they were drawn. The same input, the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.records import write_text_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDECAR_KEYS = ("title", "caption", "notebook", "run", "inputs", "git_commit", "queries")
_NO_DATES: dict[str, dict[str, Any]] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}


def figure_sidecar(
    *,
    title: str,
    caption: str,
    notebook: str,
    run_folder: Path,
    inputs: Sequence[Path],
    git_commit: str,
    queries: int | None,
) -> dict[str, Any]:
    """What save_figure writes beside a figure.

    ``inputs`` are hashed and named relative to the run folder, those outside of it by file name alone (no machine's
    paths in a committed file). ``queries`` is the number of queries drawn, or None where a figure shows none. Raises
    FileNotFoundError for a missing input.
    """
    run = run_folder.resolve()
    hashes = {_name_in(run, path.resolve()): _sha256(path) for path in inputs}
    return {
        "title": title,
        "caption": caption,
        "notebook": notebook,
        "run": run.name,
        "inputs": hashes,
        "git_commit": git_commit,
        "queries": queries,
    }


def save_figure(figure: Figure, stem: Path, sidecar: dict[str, Any]) -> None:
    """Write ``stem``.png (160 dpi), .pdf and, last, .json. Each file is whole or absent.

    Raises ValueError naming the first key of SIDECAR_KEYS that the sidecar lacks.
    """
    missing = [key for key in SIDECAR_KEYS if key not in sidecar]
    if missing:
        raise ValueError(f"figure {stem.name}: the sidecar lacks {missing[0]!r}")
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("png", "pdf"):
        path = stem.with_name(f"{stem.name}.{suffix}")
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(_render(figure, suffix))
        os.replace(temporary, path)
    text = json.dumps(sidecar, indent=2, sort_keys=True, ensure_ascii=False)
    write_text_atomically(stem.with_name(f"{stem.name}.json"), text + "\n")


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


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

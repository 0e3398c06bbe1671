"""Earlier results of a stage make way for other ones, and come back when they are wanted again; nothing is deleted.

A stage folder remembers in ``begun.txt`` the digest its content was begun with, and in ``complete.txt`` the one it was
completed with: the output that Snakemake sees. ``superseded/<digest>/`` in the run folder is laid out like a run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

from dartlib.files import write_text_atomically
from dartlib.pipeline.digest import holds_pool, manifest_of

SUPERSEDED = "superseded"


def make_way(stage: str, folder: Path, digest: str) -> str:
    """Leave in the stage's folder only what was begun with ``digest``, and pools; says in a line what was moved.

    Earlier results go to ``superseded/``, those of ``digest`` come back from there. A move that was cut short is
    finished by the next call.
    """
    waiting, said = folder / SUPERSEDED / digest[:16], ""
    if _begun(stage, folder) != digest:
        if put_aside(stage, folder):
            said = f"what it rests on has changed: its earlier results wait in {SUPERSEDED}/\n"
        write_text_atomically(folder / stage / "begun.txt", f"{digest}\n")
    _move([*waiting.glob(f"{stage}/*"), *waiting.glob("figures/*")], waiting, folder)
    for empty in sorted(waiting.rglob("*"), reverse=True):
        empty.rmdir()
    if waiting.is_dir():
        waiting.rmdir()
        said += "what was begun with just this is taken back from there\n"
    return said


def put_aside(stage: str, folder: Path) -> bool:
    """Move a stage's results, and figures, to ``superseded/``; False when there is nothing but pools and a log."""
    begun = _begun(stage, folder)[:16] or time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    own = [path for path in (folder / stage).glob("*") if path.name != "lease.json" and not holds_pool(path)]
    if {path.name for path in own} <= {"log.txt"}:
        return False
    own += figures_of(stage, folder)
    _move(own, folder, folder / SUPERSEDED / begun)
    return True


def figures_of(stage: str, folder: Path) -> list[Path]:
    """The figures in the run folder, with their sidecars, that were drawn by this stage."""
    figures = folder / "figures"
    drawn = [path.stem for path in figures.glob("*.json") if json.loads(path.read_bytes()).get("stage") == stage]
    return sorted(path for path in figures.glob("*.*") if path.stem in drawn)


def made_stages(folder: Path) -> set[str]:
    """Names of all stages that have something in a run folder, whatever profile they belong to."""
    patterns = [depth + name for depth in ("*/", "*/*/") for name in ("begun.txt", "manifest.json")]
    records = [record for pattern in patterns for record in folder.glob(pattern)]
    return {record.parent.relative_to(folder).as_posix() for record in records}


def mark_complete(stage: str, folder: Path, digest: str) -> None:
    """What tells Snakemake that a stage need not run."""
    write_text_atomically(folder / stage / "complete.txt", f"{digest}\n")


def _begun(stage: str, folder: Path) -> str:
    """The digest of what is in the stage's folder; that of its manifest where it has one, as in a clone."""
    manifest, record = manifest_of(stage, folder), folder / stage / "begun.txt"
    if manifest and manifest.digest:
        return manifest.digest
    return record.read_text(encoding="utf-8").strip() if record.is_file() else ""


def _move(paths: Iterable[Path], source: Path, target: Path) -> None:
    """Move files and folders from one run's layout into another; what says whose they are comes last."""
    for path in sorted(paths, key=lambda path: (path.name == "begun.txt", path.name == "manifest.json", path)):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)

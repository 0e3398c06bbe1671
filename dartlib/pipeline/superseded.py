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
from dartlib.pipeline.digest import holds_pool

SUPERSEDED = "superseded"


def make_way(stage: str, folder: Path, digest: str) -> str:
    """Leave in the stage's folder only what was begun with ``digest``, and pools; says in a line what was moved.

    Earlier results go to ``superseded/``, those of ``digest`` come back from there. A move that was cut short is
    finished by the next call.
    """
    record, waiting = folder / stage / "begun.txt", folder / SUPERSEDED / digest[:16]
    said = ""
    if not record.is_file() or record.read_text(encoding="utf-8").strip() != digest:
        if put_aside(stage, folder):
            said = f"what it rests on has changed: its earlier results wait in {SUPERSEDED}/\n"
        write_text_atomically(record, f"{digest}\n")
    _move([*waiting.glob(f"{stage}/*"), *waiting.glob("figures/*")], waiting, folder, last="manifest.json")
    for empty in sorted(waiting.rglob("*"), reverse=True):
        empty.rmdir()
    if waiting.is_dir():
        waiting.rmdir()
        said += "what was begun with just this is taken back from there\n"
    return said


def put_aside(stage: str, folder: Path) -> bool:
    """Move a stage's results, and figures, to ``superseded/``; False when there is nothing but pools and a log."""
    record = folder / stage / "begun.txt"
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    begun = record.read_text(encoding="utf-8")[:16] if record.is_file() else now
    own = [path for path in (folder / stage).glob("*") if path.name != "lease.json" and not holds_pool(path)]
    if {path.name for path in own} <= {"log.txt"}:
        return False
    own += figures_of(stage, folder)
    _move(own, folder, folder / SUPERSEDED / begun, last="begun.txt")
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


def _move(paths: Iterable[Path], source: Path, target: Path, last: str) -> None:
    for path in sorted(paths, key=lambda path: (path.name == last, path)):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)

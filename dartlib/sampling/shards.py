"""The files of a pool: numbered Parquet shards, which of them count, and how many small ones become one.

``trials-000007.parquet`` is flush 7; ``trials-000001-000064.parquet`` holds the rows of flushes 1 to 64 and replaces
their files. A merged shard is renamed into place before the files it replaces are removed, and a shard whose
numbers lie within another's range does not count: so a kill at any instant neither loses nor repeats a row.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dartlib.records import Attempt, Grade, Query, RecordError, Trial, check_columns, write_batches

KINDS: dict[str, type] = {"queries": Query, "trials": Trial, "grades": Grade, "attempts": Attempt}
SET_ASIDE = "set-aside"
DRAWN_AGAIN = f"damaged, moved to {SET_ASIDE}: run again, its trials will be drawn again"
MERGE_COUNT = 64  # so many small shards in a row become one: about two minutes of flushes
SMALL_BYTES = 64 * 2**20  # a shard above this is left as it is
ROWS_PER_GROUP = 65_536  # what readers hold in memory at a time
_NAME = re.compile(r"(queries|trials|grades|attempts)-(\d{6,})(?:-(\d{6,}))?\.parquet")


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file of a pool: the rows of the flushes ``first`` to ``last``."""

    path: Path
    kind: str
    first: int
    last: int


def shard_path(folder: Path, kind: str, first: int, last: int | None = None) -> Path:
    """Where the rows of one flush lie, or those of several that were merged."""
    return folder / f"{kind}-{first:06d}{'' if last is None else f'-{last:06d}'}.parquet"


def list_shards(folder: Path, kind: str) -> list[Shard]:
    """The shards of a kind that count, oldest first."""
    found = []
    for path in folder.glob(f"{kind}-*.parquet"):
        if match := _NAME.fullmatch(path.name):
            found.append(Shard(path, kind, int(match[2]), int(match[3] or match[2])))
    counting: list[Shard] = []
    for shard in sorted(found, key=lambda one: (one.first, -one.last)):
        if not counting or shard.last > counting[-1].last:
            counting.append(shard)
    return counting


def all_paths(folder: Path) -> list[Path]:
    """The files of every shard that counts."""
    return [shard.path for kind in KINDS for shard in list_shards(folder, kind)]


def last_number(folder: Path) -> int:
    """The highest flush number in use, 0 in an empty folder."""
    return max((shards[-1].last for kind in KINDS if (shards := list_shards(folder, kind))), default=0)


def foreign_names(folder: Path) -> list[str]:
    """Parquet files that are no shards by their name."""
    return sorted(path.name for path in folder.glob("*.parquet") if not _NAME.fullmatch(path.name))


def check_shard(shard: Shard, setting: str) -> None:
    """Raise RecordError unless the file is whole, has its columns, and (trials) was drawn under ``setting``."""
    check_columns(shard.path, KINDS[shard.kind])
    if shard.kind == "trials":
        metadata = pq.read_metadata(shard.path)
        column = metadata.schema.names.index("setting")
        for group in range(metadata.num_row_groups):
            statistics = metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max and {statistics.min, statistics.max} != {setting}:
                raise RecordError(f"{shard.path}: holds trials of another setting ({statistics.min})")


def clean(folder: Path, setting: str) -> list[str]:
    """Move what cannot be used to ``set-aside/`` and say what and why; drop leftovers of killed processes.

    For the holder of the lease only: a temporary file here belongs to nobody who lives.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink()
    notes = [f"{name}: not a shard's name" for name in foreign_names(folder)]
    for path in [folder / name for name in foreign_names(folder)]:
        set_aside(path)
    for kind in KINDS:
        broken = True
        while broken:  # without a broken merged shard, the ones it was to replace count again
            broken = False
            for shard in list_shards(folder, kind):
                try:
                    check_shard(shard, setting)
                except RecordError as error:
                    notes.append(str(error).removeprefix(f"{folder}/"))
                    set_aside(shard.path)
                    broken = True
    for kind in KINDS:
        _drop_replaced(folder, kind)
    return notes


def compact(folder: Path, kind: str) -> None:
    """Merge every row of at least MERGE_COUNT small shards that follow each other. Memory: one row group."""
    for shards in _small_runs(list_shards(folder, kind)):
        target = shard_path(folder, kind, shards[0].first, shards[-1].last)
        rows = write_batches(target, _full_groups(shards), KINDS[kind])
        if pq.read_metadata(target).num_rows != rows:
            raise RecordError(f"{target}: the disk returned other rows than were written; nothing was removed")
        _drop_replaced(folder, kind)


def _small_runs(shards: Sequence[Shard]) -> Iterator[list[Shard]]:
    """Neighbouring small shards, at least MERGE_COUNT of them, cut where they together stop being small."""
    for small, group in groupby(shards, key=lambda shard: shard.path.stat().st_size < SMALL_BYTES):
        run, chunk, total = list(group), [], 0
        for shard in run if small and len(run) >= MERGE_COUNT else []:
            chunk.append(shard)
            total += shard.path.stat().st_size
            if total >= SMALL_BYTES:
                yield chunk
                chunk, total = [], 0
        if len(chunk) > 1:
            yield chunk


def _full_groups(shards: Sequence[Shard]) -> Iterator[pa.Table]:
    """The rows of ``shards`` in full row groups."""
    waiting: list[pa.RecordBatch] = []
    for batch in _rows_of(shards):
        waiting.append(batch)
        if sum(held.num_rows for held in waiting) >= ROWS_PER_GROUP:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _rows_of(shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    for shard in shards:
        try:
            yield from pq.ParquetFile(shard.path).iter_batches(ROWS_PER_GROUP)
        except (pa.ArrowInvalid, OSError) as error:
            set_aside(shard.path)
            raise RecordError(f"{shard.path}: {DRAWN_AGAIN} ({error})") from None


def _drop_replaced(folder: Path, kind: str) -> None:
    counting = {shard.path for shard in list_shards(folder, kind)}
    for path in folder.glob(f"{kind}-*.parquet"):
        if _NAME.fullmatch(path.name) and path not in counting:
            path.unlink()


def set_aside(path: Path) -> None:
    """Move a file out of the way without overwriting an earlier one."""
    place = path.parent / SET_ASIDE
    place.mkdir(exist_ok=True)
    number = 0
    while (target := place / f"{path.name}{f'.{number}' if number else ''}").exists():
        number += 1
    with suppress(FileNotFoundError):
        path.rename(target)

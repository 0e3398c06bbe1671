"""Data sets as files: Parquet and JSONL, written row by row, and what their cards tell of the rows."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa

from dartlib.files import replacing
from dartlib.records import SftRow, to_table, write_batches
from dartlib.synthesis.red_flags import FlagCounts, count_flags

_ROWS_AT_A_TIME = 16_384


@dataclass(slots=True)
class Tally:
    """What was counted of a data set's rows while they passed: ``dropped`` by filter, the others by level."""

    dropped: Counter[str] = field(default_factory=Counter)
    by_level: Counter[int | None] = field(default_factory=Counter)
    by_query: Counter[str] = field(default_factory=Counter)
    flags: FlagCounts = field(default_factory=dict)

    def kept(self, judged: Iterable[tuple[SftRow, str | None]]) -> Iterator[SftRow]:
        """The rows that no filter drops (see `curate`), all counted."""
        for row, reason in judged:
            if reason is not None:
                self.dropped[reason] += 1
                continue
            self.by_level[row.level] += 1
            self.by_query[row.query_id] += 1
            count_flags(self.flags, row.response, row.level)
            yield row


def write_dataset(stem: Path, rows: Iterable[SftRow]) -> int:
    """``<stem>.parquet`` and ``<stem>.jsonl`` with the same rows; what a killed run left half written goes."""
    for leftover in stem.parent.glob(".*.tmp"):  # everything in this folder may be uploaded
        leftover.unlink()
    waiting = iter(rows)
    with replacing(stem.with_suffix(".jsonl")) as lines:

        def tables() -> Iterator[pa.Table]:
            while batch := list(islice(waiting, _ROWS_AT_A_TIME)):
                for row in batch:
                    values = {name: getattr(row, name) for name in SftRow.__slots__}
                    lines.write(f"{json.dumps(values, ensure_ascii=False)}\n".encode())
                yield to_table(batch, SftRow)

        return write_batches(stem.with_suffix(".parquet"), tables(), SftRow)

"""Which trials a pool holds and what their verdicts are, as sorted arrays of numbers.

A trial is found by a key: its query's number times 2^32 plus the trial. Joining 20 million trials with their grades so
takes two sorted arrays, 160 MB each, where Python dictionaries would take 5 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dartlib.records import Query, Verdict
from dartlib.sampling.shards import ROWS_PER_GROUP

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = [verdict.value for verdict in Verdict]
UNGRADED = -1

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Which trials a pool holds, and their current verdicts. ``keys`` is sorted; ``verdicts`` indexes Verdict or -1."""

    query_ids: Sequence[str]
    keys: Integers
    verdicts: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def ungraded(self) -> Integers:
        """Keys of trials without a current grade."""
        return self.keys[self.verdicts == UNGRADED]

    def verdict_counts(self) -> dict[str, int]:
        """How many trials have each verdict."""
        counts = np.bincount(self.verdicts[self.verdicts >= 0], minlength=len(VERDICTS))
        return dict(zip(VERDICTS, counts.tolist(), strict=True))

    def graded(self) -> Iterator[tuple[str, int, bool]]:
        """(query, trial, correct) of every graded trial, by query then trial."""
        right = VERDICTS.index(Verdict.CORRECT.value)
        for start in range(0, len(self.keys), ROWS_PER_GROUP):
            part = slice(start, start + ROWS_PER_GROUP)
            for key, verdict in zip(self.keys[part].tolist(), self.verdicts[part].tolist(), strict=True):
                if verdict != UNGRADED:
                    yield self.query_ids[key >> 32], key & 0xFFFFFFFF, verdict == right

    def counts(self) -> pd.DataFrame:
        """Columns query_id, trials, correct: one row per query, in the order of ``query_ids``."""
        import pandas as pd

        owner = self.keys >> 32
        correct = owner[self.verdicts == VERDICTS.index(Verdict.CORRECT.value)]
        size = len(self.query_ids)
        numbers = {"trials": np.bincount(owner, minlength=size), "correct": np.bincount(correct, minlength=size)}
        return pd.DataFrame({"query_id": list(self.query_ids), **numbers})


@dataclass(frozen=True, slots=True)
class Grades:
    """Current grades: sorted keys, and for each its row in ``table`` (dictionary columns)."""

    keys: Integers
    rows: Integers
    table: pa.Table

    @classmethod
    def of(cls, keys: Integers, table: pa.Table) -> Grades:
        """Of several grades of one trial the newest counts, which is the last."""
        rows = np.argsort(keys, kind="stable")
        ordered = keys[rows]
        last = np.ones(len(keys), dtype=bool)
        last[:-1] = ordered[1:] != ordered[:-1]
        return cls(ordered[last], rows[last], table)

    def take(self, name: str, keys: Integers) -> pa.ChunkedArray:
        """A column for these keys, null where a trial has no grade."""
        places = find(self.keys, keys)
        none = places < 0
        rows = self.rows[np.where(none, 0, places)] if len(self.rows) else np.zeros(len(keys), dtype=np.int64)
        return self.table.column(name).take(pa.array(rows, mask=none))

    def codes(self, name: str, values: Sequence[str]) -> npt.NDArray[np.int8]:
        """A column as places in ``values``, in the order of the keys."""
        column = _dictionary(self.table.column(name))
        numbers = [values.index(value) for value in column.dictionary.to_pylist()]
        return np.array(numbers, dtype=np.int8)[column.indices.to_numpy()][self.rows]


def keys_of(rows: pa.Table | pa.RecordBatch, query_ids: pa.Array) -> Integers:
    """The key of each row, negative for a query that is not among ``query_ids``."""
    column = _dictionary(rows.column("query_id"))
    known = pc.index_in(column.dictionary, value_set=query_ids).fill_null(-1).to_numpy().astype(np.int64)
    return (known[column.indices.to_numpy()] << 32) + rows.column("trial").to_numpy()


def identities(queries: Sequence[Query]) -> pa.Array:
    return pa.array([query.query_id for query in queries], pa.string())


def _dictionary(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().combine_chunks()
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def concatenate(arrays: Iterable[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, dtype=np.int64), *arrays])


def find(ordered: Integers, keys: Integers) -> Integers:
    """Place of each key in ``ordered``, -1 where it is not there."""
    places = np.searchsorted(ordered, keys)
    inside = places < len(ordered)
    inside[inside] = ordered[places[inside]] == keys[inside]
    return np.where(inside, places, -1)

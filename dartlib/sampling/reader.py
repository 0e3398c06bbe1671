"""Reading a pool, also while a run writes to it: samples for people, counts and resume for programs.

Only the columns that are asked for leave the disk, one row group at a time; trials and grades meet by the number keys
of `ledger`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dartlib.records import Grade, Query, RecordError, Trial, did_you_mean, schema_of
from dartlib.sampling import shards
from dartlib.sampling.ledger import UNGRADED, VERDICTS, Grades, Integers, Ledger, concatenate, find, identities, keys_of
from dartlib.sampling.pool import PoolError, grader_keys, read_setting, setting_folder

if TYPE_CHECKING:
    import pandas as pd

_KEY = ["query_id", "trial"]
_READ_AGAIN = 5  # times, when shards were merged under a reader's hands

Result = TypeVar("Result")


class _Merged(Exception):
    """A shard was replaced by a merged one between listing and reading: read from the start."""


class PoolReader:
    """Reads one setting's folder. ``unreadable`` names the files that the last call could not use, with the reason."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[str] = []
        self._setting = read_setting(folder).identity
        self._damaged: dict[str, str] = {}
        self._reading = ""

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Trial rows as Arrow, in the order they were flushed."""
        return self._whole("trials", columns)

    def grades(self) -> pa.Table:
        """Grade rows as Arrow; several per trial when a newer grader ran."""
        return self._whole("grades", None)

    def attempts(self) -> pa.Table:
        """Failed requests as Arrow."""
        return self._whole("attempts", None)

    def queries(self) -> list[Query]:
        """The queries that were asked, each in its last version (a reference may have been corrected)."""
        latest = {row["query_id"]: Query(**row) for row in self._whole("queries", None).to_pylist()}
        return list(latest.values())

    def ledger(self, queries: Sequence[Query] | None = None, grader_version: str | None = None) -> Ledger:
        """Trials and verdicts of ``queries`` (default: all that were asked).

        With ``grader_version`` only grades by that version, for the query's present reference, count; without, the
        newest grade of each trial.
        """
        return self._again_if_merged(lambda: self._read_ledger(queries, grader_version))

    def samples(
        self,
        queries: Sequence[Query] | None = None,
        grader_version: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> pd.DataFrame:
        """Trials joined with their grades and queries, by query then trial, as a data frame.

        ``columns``: any of the columns of Trial, Query and Grade (default: all). ``where`` is a pandas query string
        over them, for example ``"level == 5 and verdict == 'correct'"``. ``queries`` and ``grader_version`` as in
        `ledger`; trials without a current grade have no verdict. Raises PoolError for a column that does not exist.
        """
        return self.samples_table(queries, grader_version, columns=columns, where=where).to_pandas()

    def samples_table(
        self,
        queries: Sequence[Query] | None = None,
        grader_version: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> pa.Table:
        """The same as an Arrow table."""
        wanted = list(columns) if columns is not None else list(_sample_columns())
        _check_names(wanted)
        named = _names_in(where) if where else []
        table = self._again_if_merged(lambda: self._join(queries, grader_version, wanted, named, where))
        return _without_repeats(table).select(wanted)

    def show(
        self, query_id: str, queries: Sequence[Query] | None = None, grader_version: str | None = None
    ) -> pd.DataFrame:
        """Every trial of one query with its answer, verdict and reason, for reading."""
        chosen = [query for query in queries or self.queries() if query.query_id == query_id]
        if not chosen:
            raise PoolError(f"{self.folder}: no query {query_id!r} was asked here")
        columns = ["trial", "verdict", "reason", "answer", "reference_answer", "finish_reason", "response"]
        return self.samples(chosen, grader_version, columns=columns)

    def trials_of(self, ledger: Ledger, keys: Integers, rows: int = 1000) -> Iterator[list[Trial]]:
        """The trials with these sorted keys of a ledger, at most ``rows`` at a time; for the holder of the lease."""
        query_ids = pa.array(ledger.query_ids, pa.string())
        due = np.ones(len(keys), dtype=bool)
        for file in self._files("trials") if len(keys) else ():
            for batch in file.iter_batches(rows):
                places, first = np.unique(find(keys, keys_of(batch, query_ids)), return_index=True)
                places, first = places[places >= 0], first[places >= 0]
                chosen = first[due[places]]
                due[places] = False
                if len(chosen):
                    yield [Trial(**row) for row in batch.take(pa.array(np.sort(chosen))).to_pylist()]

    def _read_ledger(self, queries: Sequence[Query] | None, grader_version: str | None) -> Ledger:
        asked = self.queries() if queries is None else queries
        query_ids = identities(asked)
        grades = self._current_grades(asked, grader_version, query_ids, ["verdict"])
        graded, verdicts = grades.keys, grades.codes("verdict", VERDICTS)
        del grades
        keys = concatenate(keys_of(batch, query_ids) for batch in self._batches("trials", _KEY))
        keys.sort()
        keys = keys[np.searchsorted(keys, 0) :]  # rows of other queries have negative keys
        keys = keys[np.diff(keys, prepend=-1) > 0]  # a trial that was copied into the pool twice counts once
        places = find(graded, keys)
        held = np.append(verdicts, np.int8(UNGRADED))[places]  # place -1, no grade, is the appended one
        return Ledger([query.query_id for query in asked], keys, held)

    def _current_grades(
        self, queries: Sequence[Query], grader_version: str | None, query_ids: pa.Array, columns: Sequence[str]
    ) -> Grades:
        """The grades that count, with these columns as dictionaries."""
        expected = None
        if grader_version is not None:
            by_query = grader_keys(queries, grader_version)
            expected = pa.array([by_query[query.query_id] for query in queries] or [""])
        schema = pa.schema([(name, pa.dictionary(pa.int32(), pa.string())) for name in columns])
        numbers, tables = [], [schema.empty_table()]
        for batch in self._batches("grades", [*_KEY, *columns, "grader"]):
            found = keys_of(batch, query_ids)
            use = found >= 0
            if expected is not None:
                due = expected.take(pa.array(np.where(use, found >> 32, 0)))
                held = batch.column("grader").cast(pa.string())
                use &= pc.equal(held, due).to_numpy(zero_copy_only=False)
            numbers.append(found[use])
            tables.append(pa.Table.from_batches([batch]).select(list(columns)).filter(pa.array(use)).cast(schema))
        return Grades.of(concatenate(numbers), pa.concat_tables(tables).unify_dictionaries().combine_chunks())

    def _join(
        self,
        queries: Sequence[Query] | None,
        grader_version: str | None,
        wanted: Sequence[str],
        named: Sequence[str],
        where: str | None,
    ) -> pa.Table:
        """Rows that ``where`` keeps, with the key and the wanted columns, in the order of the shards."""
        asked = self.queries() if queries is None else queries
        query_ids = identities(asked)
        of_query = schema_of(Query)
        texts = pa.table([[getattr(query, name) for query in asked] for name in of_query.names], schema=of_query)
        of_grade = [name for name in _owned(Grade, {*wanted, *named}) if name not in _KEY]
        grades = self._current_grades(asked, grader_version, query_ids, of_grade)

        def joined(trials: pa.Table, columns: Sequence[str]) -> pa.Table:
            keys = keys_of(trials, query_ids)
            for name in _owned(Grade, set(columns) - set(_KEY)):
                trials = trials.append_column(name, grades.take(name, keys))
            for name in _owned(Query, set(columns) - set(_KEY)):
                trials = trials.append_column(name, texts.column(name).take(pa.array(keys >> 32)))
            return trials

        every = list(dict.fromkeys([*_KEY, *wanted]))
        filtered = list(dict.fromkeys([*_KEY, *named]))
        pieces = [pa.schema([_sample_columns()[name] for name in every]).empty_table()]
        for file in self._files("trials"):
            for group in range(file.num_row_groups):
                light = file.read_row_group(group, columns=_owned(Trial, set(filtered)))
                rows = np.flatnonzero(keys_of(light, query_ids) >= 0)
                if where:
                    frame = _plain(joined(light.take(pa.array(rows)), filtered)).to_pandas()
                    rows = rows[frame.query(where).index.to_numpy()]
                if len(rows):
                    full = file.read_row_group(group, columns=_owned(Trial, set(every))).take(pa.array(rows))
                    pieces.append(_plain(joined(full, every)).select(every).cast(pieces[0].schema))
        return pa.concat_tables(pieces)

    def _whole(self, kind: str, columns: Sequence[str] | None) -> pa.Table:
        schema = schema_of(shards.KINDS[kind])
        schema = pa.schema([schema.field(name) for name in columns or schema.names])

        def read() -> pa.Table:
            tables = [file.read(schema.names).cast(schema) for file in self._files(kind)]
            return pa.concat_tables([schema.empty_table(), *tables])

        return self._again_if_merged(read)

    def _batches(self, kind: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for file in self._files(kind):
            yield from file.iter_batches(shards.ROWS_PER_GROUP, columns=list(columns))

    def _files(self, kind: str) -> Iterator[pq.ParquetFile]:
        """The shards of a kind that can be used, each open while it is read."""
        for shard in shards.list_shards(self.folder, kind):
            if shard.path.name in self._damaged:
                continue
            try:
                shards.check_shard(shard, self._setting)
                file = shards.open_shard(shard)
            except (RecordError, FileNotFoundError) as error:
                if not shard.path.exists():
                    raise _Merged from None
                self.unreadable.append(str(error).removeprefix(f"{self.folder}/"))
                continue
            self._reading = shard.path.name
            with file:
                yield file

    def _again_if_merged(self, read: Callable[[], Result]) -> Result:
        """What ``read`` returns; it starts again when a shard was merged meanwhile, or without one that is damaged."""
        for _ in range(_READ_AGAIN):
            self.unreadable = [f"{name}: not a shard's name" for name in shards.foreign_names(self.folder)]
            self.unreadable += [f"{name}: damaged ({why})" for name, why in self._damaged.items()]
            try:
                return read()
            except _Merged:
                continue
            except (pa.ArrowInvalid, OSError) as error:  # its footer was whole, its pages are not
                self._damaged[self._reading] = str(error)
        raise PoolError(f"{self.folder}: its files keep vanishing or are damaged: {'; '.join(self.unreadable)}")


def open_pool(path: Path) -> PoolReader:
    """Open a setting's folder, or a pool folder that holds exactly one setting.

    Raises PoolError when nothing is there or when several settings would have to be told apart.
    """
    return PoolReader(setting_folder(path))


@cache
def _sample_columns() -> dict[str, pa.Field]:
    """Every column of a sample: a trial's, its query's and its grade's."""
    fields = {field.name: field for record in (Trial, Query, Grade) for field in schema_of(record)}
    return {
        name: field if name in schema_of(Trial).names else field.with_nullable(True) for name, field in fields.items()
    }


def _owned(record: type, names: Collection[str]) -> list[str]:
    return [name for name in schema_of(record).names if name in names]


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if name not in _sample_columns():
            raise PoolError(f"samples have no column {name!r}; {did_you_mean(name, _sample_columns())}")


def _names_in(where: str) -> list[str]:
    """The columns that a pandas query string speaks of (parsed, never run)."""
    try:
        nodes = list(ast.walk(ast.parse(where, mode="eval")))
    except SyntaxError as error:
        raise PoolError(f"where={where!r} is no pandas query string ({error.msg})") from None
    return [name for name in _sample_columns() if name in {node.id for node in nodes if isinstance(node, ast.Name)}]


def _plain(table: pa.Table) -> pa.Table:
    """Dictionaries as the strings they stand for."""
    return table.cast(pa.schema([_sample_columns()[name] for name in table.column_names]))


def _without_repeats(table: pa.Table) -> pa.Table:
    """By query then trial; of a (query, trial) that was copied into the pool twice the older row stays."""
    table = table.sort_by([("query_id", "ascending"), ("trial", "ascending")])
    if table.num_rows < 2:
        return table
    new = [pc.not_equal(column[1:], column[:-1]) for column in (table.column(name).combine_chunks() for name in _KEY)]
    return table.filter(pa.concat_arrays([pa.array([True]), pc.or_(*new)]))

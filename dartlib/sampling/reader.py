"""Reading a pool, also while a run writes to it: SQL over its shards.

Of a trial that was copied into the pool twice the older row counts, of its grades the newest that judges this very
response. Both are found from numbers alone; texts leave the disk only for the rows that are wanted.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dartlib.records import Counts, Grade, Query, RecordError, Sample, Trial, schema_of, to_table, write_batches
from dartlib.sampling import shards
from dartlib.sampling.conditions import Condition, names_of
from dartlib.sampling.ledger import VERDICTS, Ledger
from dartlib.sampling.pool import PoolError, grader_key, read_setting, setting_folder

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_READ_AGAIN = 100  # times, when shards were merged under a reader's hands: a merge takes about as long as a try
_MEMORY = "800MB"  # DuckDB spills to its temporary folder beyond this
_ROWS_AT_A_TIME = 16_384
_TEXT_AT_A_TIME = 400 * 2**20  # bytes that are sorted together: DuckDB 2.0 does not spill a sort of texts
# The oldest row of each (query, trial), and the newest of that row's current grades: {} are the wanted columns of it.
_PLACED = "SELECT *, file_index << 40 | file_row_number AS place FROM read_parquet([{}], file_row_number = true)"
_KEYS = """
    SELECT number, trial, min(t.place) AS place{} FROM
        (SELECT number, trial::INTEGER AS trial, response_hash, t.place FROM trials t JOIN asked USING (query_id)) t
        LEFT JOIN (SELECT number, trial::INTEGER AS trial, g.* EXCLUDE (query_id, trial) FROM grades g
            JOIN asked USING (query_id) WHERE due IS NULL OR grader = due) g USING (number, trial, response_hash)
    GROUP BY number, trial"""
_NEWEST = ", arg_max_null({0}, coalesce(g.place, 0) - (t.place::HUGEINT << 60)) AS {0}"
_CODE = f"coalesce(list_position({VERDICTS}, verdict), 0)::TINYINT - 1::TINYINT"

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

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Trial rows as Arrow, in the order they were flushed."""
        return self._whole("trials", columns)

    def attempts(self) -> pa.Table:
        """Failed requests as Arrow."""
        return self._whole("attempts")

    def queries(self) -> list[Query]:
        """The queries that were asked, each in its last version (a reference may have been corrected)."""
        latest = {row["query_id"]: Query(**row) for row in self._whole("queries").to_pylist()}
        return list(latest.values())

    def ledger(self, queries: Sequence[Query] | None = None, grader_version: str | None = None) -> Ledger:
        """Trials and verdicts of ``queries`` (default: all that were asked).

        With ``grader_version`` only grades by that version, for the query's present reference, count; without, the
        newest grade of each trial.
        """
        asked = self.queries() if queries is None else queries
        keys = _KEYS.format(_NEWEST.format("verdict"))
        sql = f"SELECT number, trial, {_CODE} AS verdict FROM ({keys}) ORDER BY number, trial"
        found = self._read(asked, grader_version, lambda connection: connection.execute(sql).fetchnumpy())
        return Ledger([query.query_id for query in asked], found["number"], found["trial"], found["verdict"])

    def samples(
        self,
        queries: Sequence[Query] | None = None,
        grader_version: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> pd.DataFrame:
        """Trials joined with their grades and queries, by query (in the order asked) then trial, as a data frame.

        ``columns``: any of the columns of Trial, Query and Grade (default: all). ``where`` is a condition on them as
        in pandas (see `conditions`), for example ``"level == 5 and verdict == 'correct'"``. ``queries`` and
        ``grader_version`` as in `ledger`; trials without a current grade have no verdict. Raises PoolError for a
        column that does not exist, and for a condition that is not understood.
        """
        names = names_of(list(_columns()) if columns is None else columns, _columns())
        schema = pa.schema([_columns()[name] for name in names])
        asked = self.queries() if queries is None else queries
        sql, values = _select(names, where)
        return self._read(asked, grader_version, lambda found: _sorted(found, sql, values, schema)).to_pandas()

    def write_samples(self, path: Path, queries: Sequence[Query], grader_version: str) -> int:
        """Write the graded trials of ``queries`` as a file of Sample records, in any amount; returns their number."""
        schema = schema_of(Sample)
        sql, values = _select(schema.names, "verdict.notna()")
        counts = self.ledger(queries, grader_version).counts()

        def batches() -> Iterator[pa.RecordBatch]:
            for part in _parts(queries, counts, self._trials_at_a_time()):
                with self._views(part, grader_version) as found:
                    yield from _sorted(found, sql, values, schema).to_batches(_ROWS_AT_A_TIME)

        return self._again_if_merged(lambda: write_batches(path, batches(), Sample))

    def _trials_at_a_time(self) -> int:
        """How many trials hold about _TEXT_AT_A_TIME bytes, by the footers of their files."""
        files = [pq.read_metadata(path) for path in self._files("trials")]
        size = sum(file.row_group(number).total_byte_size for file in files for number in range(file.num_row_groups))
        return 1 + _TEXT_AT_A_TIME * sum(file.num_rows for file in files) // max(size, 1)

    def ungraded(self, queries: Sequence[Query], grader_version: str, rows: int = 1000) -> Iterator[list[Trial]]:
        """The trials without a current grade, at most ``rows`` at a time; for the holder of the lease.

        A shard whose texts turn out to be damaged is set aside, and PoolError says so.
        """
        import duckdb

        sql, values = _select(schema_of(Trial).names, "verdict.isna()")
        try:
            with self._views(queries, grader_version) as connection:
                for batch in connection.sql(sql, params=values).to_arrow_reader(rows):
                    yield [Trial(**row) for row in batch.select(schema_of(Trial).names).to_pylist()]
        except (duckdb.Error, pa.ArrowInvalid, OSError):
            if not self._find_damage(shards.all_paths(self.folder)):
                raise
            for name in self._damaged:
                shards.set_aside(self.folder / name)
            names = ", ".join(self._damaged)
            raise PoolError(f"{self.folder}: {names} {shards.DRAWN_AGAIN}") from None

    def show(
        self, query_id: str, queries: Sequence[Query] | None = None, grader_version: str | None = None
    ) -> pd.DataFrame:
        """Every trial of one query with its answer, verdict and reason, for reading."""
        chosen = [query for query in queries or self.queries() if query.query_id == query_id]
        if not chosen:
            raise PoolError(f"{self.folder}: no query {query_id!r} was asked here")
        columns = ["trial", "verdict", "reason", "answer", "reference_answer", "finish_reason", "response"]
        return self.samples(chosen, grader_version, columns=columns)

    def _whole(self, kind: str, columns: Sequence[str] | None = None) -> pa.Table:
        schema = schema_of(shards.KINDS[kind])
        schema = pa.schema([schema.field(name) for name in columns or schema.names])

        def read() -> pa.Table:
            tables = [pq.read_table(path, columns=schema.names).cast(schema) for path in self._files(kind)]
            return pa.concat_tables([schema.empty_table(), *tables])

        return self._again_if_merged(read)

    def _read(
        self,
        queries: Sequence[Query],
        grader_version: str | None,
        read: Callable[[duckdb.DuckDBPyConnection], Result],
    ) -> Result:
        def attempt() -> Result:
            with self._views(queries, grader_version) as connection:
                return read(connection)

        return self._again_if_merged(attempt)

    @contextmanager
    def _views(self, queries: Sequence[Query], grader_version: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database in memory in which the pool's shards are ``trials`` and ``grades``, and the queries ``asked``."""
        import duckdb

        due = [None if grader_version is None else grader_key(grader_version, query) for query in queries]
        asked = to_table(queries, Query).append_column("due", pa.array(due, pa.string()))
        asked = asked.append_column("number", pa.array(range(len(queries)), pa.int32()))
        with tempfile.TemporaryDirectory(prefix="dartlib-pool-") as spill:
            options = {"memory_limit": _MEMORY, "temp_directory": spill, "autoinstall_known_extensions": "false"}
            with duckdb.connect(":memory:", config=options | {"arrow_large_buffer_size": "true"}) as connection:
                connection.register("asked", asked)
                for kind in ("trials", "grades"):
                    if files := ", ".join(map(_quoted, self._files(kind))):
                        connection.execute(f"CREATE VIEW {kind} AS {_PLACED.format(files)}")
                    else:
                        empty = (
                            schema_of(shards.KINDS[kind]).empty_table().append_column("place", pa.array([], "int64"))
                        )
                        connection.register(kind, empty)
                yield connection

    def _files(self, kind: str) -> list[Path]:
        """The shards of a kind that can be used."""
        usable = []
        for shard in shards.list_shards(self.folder, kind):
            try:
                if shard.path.name not in self._damaged:
                    shards.check_shard(shard, self._setting)
                    usable.append(shard.path)
            except RecordError as error:
                if not shard.path.exists():
                    raise _Merged from None
                note = str(error).removeprefix(f"{self.folder}/")
                self.unreadable += [note] if note not in self.unreadable else []
        return usable

    def _again_if_merged(self, read: Callable[[], Result]) -> Result:
        """What ``read`` returns; it starts again when a shard was merged meanwhile, or without one that is damaged."""
        import duckdb

        for _ in range(_READ_AGAIN):
            self.unreadable = [f"{name}: not a shard's name" for name in shards.foreign_names(self.folder)]
            self.unreadable += [f"{name}: damaged ({why})" for name, why in self._damaged.items()]
            before = shards.all_paths(self.folder)
            try:
                return read()
            except _Merged:
                continue
            except (duckdb.Error, pa.ArrowInvalid, OSError) as error:  # a footer was whole, its pages are not?
                if before == shards.all_paths(self.folder) and not self._find_damage(before):
                    if isinstance(error, duckdb.OutOfMemoryException):
                        raise PoolError(
                            f"{self.folder}: too much at once: ask for fewer columns, queries or rows"
                        ) from error
                    if isinstance(error, duckdb.Error):
                        raise PoolError(f"{self.folder}: {str(error).partition(chr(10))[0]}") from error
                    raise
        raise PoolError(f"{self.folder}: its files keep vanishing or are damaged: {'; '.join(self.unreadable)}")

    def _find_damage(self, paths: Collection[Path]) -> bool:
        """Note the files whose pages cannot be read; True if there is a new one."""
        known = len(self._damaged)
        for path in paths:
            try:
                with pq.ParquetFile(path) as file:
                    for _ in file.iter_batches(_ROWS_AT_A_TIME):
                        pass
            except (pa.ArrowInvalid, OSError) as error:
                self._damaged[path.name] = str(error)
        return len(self._damaged) > known


def open_pool(path: Path) -> PoolReader:
    """Open a setting's folder, or a pool folder that holds exactly one setting.

    Raises PoolError when nothing is there or when several settings would have to be told apart.
    """
    return PoolReader(setting_folder(path))


@cache
def _columns() -> dict[str, pa.Field]:
    """Every column of a sample: a trial's, its query's and its grade's."""
    fields = {field.name: field for record in (Grade, Query, Trial) for field in schema_of(record)}
    return {name: field.with_nullable(True) for name, field in fields.items()}


def _select(names: Sequence[str], where: str | None) -> tuple[str, list[object]]:
    """SQL for these columns of the samples that ``where`` keeps, with their query's number and trial as ``at``."""
    condition = Condition(where, _columns()) if where else None
    used = {*names, *(condition.names if condition else ())} - {"query_id", "trial"}
    of_trial = used & set(schema_of(Trial).names)
    of_query = used & set(schema_of(Query).names)
    newest = "".join(map(_NEWEST.format, sorted(used - of_trial - of_query)))
    owned = "".join(f", a.{name}" for name in sorted(of_query)) + "".join(f", t.{name}" for name in sorted(of_trial))
    drawn = "JOIN trials t ON t.place = k.place AND t.query_id = a.query_id" if of_trial else ""
    sql = f"SELECT k.*, a.query_id{owned} FROM ({_KEYS.format(newest)}) k JOIN asked a USING (number) {drawn}"
    kept = f"WHERE {condition.sql}" if condition else ""
    listed = ", ".join([*names, "number", "trial AS at"])
    return f"SELECT {listed} FROM ({sql}) {kept}", condition.values if condition else []


def _sorted(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object], schema: pa.Schema) -> pa.Table:
    """What `_select` selects, by query, then trial."""
    table = connection.sql(sql, params=values).to_arrow_table()
    return table.sort_by([("number", "ascending"), ("at", "ascending")]).select(schema.names).cast(schema)


def _parts(queries: Sequence[Query], counts: Mapping[str, Counts], size: int) -> Iterator[list[Query]]:
    """The queries in their order, so many at a time that they have about ``size`` trials together."""
    part, trials = list[Query](), 0
    for query in queries:
        part.append(query)
        trials += counts[query.query_id].trials
        if trials >= size:
            yield part
            part, trials = [], 0
    if part:
        yield part


def _quoted(path: Path) -> str:
    """An SQL text in which nothing of the path is a wildcard."""
    return "'" + re.sub(r"[*?\[]", r"[\g<0>]", str(path)).replace("'", "''") + "'"

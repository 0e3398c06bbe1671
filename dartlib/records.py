"""The contracts between rooms: frozen records, their Arrow schemas, and strict readers and writers.

A stage hands its work to the next one as a Parquet file of one of these records. Readers check every
column by name and type, so a wrong file stops the run with one clear line instead of wrong numbers.
What this module does not do: it knows nothing of models, grading or run folders.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dartlib.files import first_line, replacing, text_digest, write_table_atomically, write_text_atomically


class RecordError(ValueError):
    """A file or row breaks a record's contract; the message names file, row or column, and the fix."""


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """Text that names the closest of ``choices``, or all of them when none is close."""
    close = get_close_matches(word.lower(), {choice.lower(): choice for choice in choices}, n=1, cutoff=0.5)
    if close:
        return f"did you mean {next(choice for choice in choices if choice.lower() == close[0])!r}?"
    return f"valid: {', '.join(sorted(choices))}" if choices else "there is none"


class Verdict(StrEnum):
    """What became of one trial. Only ``correct`` enters a data set; all five are counted in reports."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"  # nothing to grade, or cut by length even if boxed (as in the paper)
    TIMEOUT = "timeout"  # the grader gave up: a trial, not correct
    ERROR = "error"  # no usable reply from the engine: retried, never a trial


STRATEGIES = ("vrt", "uniform", "prop2diff")


class Counts(NamedTuple):
    """How many of so many trials of a query were correct; in this order everywhere."""

    correct: int
    trials: int


def response_hash(response: str) -> str:
    """12 hex digits that tell one response from another."""
    return text_digest(response, 12)


@dataclass(frozen=True, slots=True)
class Query:
    """One question with its reference answer. ``level`` is 1 (easy) to 5 (hard), or None."""

    query_id: str
    source: str
    query: str
    reference_answer: str
    answer_type: str = "number"
    tolerance: float | None = None
    level: int | None = None
    domain: str | None = None
    metadata: str = "{}"  # a JSON object


@dataclass(frozen=True, slots=True)
class Trial:
    """One numbered attempt at a query: raw facts only. ``seconds`` is wall time inside the engine.

    ``response_hash`` follows from the response, and is kept so that grades find their trial without reading texts.
    """

    query_id: str
    trial: int
    seed: int
    setting: str
    response: str
    finish_reason: str  # "stop" or "length"
    n_tokens: int
    logprob_sum: float | None
    engine: str
    seconds: float
    response_hash: str = ""

    def __post_init__(self) -> None:
        if not self.response_hash:
            object.__setattr__(self, "response_hash", response_hash(self.response))


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one trial, kept beside the pool so that it can be rebuilt.

    ``grader`` identifies the grader version and the reference answer behind the verdict, ``response_hash`` the
    response that was judged: where one of them is not the current one, the trial is graded again.
    """

    query_id: str
    trial: int
    answer: str | None
    verdict: str
    reason: str
    grader: str
    response_hash: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of ``samples.parquet``: a trial of the pool with its current grade.

    Rows are by query, in the order asked, then trial.
    """

    query_id: str
    trial: int
    level: int | None
    verdict: str
    answer: str | None
    n_tokens: int
    finish_reason: str
    response: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed request: no trial came of it. ``time`` is seconds since the epoch (UTC)."""

    query_id: str
    trial: int
    attempt: int
    reason: str
    time: float


@dataclass(frozen=True, slots=True)
class SftRow:
    """One row of a synthetic data set; ``query`` and ``response`` as in the published sets."""

    query: str
    response: str
    query_id: str
    trial: int
    source: str
    level: int | None
    pass_rate: float | None
    strategy: str


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """What a strategy asked of one query and what it got.

    ``n_difficulty`` / ``n_difficulty_correct`` count the difficulty trials behind ``fail_rate``, none where it was
    measured elsewhere; ``quota`` is None for ``vrt``; ``n_trials`` counts trials up to the index that met the quota or
    the cap; ``n_correct`` is the number of rows it gave. ``status`` is ``met``, ``cap``, ``given up`` (by a stopping
    rule), ``stuck`` (the engine failed), ``budget`` (the run ended first) or ``drawn`` (vrt).
    """

    query_id: str
    strategy: str
    level: int | None
    n_difficulty: int
    n_difficulty_correct: int
    fail_rate: float
    quota: int | None
    cap: int
    n_trials: int
    n_correct: int
    status: str


@dataclass(frozen=True, slots=True)
class Item:
    """One graded reply to a benchmark question; everything that a score rests on is in these rows.

    ``benchmark_version`` is the digest of the questions and references asked, ``prompt_digest`` of this question's
    whole prompt, ``response_hash`` of the response (sha256, the first 12 hex digits). ``grader`` and ``engine``
    carry their versions, ``weights`` identifies the model.
    """

    query_id: str
    benchmark: str
    benchmark_version: str
    level: int | None
    domain: str | None
    trial: int
    verdict: str
    reason: str
    answer: str | None
    finish_reason: str
    n_tokens: int
    response: str
    response_hash: str
    prompt_digest: str
    grader: str
    engine: str
    weights: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished stage leaves behind. Written last: its presence means the stage is complete."""

    stage: str
    status: str  # "complete"
    parameters: Mapping[str, Any]
    git_commit: str
    git_dirty: bool
    versions: Mapping[str, str]
    hardware: Mapping[str, Any]
    seeds: Mapping[str, Any]
    inputs: Mapping[str, Any]  # all that the digest covers: name -> value, or sha256 of a file
    outputs: Mapping[str, str]  # path relative to the run folder -> sha256
    started: str  # ISO 8601, UTC
    finished: str
    seconds: float
    notes: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""  # of the inputs: while theirs is the same, the stage need not run again


# Large strings: one column may hold more than 2 GiB of text.
_ARROW_TYPES = {"str": pa.large_string(), "int": pa.int64(), "float": pa.float64()}
RecordType = TypeVar("RecordType", Query, Trial, Grade, Attempt, SftRow, QueryOutcome, Sample, Item)


def schema_of(record: type) -> pa.Schema:
    """The Arrow schema of a record: one column per field; ``X | None`` fields are nullable."""
    columns = []
    for item in fields(record):
        name, _, optional = str(item.type).partition(" | ")
        columns.append(pa.field(item.name, _ARROW_TYPES[name], nullable=optional == "None"))
    return pa.schema(columns)


def make_query_id(source: str, version: str, query: str, occurrence: int = 0) -> str:
    """16 hex digits from source, its version, the stripped text and the occurrence number among equal texts."""
    return text_digest("\x00".join([source, version, query.strip(), str(occurrence)]), 16)


def make_queries(rows: Iterable[Mapping[str, Any]], *, source: str, version: str) -> list[Query]:
    """Build queries with ids from rows that carry ``query``, ``reference_answer`` and optional record fields.

    Equal texts get occurrence numbers 0, 1, 2 … because some benchmarks repeat questions.
    """
    seen: Counter[str] = Counter()
    queries = []
    for row in rows:
        text = str(row["query"]).strip()
        identity = make_query_id(source, version, text, seen[text])
        seen[text] += 1
        queries.append(Query(query_id=identity, source=source, **{**row, "query": text}))
    return queries


def check_unique(queries: Sequence[Query]) -> None:
    """Raise RecordError when two rows claim one ``query_id``."""
    counts = Counter(query.query_id for query in queries)
    repeated = [identity for identity, count in counts.items() if count > 1]
    if repeated:
        raise RecordError(
            f"{len(repeated)} query_id repeated, first {repeated[0]!r}: give repeated questions different occurrences"
        )


def to_table(records: Iterable[RecordType], record: type[RecordType]) -> pa.Table:
    """Records as an Arrow table in the record's schema; an empty iterable gives an empty table."""
    rows, schema = list(records), schema_of(record)
    columns = [pa.array([getattr(row, column.name) for row in rows], column.type) for column in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def write_records(path: Path, records: Iterable[RecordType], record: type[RecordType]) -> None:
    """Write records as one Parquet file, whole or absent."""
    write_table_atomically(path, to_table(records, record))


def write_batches(path: Path, batches: Iterable[pa.Table | pa.RecordBatch], record: type) -> int:
    """Write a record's rows as they come, one row group per batch, whole or absent; returns how many there were."""
    schema, rows = schema_of(record), 0
    with replacing(path) as handle, pq.ParquetWriter(handle, schema, compression="zstd") as writer:
        for batch in batches:
            table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            writer.write_table(table.select(schema.names).cast(schema))
            rows += batch.num_rows
    return rows


def read_schema(path: Path) -> pa.Schema:
    """The columns of a Parquet file, from its footer. Raises RecordError when there is none or it cannot be read."""
    if path.is_dir():
        raise RecordError(f"{path}: is a folder: name one file in it")
    try:
        return pq.read_schema(path)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        why = f"not a readable Parquet file, perhaps cut short ({first_line(error)})"
        raise RecordError(f"{path}: {why}: write or fetch it again") from None


def check_columns(path: Path, record: type[RecordType], columns: Sequence[str] | None = None) -> list[str]:
    """The wanted columns (all by default) of a Parquet file of a record, once each is there with its type.

    Only the file's footer is read. Raises RecordError naming the file and the missing or mistyped column.
    """
    wanted, stored = schema_of(record), read_schema(path)
    names = list(columns) if columns is not None else wanted.names
    for name in names:
        if name not in stored.names:
            raise RecordError(f"{path}: column {name!r} is missing (found: {', '.join(stored.names)})")
        if not _same_kind(stored.field(name).type, wanted.field(name).type):
            expected = str(wanted.field(name).type).removeprefix("large_")
            raise RecordError(f"{path}: column {name!r} is {stored.field(name).type}, expected {expected}")
    return names


def read_table(path: Path, record: type[RecordType], columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of a record, checking every wanted column by name and type.

    Raises RecordError naming the file and the missing or mistyped column.
    """
    wanted = schema_of(record)
    names = check_columns(path, record, columns)
    table = pq.read_table(path, columns=names)
    for name in names:
        if not wanted.field(name).nullable and table.column(name).null_count:
            raise RecordError(f"{path}: column {name!r} has {table.column(name).null_count} empty values")
    return table.cast(pa.schema([wanted.field(name) for name in names]))


def read_records(path: Path, record: type[RecordType]) -> list[RecordType]:
    """Read a whole Parquet file as records (see read_table for what is refused)."""
    return [record(**row) for row in read_table(path, record).to_pylist()]


def _same_kind(stored: pa.DataType, wanted: pa.DataType) -> bool:
    """True when a stored type reads as the wanted one without loss (any integer width, any string width)."""
    if pa.types.is_large_string(wanted):
        return pa.types.is_null(stored) or pa.types.is_string(stored) or pa.types.is_large_string(stored)
    number = pa.types.is_null(stored) or pa.types.is_integer(stored)
    return number or pa.types.is_floating(wanted) and pa.types.is_floating(stored)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as JSON, whole or absent."""
    write_text_atomically(path, json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; RecordError when the file is not one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**values)
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not a manifest ({error}); delete it and run the stage again") from None

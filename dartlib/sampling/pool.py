"""The pool: every trial ever drawn for one setting, in append-only Parquet shards, with grades beside it.

Layout of ``<pool folder>/<setting>/``: ``setting.json`` (what the setting is), ``trials-000001.parquet`` …,
``grades-000001.parquet`` …, ``attempts-000001.parquet`` … A shard is written under a temporary name, synced and
renamed, so a file that is there is whole. Files that cannot be read are named in ``unreadable`` and left alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dartlib.engines.protocol import SamplingParameters
from dartlib.records import (
    Attempt,
    Grade,
    Query,
    RecordError,
    RecordType,
    Trial,
    Verdict,
    read_table,
    schema_of,
    write_records,
    write_text_atomically,
)

if TYPE_CHECKING:
    import pandas as pd

_SHARD = re.compile(r"^(trials|grades|attempts)-(\d{6,})\.parquet$")
_KINDS: dict[str, type] = {"trials": Trial, "grades": Grade, "attempts": Attempt}


class PoolError(RuntimeError):
    """The pool cannot be used as asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that decides the distribution of a response. ``identity`` is its hash, 12 hex digits."""

    weights: str
    template: str  # fingerprint of the prompt template
    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...]
    sampling_seed: int

    @classmethod
    def of(cls, weights: str, template: str, sampling: SamplingParameters, sampling_seed: int) -> Setting:
        """The setting of an engine's weights, a template and sampling parameters."""
        return cls(
            weights, template, sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop, sampling_seed
        )

    @property
    def identity(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def trial_seed(sampling_seed: int, query_id: str, trial: int) -> int:
    """Seed of one trial (31 bits), from sampling seed, query and trial number alone."""
    text = f"{sampling_seed}\x00{query_id}\x00{trial}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF


def grader_key(grader_version: str, query: Query) -> str:
    """Identifies what a verdict rests on: the grader and the query's reference answer."""
    parts = [grader_version, query.reference_answer, query.answer_type, str(query.tolerance)]
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:12]


class PoolWriter:
    """Appends to one setting's folder. ``flush`` writes what came since the last one as one shard per kind."""

    def __init__(self, pool_folder: Path, setting: Setting) -> None:
        self.folder = pool_folder / setting.identity
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.folder / "setting.json", json.dumps(asdict(setting), indent=2) + "\n")
        self._waiting: dict[str, list[Trial | Grade | Attempt]] = {kind: [] for kind in _KINDS}
        numbers = [int(match[2]) for path in self.folder.iterdir() if (match := _SHARD.match(path.name))]
        self._next = max(numbers, default=0) + 1

    def add_trial(self, trial: Trial) -> None:
        self._waiting["trials"].append(trial)

    def add_grade(self, grade: Grade) -> None:
        self._waiting["grades"].append(grade)

    def add_attempt(self, attempt: Attempt) -> None:
        self._waiting["attempts"].append(attempt)

    def flush(self) -> None:
        """Write waiting rows; they stay waiting when the disk refuses (OSError), so nothing is lost by a retry.

        Trials go first: a grade never stands without its trial. A number is used once, also after a failed flush.
        """
        number = self._next
        self._next += 1
        for kind in _KINDS:
            rows = self._waiting[kind]
            if rows:
                write_records(self.folder / f"{kind}-{number:06d}.parquet", rows, _KINDS[kind])  # type: ignore[type-var]
                self._waiting[kind] = []


class PoolReader:
    """Reads one setting's folder, also while a run writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[str] = []

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Trial rows as Arrow, in the order they were flushed."""
        return self._read("trials", Trial, columns)

    def grades(self) -> pa.Table:
        """Grade rows as Arrow; several per trial when a newer grader ran."""
        return self._read("grades", Grade, None)

    def attempts(self) -> pa.Table:
        """Failed requests as Arrow."""
        return self._read("attempts", Attempt, None)

    def samples(self, queries: Sequence[Query], grader_version: str, where: str | None = None) -> pd.DataFrame:
        """Trials joined with their current grades and their queries, by query then trial.

        ``where`` is a pandas query string over the columns, for example ``"level == 5 and verdict == 'correct'"``.
        Trials that the current grader has not graded have verdict None.
        """
        frame = self.trials().to_pandas().drop_duplicates(["query_id", "trial"])
        keys = {query.query_id: grader_key(grader_version, query) for query in queries}
        grades = self.grades().to_pandas()
        grades = grades[grades["grader"] == grades["query_id"].map(keys)].drop_duplicates(["query_id", "trial"])
        texts = pa.Table.from_pylist([asdict(query) for query in queries], schema=schema_of(Query)).to_pandas()
        joined = frame.merge(texts, on="query_id").merge(grades, on=["query_id", "trial"], how="left")
        joined = joined.sort_values(["query_id", "trial"], ignore_index=True)
        return joined.query(where) if where else joined

    def show(self, query_id: str, queries: Sequence[Query], grader_version: str) -> pd.DataFrame:
        """Every trial of one query with its answer, verdict and reason, for reading."""
        frame = self.samples([query for query in queries if query.query_id == query_id], grader_version)
        return frame[["trial", "verdict", "reason", "answer", "reference_answer", "finish_reason", "response"]]

    def _read(self, kind: str, record: type[RecordType], columns: Sequence[str] | None) -> pa.Table:
        self.unreadable = []
        tables = []
        for path in sorted(self.folder.glob(f"{kind}-*.parquet")):
            if not _SHARD.match(path.name):
                self.unreadable.append(path.name)
                continue
            try:
                tables.append(read_table(path, record, columns))
            except RecordError as error:
                self.unreadable.append(f"{path.name}: {error}")
        if not tables:
            schema = schema_of(record)
            return pa.schema([schema.field(name) for name in columns or schema.names]).empty_table()
        return pa.concat_tables(tables)


def open_pool(path: Path) -> PoolReader:
    """Open a setting's folder, or a pool folder that holds exactly one setting.

    Raises PoolError when nothing is there or when several settings would have to be told apart.
    """
    if (path / "setting.json").exists():
        return PoolReader(path)
    settings = sorted(folder.parent for folder in path.glob("*/setting.json"))
    if len(settings) != 1:
        names = ", ".join(folder.name for folder in settings) or "none"
        raise PoolError(f"{path}: expected one setting, found {names}; name one of them")
    return PoolReader(settings[0])


def known_verdicts(
    reader: PoolReader, queries: Sequence[Query], grader_version: str
) -> tuple[list[tuple[str, int, Verdict]], list[Trial]]:
    """What a resumed run starts from: (query, trial, verdict) of graded trials, and trials to grade again.

    A trial needs grading when no grade carries the current grader key of its query.
    """
    wanted = {query.query_id: grader_key(grader_version, query) for query in queries}
    verdicts = {
        (row["query_id"], row["trial"]): Verdict(row["verdict"])
        for row in reader.grades().to_pylist()
        if wanted.get(row["query_id"]) == row["grader"]
    }
    graded, waiting, seen = [], [], set()
    for row in reader.trials(["query_id", "trial"]).to_pylist():
        key = (row["query_id"], row["trial"])
        if key in seen or key[0] not in wanted:
            continue
        seen.add(key)
        if key in verdicts:
            graded.append((*key, verdicts[key]))
        else:
            waiting.append(key)
    if not waiting:
        return graded, []
    missing = set(waiting)
    texts = {(row["query_id"], row["trial"]): Trial(**row) for row in reader.trials().to_pylist()}
    return graded, [trial for key, trial in texts.items() if key in missing]

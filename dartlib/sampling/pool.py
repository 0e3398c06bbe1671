"""The pool: every trial ever drawn for one setting, in append-only Parquet shards, with grades beside it.

Layout of ``<pool folder>/<setting>/``: ``setting.json`` (what the setting is, and the version of this layout),
``trials-000001.parquet`` …, ``grades-…``, ``attempts-…`` and ``queries-…`` (the texts asked about). A shard is written
under a temporary name, synced and renamed, so a file that is there is whole; `shards` merges small ones. Files that
cannot be used are named by readers and moved to ``set-aside/`` by the next run.
"""

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from dartlib.engines.protocol import SamplingParameters
from dartlib.files import text_digest, write_text_atomically
from dartlib.records import Attempt, Grade, Query, Trial, read_records, write_records
from dartlib.sampling import shards

LENIENT = "/lenient"  # the end of a lenient grader's version
SCHEMA_VERSION = 2  # since 2, trials and grades name the response
SAMPLING_VERSION = "1"  # raised by hand when the same settings give other trials, data sets or scores


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

    def __post_init__(self) -> None:
        for name, number in (("temperature", float), ("top_p", float), ("max_tokens", int), ("sampling_seed", int)):
            object.__setattr__(self, name, number(getattr(self, name)))  # 1 and 1.0 are one setting

    @classmethod
    def of(cls, weights: str, template: str, sampling: SamplingParameters, sampling_seed: int) -> Self:
        """The setting of an engine's weights, a template and sampling parameters."""
        return cls(
            weights, template, sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop, sampling_seed
        )

    @property
    def identity(self) -> str:
        return text_digest(json.dumps(asdict(self), sort_keys=True), 12)


def read_setting(folder: Path) -> Setting:
    """The setting of a folder; PoolError when it is none, or of a newer dartlib."""
    path = folder / "setting.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("schema_version", 1)
        if version == SCHEMA_VERSION:
            return Setting(**{**values, "stop": tuple(values["stop"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PoolError(f"{path}: not the setting of a pool ({error})") from None
    raise PoolError(
        f"{path}: its layout is {version}, this dartlib reads {SCHEMA_VERSION}: use the one that wrote it, or sample "
        "into another folder"
    )


def trial_seed(sampling_seed: int, query_id: str, trial: int) -> int:
    """Seed of one trial (31 bits), from sampling seed, query and trial number alone."""
    text = f"{sampling_seed}\x00{query_id}\x00{trial}"
    return int(text_digest(text, 8), 16) & 0x7FFFFFFF


def grader_key(grader_version: str, query: Query) -> str:
    """Identifies what a verdict rests on: the grader and the query's reference answer; tells a lenient grader."""
    parts = [grader_version, query.reference_answer, query.answer_type, str(query.tolerance)]
    digest = text_digest("\x00".join(parts), 12)
    return digest + LENIENT if grader_version.endswith(LENIENT) else digest


class PoolWriter:
    """Appends to one setting's folder; for the holder of its lease only.

    ``flush`` writes what came since the last one as one shard per kind. ``set_aside`` says which files could not be
    used and were moved away. Safe to use from two threads: one that flushes, one that merges shards.
    """

    def __init__(self, pool_folder: Path, setting: Setting) -> None:
        self.folder = pool_folder / setting.identity
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "setting.json").exists():
            read_setting(self.folder)  # refuses a layout that is not ours
        values = {"schema_version": SCHEMA_VERSION, **asdict(setting)}
        write_text_atomically(self.folder / "setting.json", json.dumps(values, indent=2) + "\n")
        self.set_aside = shards.clean(self.folder, setting.identity)
        self._waiting: dict[str, list[Query | Trial | Grade | Attempt]] = {kind: [] for kind in shards.KINDS}
        self._next = shards.last_number(self.folder) + 1
        self._lock = threading.Lock()
        self._closed = False

    def add_queries(self, queries: Iterable[Query]) -> None:
        """Keep the texts with the pool, as far as it does not hold them yet; of several versions the last counts."""
        held = {}
        for shard in shards.list_shards(self.folder, "queries"):
            held.update({query.query_id: query for query in read_records(shard.path, Query)})
        self._waiting["queries"] += [query for query in queries if held.get(query.query_id) != query]

    def add_trial(self, trial: Trial) -> None:
        self._waiting["trials"].append(trial)

    def add_grade(self, grade: Grade) -> None:
        self._waiting["grades"].append(grade)

    def add_attempt(self, attempt: Attempt) -> None:
        self._waiting["attempts"].append(attempt)

    def flush(self) -> None:
        """Write waiting rows; they stay waiting when the disk refuses (OSError), so nothing is lost by a retry.

        Trials go before grades: a grade never stands without its trial. A number is used once, also after a failed
        flush.
        """
        with self._lock:
            number = self._next
            self._next += 1
            for kind, record in shards.KINDS.items():
                if rows := self._waiting[kind]:
                    write_records(shards.shard_path(self.folder, kind, number), rows, record)  # type: ignore[type-var]
                    self._waiting[kind] = []

    def compact(self) -> None:
        """Merge small shards. Takes up to seconds, so call it from a thread; a closed writer does nothing."""
        with self._lock:
            for kind in () if self._closed else shards.KINDS:
                shards.compact(self.folder, kind)

    def close(self) -> None:
        """Flush, after a merge that is on its way; no other merge starts."""
        self._closed = True
        self.flush()


def setting_folder(path: Path) -> Path:
    """A setting's folder itself, or the only one in a pool folder; PoolError when there is none, or several."""
    if (path / "setting.json").exists():
        return path
    settings = sorted(folder.parent for folder in path.glob("*/setting.json"))
    if len(settings) != 1:
        names = ", ".join(folder.name for folder in settings) or "none"
        raise PoolError(f"{path}: expected one setting, found {names}; name one of them")
    return settings[0]

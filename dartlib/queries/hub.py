"""Where a known data set is: a file in the data folder, else the Hub. The data folder is what works offline.

``DARTLIB_DATA_DIR`` names the folder; without it, it is ``data`` in dartlib's cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.files import cache_folder, first_line, replacing, write_text_atomically
from dartlib.queries.catalogue import Source
from dartlib.queries.fields import column_names
from dartlib.queries.files import FORMATS
from dartlib.records import RecordError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 2000  # rows held in memory while a set is stored


def data_folder() -> Path:
    """``$DARTLIB_DATA_DIR``, else ``data`` in ``$DARTLIB_CACHE`` or the user's cache. It need not exist yet."""
    if named := os.environ.get("DARTLIB_DATA_DIR"):
        return Path(named).expanduser()
    return cache_folder() / "data"


def local_file(source: Source) -> Path | None:
    """The set's file in the data folder, by its own name or one of its published names; None when absent."""
    names = [f"{source.name}{suffix}" for suffix in (".parquet", *FORMATS)] + list(source.files)
    return next((path for name in names if (path := data_folder() / name).is_file()), None)


def find_source(source: Source, log: Callable[[str], None] = print) -> Path:
    """The set's file, fetched from the Hub first when it is not in the data folder. Raises RecordError."""
    return local_file(source) or fetch_source(source, log)


def fetch_source(source: Source, log: Callable[[str], None] = print) -> Path:
    """Store a set of the Hub as ``<name>.parquet`` in the data folder, whole or not at all; returns the file.

    Rows are streamed. Repo and mirrors are tried in turn. ``<name>.origin.json`` beside it says which repo and commit
    it came from, how many rows it has, and the licence. Raises RecordError with the reason of every attempt.
    """
    if source.repo is None:
        wanted = data_folder() / (source.files[0] if source.files else f"{source.name}.jsonl")
        raise RecordError(f"{source.name}: not on the Hub ({source.note}): put its file at {wanted}")
    target = data_folder() / f"{source.name}.parquet"
    reasons = []
    for repo in (source.repo, *source.mirrors):
        revision = source.revision if repo == source.repo else "main"
        try:
            commit = _commit(repo, revision)
            log(f"{source.name}: fetching {repo} ({source.split}) to {target}")
            rows = _store(target, source, _stream(source, repo, commit or revision))
        except RecordError:
            raise
        except Exception as error:  # the Hub's clients raise many kinds; each means: not from here
            reasons.append(f"{repo}: {first_line(error)}")
            continue
        about = {"name": source.name, "repo": repo, "commit": commit, "split": source.split, "rows": rows}
        about |= {"licence": source.licence, "citation": source.citation}
        write_text_atomically(target.with_suffix(".origin.json"), json.dumps(about, indent=2) + "\n")
        log(f"{source.name}: {rows:,} rows stored")
        return target
    raise RecordError(
        f"{source.name}: not in {data_folder()} and not to be had from the Hub ({'; '.join(reasons)}): run "
        f"`dartlib prefetch {source.name}` where there is a network, or bring the file: "
        f"{data_folder() / source.name}.jsonl (DARTLIB_DATA_DIR names the folder)"
    )


def probe_source(source: Source) -> list[str]:
    """What is wrong with a set of the Hub: its first row is read and its columns compared; nothing when all is well."""
    if source.repo is None:
        return []
    try:
        row = next(_stream(source, source.repo, source.revision, 1)).to_pylist()[0]
    except Exception as error:
        return [f"{source.repo} cannot be read ({first_line(error)})"]
    return missing_columns(source, row)


def missing_columns(source: Source, row: Mapping[str, Any]) -> list[str]:
    """One line per field of the catalogue for which a row has no column."""
    found = column_names(row)
    lines = []
    for name, candidates in source.columns.items():
        alternative = source.columns.get("solution", ()) if name == "reference_answer" else ()
        alternative = source.columns.get("reference_answer", ()) if name == "solution" else alternative
        if not set(found) & {*candidates, *alternative}:
            lines.append(f"no column {' or '.join(candidates)} for {name} (found: {', '.join(found)})")
    return lines


def _stream(source: Source, repo: str, revision: str, rows: int = _BATCH) -> Iterator[pa.Table]:
    """A Hub set (or a local folder of that layout) as Arrow tables of so many rows; nothing is held or decoded."""
    from datasets import load_dataset

    options: dict[str, Any] = {} if Path(repo).is_dir() else {"revision": revision}
    data = load_dataset(repo, source.config, split=source.split, streaming=True, **options)
    yield from data.with_format("arrow").iter(batch_size=rows)


def _commit(repo: str, revision: str) -> str | None:
    """The full commit behind a revision; None for a local folder."""
    if Path(repo).is_dir():
        return None
    from huggingface_hub import HfApi

    return HfApi().dataset_info(repo, revision=revision, timeout=30).sha


def _store(target: Path, source: Source, tables: Iterator[pa.Table]) -> int:
    """Write the columns that the catalogue maps as Parquet, whole or not at all; returns the number of rows."""
    import pyarrow.parquet as pq

    wanted = {column.split(".")[0] for candidates in source.columns.values() for column in candidates}
    chosen = (table.select([name for name in table.column_names if name in wanted]) for table in tables)
    first = next(chosen, None)
    if first is None:
        raise RecordError(f"{source.name}: the Hub returned no rows")
    count = 0
    with replacing(target) as handle, pq.ParquetWriter(handle, first.schema, compression="zstd") as writer:
        for table in chain([first], chosen):
            writer.write_table(table.cast(first.schema))
            count += table.num_rows
    return count

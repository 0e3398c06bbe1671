"""Recorded pass rates, whoever measured them: one reader for a file, a folder, or a known set.

They stand in for difficulty trials (notebook 02), predict what vanilla sampling gives (01), and play the teacher of a
simulation (06).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dartlib.files import find_path
from dartlib.queries import find_source, get_source, join_texts, load_catalogue
from dartlib.queries.fields import Cell, read_fields, read_level
from dartlib.records import Counts, Query, RecordError

_FIELDS = {
    "name": ("query_id", "id"),
    "query": ("query", "question", "problem"),
    "level": ("level",),
    "pass_rate": ("pass_rate",),
    "correct": ("correct", "tot_n_corrects", "n_difficulty_correct"),
    "trials": ("trials", "tot_n_samples", "n_difficulty"),
}


@dataclass(frozen=True, slots=True)
class PassRate:
    """One query's recorded pass rate. ``counts`` is None where only the rate was recorded."""

    name: str  # its id where it was recorded
    pass_rate: float
    counts: Counts | None
    level: int | None
    query: str | None  # its text, where that was recorded too


def read_pass_rates(source: str | Path, *, log: Callable[[str], None] = print) -> list[PassRate]:
    """Every query's recorded pass rate, from

    * a known set such as ``dart-math-pool-math-query-info``;
    * a file (JSONL, JSON, CSV, Parquet) with ``correct`` and ``trials``, or ``pass_rate``, per query; optional
      ``query_id``, ``query`` (its text) and ``level``;
    * the folder of a finished ``02_synthesis``, by its difficulty trials;
    * a folder with a published pool: Parquet files in ``query-info``, and in ``pool`` for the texts.

    Queries without trials are left out and told through ``log``. Raises RecordError naming file, row and column.
    """
    path = _find(str(source), log)
    files, texts = _folder(path) if path.is_dir() else ([path], {})
    rates: dict[str, PassRate] = {}
    rows = left_out = 0
    for file in files:
        for where, cells in read_fields(file, _FIELDS, required=(("pass_rate", "trials"), ("pass_rate", "correct"))):
            rows += 1
            rate = _pass_rate(where, cells, str(rows), texts)
            if rate is None:
                left_out += 1
            elif rates.setdefault(rate.name, rate) != rate:
                raise RecordError(f"{where}: query {rate.name!r} stood before with another pass rate: keep one row")
    if left_out:
        log(f"{path}: {left_out:,} of {rows:,} queries left out: no trials")
    if not rates:
        raise RecordError(f"{path}: no query with a pass rate")
    return list(rates.values())


def match_pass_rates(rates: Sequence[PassRate], queries: Sequence[Query]) -> dict[str, Counts]:
    """Counts by ``query_id`` for those of ``queries`` that were recorded with counts: by id, else by text.

    Raises RecordError when there is none, for then the wrong file was named.
    """
    ours = {query.query_id for query in queries}
    joined = join_texts([rate.query for rate in rates if rate.query], queries)
    counts = {}
    for rate in rates:
        query_id = rate.name if rate.name in ours else joined.get(rate.query or "", (None, ""))[0]
        if query_id is not None and rate.counts is not None:
            counts[query_id] = rate.counts
    if not counts:
        raise RecordError(
            f"none of the {len(rates)} recorded pass rates belongs to one of the {len(queries)} queries: neither ids "
            "nor texts agree (query-info files of a published pool have no texts: put the pool's files beside them)"
        )
    return counts


def _find(source: str, log: Callable[[str], None]) -> Path:
    if source in load_catalogue():
        return find_source(get_source(source), log)
    try:
        return find_path(source, log)
    except FileNotFoundError as error:
        raise RecordError(f"{error}, and not a known data set") from None


def _folder(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """The files with pass rates in a folder, and the texts of its queries by id."""
    if (outcomes := folder / "outcomes.parquet").is_file():
        return [outcomes], _texts([folder / "queries.parquet"])
    files = sorted((folder / "query-info").rglob("*.parquet"))
    if not files:
        raise RecordError(
            f"{folder}: neither outcomes.parquet of a synthesis nor query-info/*.parquet of a published pool"
        )
    return files, _texts(sorted((folder / "pool").rglob("*.parquet")))


def _texts(files: Sequence[Path]) -> dict[str, str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts: dict[str, str] = {}
    for file in files:
        try:
            for batch in pq.ParquetFile(file).iter_batches(columns=["query_id", "query"]):
                texts.update(zip(batch.column("query_id").to_pylist(), batch.column("query").to_pylist(), strict=True))
        except (pa.ArrowException, OSError, KeyError) as error:
            raise RecordError(f"{file}: no query_id and query to read ({error}): fetch or write it again") from None
    return texts


def _pass_rate(where: str, cells: Mapping[str, Cell], row: str, texts: Mapping[str, str]) -> PassRate | None:
    """One row; None for a query without trials. ``row`` names a query without an id."""
    correct, trials, rate = (_number(where, cells.get(field)) for field in ("correct", "trials", "pass_rate"))
    counts = None
    if trials and correct is not None:
        if not 0 <= correct <= trials or correct % 1 or trials % 1:
            raise RecordError(f"{where}: {correct:g} correct of {trials:g} trials: whole numbers, at most trials")
        counts, rate = Counts(int(correct), int(trials)), correct / trials
    elif trials == 0 or rate is None:
        return None
    if not 0 <= rate <= 1:
        raise RecordError(f"{where}: a pass rate of {rate:g} is not between 0 and 1: correct it or delete the row")
    name = cells["name"].text(where) if "name" in cells else row
    text = cells["query"].text(where) if "query" in cells else texts.get(name)
    return PassRate(name or row, rate, counts, read_level(cells["level"].value) if "level" in cells else None, text)


def _number(where: str, cell: Cell | None) -> float | None:
    if cell is None or cell.value is None or cell.value == "":
        return None
    try:
        return float(cell.value)
    except (TypeError, ValueError, OverflowError):
        raise RecordError(f"{where}: {cell.column} is {str(cell.value)[:40]!r}, expected a number") from None

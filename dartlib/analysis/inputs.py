"""Read what the figures need: the artefacts of a run folder, or any SFT data set. Files are checked by column."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dartlib.files import find_path
from dartlib.queries import Source, find_source, load_catalogue, read_rows
from dartlib.records import STRATEGIES, Query, QueryOutcome, Sample, check_columns, read_schema, read_table

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_COLUMNS = ["query_id", "trial", "level", "verdict"]
TEXT_COLUMNS = ["query_id", "trial", "verdict", "answer", "response"]
ITEM_COLUMNS = ["query_id", "benchmark", "level", "trial", "verdict", "answer", "response"]
LOG_COLUMNS = ["step", "loss", "tokens", "lr", "seconds"]


class AnalysisError(ValueError):
    """A file lacks what a table or figure needs; the message names the file and the fix."""


def find_set(source: str | Path, kind: str, log: Callable[[str], None]) -> tuple[Source | None, Path]:
    """A data set by name or path: its catalogue entry, if it has one, and its file (fetched if need be).

    Raises AnalysisError when there is no such file, and for a known set that holds something else than ``kind``.
    """
    catalogue = load_catalogue()
    known = catalogue.get(str(source))
    if known and known.kind != kind:
        raise AnalysisError(f"{source}: holds {known.kind}, not {kind}: choose another set or a file")
    try:
        return known, find_source(known, log) if known else find_path(source, log)
    except FileNotFoundError as error:
        names = ", ".join(each.name for each in catalogue.values() if each.kind == kind)
        raise AnalysisError(f"{error}, and not a known data set ({names})") from None


def read_queries(path: Path) -> pd.DataFrame:
    """A Parquet file of Query records as a DataFrame; RecordError names a wrong column."""
    return _frame(read_table(path, Query))


def read_outcomes(path: Path) -> pd.DataFrame:
    """A Parquet file of QueryOutcome records (every strategy) as a DataFrame."""
    return _frame(read_table(path, QueryOutcome))


def read_samples(path: Path) -> pd.DataFrame:
    """The trials drawn, with verdicts but without texts, one row each, by query and trial number."""
    return _frame(read_table(path, Sample, SAMPLE_COLUMNS)).sort_values(["query_id", "trial"], ignore_index=True)


def read_texts(path: Path, query_ids: Collection[str]) -> pd.DataFrame:
    """Answers and responses of the trials of a few queries; a large pool is not loaded for it."""
    columns = check_columns(path, Sample, TEXT_COLUMNS)
    frame = _read_columns(path, columns, [("query_id", "in", list(query_ids))])
    return frame.sort_values(["query_id", "trial"], ignore_index=True)


def find_items(run_folder: Path) -> dict[str, Path]:
    """Evaluated models of a run: model name -> its ``items.parquet``, base first, then by strategy and seed."""
    return _by_model(run_folder.glob("04_evaluation/*/items.parquet"))


def read_items(paths: dict[str, Path]) -> pd.DataFrame:
    """Graded replies of all models, with a ``model`` column in front; their benchmark is called ``source`` here."""
    import pandas as pd

    if not paths:
        raise AnalysisError("no evaluated model in the run folder: run the evaluation stage first")
    frames = [_read_columns(path, ITEM_COLUMNS).assign(model=model) for model, path in paths.items()]
    items = pd.concat(frames, ignore_index=True)[["model", *ITEM_COLUMNS]]
    return items.rename(columns={"benchmark": "source"})


def find_training_logs(run_folder: Path) -> dict[str, Path]:
    """Training runs of a run folder: name such as ``vrt-seed1`` -> its ``training_log.jsonl``."""
    return _by_model(run_folder.glob("03_training/*/training_log.jsonl"))


def read_training_logs(paths: dict[str, Path]) -> pd.DataFrame:
    """Training logs of all runs, with a ``run`` column in front."""
    import pandas as pd

    frames = []
    for name, path in paths.items():
        _require_file(path)
        frame = pd.DataFrame([row for _, row in read_rows(path)])
        _require(path, list(frame.columns), LOG_COLUMNS)
        frames.append(frame[LOG_COLUMNS].assign(run=name))
    if not frames:
        raise AnalysisError("no training log in the run folder: run the training stage first")
    return pd.concat(frames, ignore_index=True)[["run", *LOG_COLUMNS]]


def _by_model(paths: Iterable[Path]) -> dict[str, Path]:
    def order(path: Path) -> tuple[int, str]:
        name = path.parent.name
        known = ["base", *STRATEGIES]
        strategy = name.partition("-")[0]
        return (known.index(strategy) if strategy in known else len(known), name)

    return {path.parent.name: path for path in sorted(paths, key=order)}


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _read_columns(path: Path, columns: list[str], filters: list[Any] | None = None) -> pd.DataFrame:
    import pyarrow.parquet as pq

    _require_file(path)
    _require(path, read_schema(path).names, columns)
    return _frame(pq.read_table(path, columns=columns, filters=filters))


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise AnalysisError(f"{path}: no such file; run the stage that writes it first")


def _require(path: Path, found: list[str], wanted: list[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise AnalysisError(f"{path}: column {missing[0]!r} is missing (found: {', '.join(found) or 'none'})")

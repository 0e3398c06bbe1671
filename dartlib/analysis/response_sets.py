"""Any set of responses, whatever its size, as one row per query. DuckDB counts in bounded memory; texts stay on disk.

Reads Parquet directly; JSONL, JSON and CSV are checked row by row and become a temporary Parquet file first. Rows
that cannot be used are never dropped silently: ``ResponseSet.counts`` has them all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dartlib.analysis.inputs import AnalysisError, find_set
from dartlib.analysis.response_rows import arguments_of, connect, plain_columns, run_sql, store_rows, view_of
from dartlib.queries import Source, join_texts
from dartlib.queries.fields import RESPONSE_FIELDS, candidates, read_fields
from dartlib.queries.files import file_ending
from dartlib.records import Query, Verdict, make_query_id

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ResponseSet:
    """What read_responses found.

    ``outcomes``: one row per query with the columns of read_outcomes that apply, and ``query`` (text), ``rows``
    (responses of any verdict), ``characters`` and ``tokens`` of correct responses (tokens NaN where no column has
    them), ``distinct`` (different texts among the correct responses to one wording of the query). ``samples``: one
    row per response with query_id, trial (its number among the query's), level and verdict; None unless the set holds
    wrong responses. Trials stand in the order of the file; where several models answered, in an order shuffled within
    each query, so that the first k trials are k models picked at random. ``counts``: rows read, used, and left out,
    by reason. ``source`` is the file read, ``path`` its rows as Parquet.
    """

    name: str
    source: Path
    path: Path
    columns: Mapping[str, Sequence[str]]
    outcomes: pd.DataFrame
    samples: pd.DataFrame | None
    counts: Mapping[str, int]
    _part: str | None = None
    _identities: Mapping[str, str] = field(default_factory=dict)
    _folder: tempfile.TemporaryDirectory[str] | None = None  # removed with this object

    def texts(self, query_ids: Sequence[str]) -> pd.DataFrame:
        """The responses to a few queries: query_id, trial (numbered as in ``samples``), verdict, response."""
        wanted = {text: identity for text, identity in self._identities.items() if identity in set(query_ids)}
        with connect() as connection:
            view = view_of(self.path, self.columns, self._part)
            chosen = f"({view}) WHERE usable AND key IN (SELECT unnest(?))"
            sql = f"SELECT key, correct, response FROM {chosen} ORDER BY {_ORDERS[self.counts['models'] > 1]}"
            frame = run_sql(connection, self.source, sql, [*arguments_of(self.path, self._part), list(wanted)])
        frame = frame.assign(query_id=frame["key"].map(wanted), verdict=_verdicts(frame["correct"]))
        frame["trial"] = frame.groupby("query_id").cumcount()
        return frame[["query_id", "trial", "verdict", "response"]].sort_values(["query_id", "trial"], ignore_index=True)

    def sampled_texts(self, rows: int, seed: int) -> pd.DataFrame:
        """``rows`` correct responses chosen by the seed alone: query_id, response."""
        with connect() as connection:
            arguments = arguments_of(self.path, self._part)
            view = f"({view_of(self.path, self.columns, self._part)}) WHERE correct AND usable"
            chosen = f"SELECT place FROM {view} ORDER BY hash(place + ?), place LIMIT ?"
            sql = f"SELECT key, response FROM {view} AND place IN ({chosen}) ORDER BY place"
            frame = run_sql(connection, self.source, sql, [*arguments, *arguments, 1_000_003 * (seed + 1), rows])
        frame["query_id"] = frame["key"].map(self._identities)
        return frame.dropna(subset="query_id")[["query_id", "response"]].reset_index(drop=True)


def read_responses(
    source: str | Path,
    *,
    asked: Sequence[Query] = (),
    columns: Mapping[str, str] | None = None,
    name: str | None = None,
    log: Callable[[str], None] = print,
) -> ResponseSet:
    """Count the responses of a file, or of a known set of the catalogue, per query.

    ``asked`` are all queries that could have been answered: then unanswered ones count, levels come from them, and
    responses are attributed by text (exact after stripping, then normalised; a rephrased query by the original it
    names). Without it a set cannot tell whom it misses. ``columns`` maps a field (query, response, original_query,
    correct, level, pass_rate, n_tokens) to the file's column or path. Where ``correct`` (true or false, or a verdict)
    is known, only correct responses are counted as data. Raises RecordError or AnalysisError naming file, row, field.
    """
    known, file = find_set(source, "responses", log)
    title, part = name or (known.name if known else file.stem), known.part if known else None
    path, found, folder = _as_parquet(file, known, columns or {})
    with connect() as connection:
        view, arguments = view_of(path, found, part), arguments_of(path, part)
        texts = run_sql(connection, file, _PER_TEXT.format(view=view), arguments)
        if not int(texts["rows"].sum()):
            raise AnalysisError(f"{source}: holds no responses: give one row per response, with its query")
        _refuse_unusable(file, texts)
        wrong = int(texts["usable"].sum() - texts["n_correct"].sum())
        models = int(texts["models"].max())
        order = _ORDERS[models > 1]
        rows = run_sql(connection, file, _PER_ROW.format(view=view, order=order), arguments) if wrong else None
    joined = join_texts(texts["key"].dropna(), asked) if asked else {}
    outcomes, counts, identities = _per_query(texts, asked, joined, title)
    counts["models"] = models
    samples = _samples(rows, texts, identities, outcomes) if rows is not None else None
    samples = None if samples is None or samples.empty else samples
    for line in _remarks(title, counts):
        log(line)
    return ResponseSet(title, file, path, found, outcomes, samples, counts, part, identities, folder)


def _as_parquet(
    file: Path, known: Source | None, columns: Mapping[str, str]
) -> tuple[Path, dict[str, tuple[str, ...]], tempfile.TemporaryDirectory[str] | None]:
    """The rows as Parquet, which columns of it hold which field, and the folder it lies in if it had to be made."""
    fields: Mapping[str, Sequence[str]] = RESPONSE_FIELDS
    if known:
        fields = {key: value for key, value in known.columns.items() if key in ("part", *RESPONSE_FIELDS)}
    wanted = candidates(fields, {} if known else columns)
    somewhere = [key for key in (known.everywhere if known else columns) if wanted.get(key)]
    found = plain_columns(file, wanted) if file_ending(file) == ".parquet" else None
    if found is not None and found.keys() >= set(somewhere):
        return file, found, None
    folder = tempfile.TemporaryDirectory(prefix="dartlib-responses-")
    path, needed = Path(folder.name) / "rows.parquet", (("query",), ("response",))
    rows = read_fields(file, fields, required=needed, columns=None if known else columns, somewhere=somewhere)
    return path, store_rows(rows, path, fields), folder


_PER_TEXT = """
SELECT key, hash(key) AS code, count(*) AS rows, count(*) FILTER (usable) AS usable,
       count(*) FILTER (no_query) AS no_query, count(*) FILTER (no_response AND NOT no_query) AS no_response,
       count(*) FILTER (no_verdict AND NOT no_query AND NOT no_response) AS no_verdict,
       count(*) FILTER (usable AND rephrased) AS rephrased, count(*) FILTER (usable AND correct) AS n_correct,
       sum(characters) FILTER (usable AND correct) AS characters, sum(tokens) FILTER (usable AND correct) AS tokens,
       count(DISTINCT text_code) FILTER (usable AND correct) AS different,
       min(level) AS level, avg(pass_rate) AS pass_rate,
       count(*) FILTER (pass_rate NOT BETWEEN 0 AND 1) AS wild, count(DISTINCT model) AS models
FROM ({view}) GROUP BY key"""
_PER_ROW = "SELECT hash(key) AS code, correct FROM ({view}) WHERE usable ORDER BY {order}"
_ORDERS = {False: "place", True: "hash(key || model), place"}


def _refuse_unusable(file: Path, texts: pd.DataFrame) -> None:
    """AnalysisError where no row may be counted, or a pass rate is none."""
    if not texts["usable"].any():
        reasons = {"a query": "no_query", "a response": "no_response", "a known verdict": "no_verdict"}
        why = ", ".join(f"{int(texts[column].sum()):,} without {what}" for what, column in reasons.items())
        raise AnalysisError(f"{file}: none of its {int(texts['rows'].sum()):,} rows can be used: {why}")
    if texts["wild"].any():
        first = texts.loc[texts["wild"] > 0, "key"].iloc[0]
        which = f"{int(texts['wild'].sum()):,} rows, first those of query {str(first)[:60]!r}"
        raise AnalysisError(f"{file}: a pass rate is not between 0 and 1 in {which}: correct it or leave it empty")


_TOTALS = ("rows", "usable", "no_query", "no_response", "no_verdict", "rephrased")


def _per_query(
    texts: pd.DataFrame, asked: Sequence[Query], joined: Mapping[str, tuple[str, str]], name: str
) -> tuple[pd.DataFrame, dict[str, int], dict[str, str]]:
    """Sums per query, the counts of the report, and the id of every text that was used."""
    import pandas as pd

    total = {column: int(texts[column].sum()) for column in _TOTALS}
    texts = texts[texts["usable"] > 0]
    own_id = partial(make_query_id, name, "1")
    used = [joined[key][0] if key in joined else (None if asked else own_id(key)) for key in texts["key"]]
    how = [joined[key][1] if key in joined else "" for key in texts["key"]]
    texts = texts.assign(query_id=pd.Series(used, texts.index, dtype=object), how=how)
    lost = texts[texts["query_id"].isna()]
    grouped = texts.dropna(subset="query_id").groupby("query_id", sort=False)
    summed = grouped[["usable", "n_correct", "characters", "different"]].sum()
    summed["tokens"] = grouped["tokens"].sum(min_count=1)
    summed["level"], summed["pass_rate"] = grouped["level"].min(), grouped["pass_rate"].mean()
    if asked:
        frame = pd.DataFrame({"query_id": q.query_id, "query": q.query, "level": q.level} for q in asked)
        frame = frame.merge(summed.drop(columns="level"), how="left", left_on="query_id", right_index=True)
    else:
        frame = summed.assign(query=grouped["key"].first().str.strip()).reset_index()
    sums = ["usable", "n_correct", "characters", "different"]
    frame[sums] = frame[sums].fillna(0).astype("int64")
    frame["fail_rate"] = 1 - frame["pass_rate"].astype(float)
    frame = frame.rename(columns={"usable": "rows", "different": "distinct"}).drop(columns="pass_rate")
    frame = frame.assign(strategy=name, quota=float("nan"), status="drawn")
    counts = {
        "rows": total["rows"],
        "without a query": total["no_query"],
        "without a response": total["no_response"],
        "without a known verdict": total["no_verdict"],
        "rephrased, counted for their original": total["rephrased"],
        "matched exactly": int(texts.loc[texts["how"] == "exact", "usable"].sum()),
        "matched after normalising": int(texts.loc[texts["how"] == "normalised", "usable"].sum()),
        "to none of the queries asked": int(lost["usable"].sum()),
        "wrong": int(frame["rows"].sum() - frame["n_correct"].sum()),
        "correct": int(frame["n_correct"].sum()),
        "correct, but a repeat of another response to its query": int((frame["n_correct"] - frame["distinct"]).sum()),
        "queries without a level": int(frame["level"].isna().sum()),
    }
    identities = dict(zip(texts["key"], texts["query_id"], strict=True))
    return frame, counts, {key: value for key, value in identities.items() if value is not None}


def held_out_outcomes(samples: pd.DataFrame, name: str) -> pd.DataFrame:
    """Outcomes with a fail rate that luck cannot favour: half of a query's trials measures it, the rest is counted.

    Grouping queries by the very responses that are counted would be a tautology. Columns as in read_outcomes, with
    ``n_correct`` and ``n_trials`` of the second half and no level; queries with a single trial are left out (all, where
    a set holds one response per query: an empty frame).
    """
    size = samples.groupby("query_id")["trial"].transform("size")
    frame = samples.assign(correct=samples["verdict"] == Verdict.CORRECT.value, first=samples["trial"] < size // 2)
    first = frame[frame["first"]].groupby("query_id")["correct"].agg(["sum", "size"])
    second = frame[~frame["first"]].groupby("query_id")["correct"].agg(["sum", "size"]).loc[first.index]
    outcomes = first.reset_index()[["query_id"]].assign(
        strategy=name,
        level=float("nan"),
        fail_rate=(1 - first["sum"] / first["size"]).to_numpy(),
        n_trials=second["size"].to_numpy(),
        n_correct=second["sum"].to_numpy(),
        quota=float("nan"),
        status="drawn",
    )
    return outcomes


def _samples(
    rows: pd.DataFrame, texts: pd.DataFrame, identities: Mapping[str, str], outcomes: pd.DataFrame
) -> pd.DataFrame:
    known = {code: identities.get(key) for code, key in zip(texts["code"], texts["key"], strict=True)}
    frame = rows.assign(query_id=rows["code"].map(known), verdict=_verdicts(rows["correct"])).dropna(subset="query_id")
    frame["trial"] = frame.groupby("query_id").cumcount()
    frame["level"] = frame["query_id"].map(outcomes.set_index("query_id")["level"])
    return frame[["query_id", "trial", "level", "verdict"]].sort_values(["query_id", "trial"], ignore_index=True)


def _verdicts(correct: pd.Series) -> pd.Series:
    return correct.map({True: Verdict.CORRECT.value, False: Verdict.WRONG.value})


def _remarks(name: str, counts: Mapping[str, int]) -> Iterator[str]:
    for what in ("without a query", "without a response", "without a known verdict", "to none of the queries asked"):
        if counts[what]:
            yield f"{name}: {counts[what]:,} of {counts['rows']:,} rows left out: {what}"

"""The catalogue of known data sets: catalogue.yaml, read and checked.

An entry says where a set is (repo, revision, config, split, mirrors, names of its file), how to read it (columns
and rules), what is known of it (rows, repeated questions), and under which licence and citation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from dartlib.queries.ladder import LADDERS
from dartlib.records import RecordError, did_you_mean

KINDS: dict[str, tuple[str, ...]] = {  # kind -> fields that an entry of it must map
    "queries": ("query",),
    "benchmark": ("query",),
    "responses": ("query", "response"),
    "rates": ("id", "trials", "correct"),
}

OPEN_LICENCES = ("MIT", "Apache-2.0")  # as the catalogue spells them, with nothing added


@dataclass(frozen=True, slots=True)
class Source:
    """One known data set. ``repo`` None: not on the Hub, only as a file in DARTLIB_DATA_DIR.

    Rules of reading: ``levels`` gives a level to questions without one, by the first 16 hex digits of the sha256 of
    the stripped text; ``answer_types`` renames the set's own types (other types become ``expression``);
    ``number_tolerance`` is the tolerance of numbers without one; for the set's types in ``rounded`` it is half a
    unit of the reference's last digit; ``part`` keeps the rows whose column ``part`` says so. ``repeats`` is the
    number of questions asked more than once.
    """

    name: str
    kind: str
    columns: Mapping[str, tuple[str, ...]]
    licence: str
    citation: str
    repo: str | None = None
    revision: str = "main"
    config: str | None = None
    split: str = "train"
    mirrors: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: int | None = None
    repeats: int | None = None
    version: str = "1"
    part: str | None = None
    levels: Mapping[str, int] = field(default_factory=dict)
    answer_types: Mapping[str, str] = field(default_factory=dict)
    number_tolerance: float | None = None
    rounded: tuple[str, ...] = ()
    note: str = ""

    @property
    def everywhere(self) -> tuple[str, ...]:
        """Fields that every copy of the set has: those with one column (a solution may stand for a reference)."""
        return tuple(field for field, columns in self.columns.items() if len(columns) == 1 and field != "solution")


@cache
def load_catalogue() -> dict[str, Source]:
    """Every known data set by name, in the order of the file."""
    values = yaml.safe_load(files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8"))
    return {name: parse_source(name, entry) for name, entry in values.items()}


def get_source(name: str) -> Source:
    """One known data set; RecordError names the closest one when there is none of that name."""
    catalogue = load_catalogue()
    if name not in catalogue:
        raise RecordError(f"{name}: no such known data set; {did_you_mean(name, catalogue)}")
    return catalogue[name]


def why_withheld(source: str) -> str:
    """Why texts of a source must not be passed on; empty for ladders and known questions under an open licence.

    A set of responses holds the questions of others, and of a file of one's own no licence is known.
    """
    known = load_catalogue().get(source)
    if known and known.kind not in ("queries", "benchmark"):
        return f"{source} holds the questions of other sets"
    if known:
        return "" if known.licence in OPEN_LICENCES else f"licence of {source}: {known.licence}"
    ladder, _, name = source.partition("-")
    return "" if ladder == "ladder" and name in LADDERS else f"no licence is known for {source}"


def benchmark_names() -> list[str]:
    """The benchmarks of the paper, in the catalogue's order."""
    return [name for name, source in load_catalogue().items() if source.kind == "benchmark"]


def parse_source(name: str, entry: Mapping[str, Any]) -> Source:
    """Build a Source from a YAML entry; RecordError names entry and key."""
    known = {item.name for item in fields(Source)} - {"name"}
    if unknown := set(entry) - known:
        raise RecordError(f"catalogue, {name}: unknown key {sorted(unknown)[0]!r}")
    if missing := {"kind", "columns", "licence", "citation"} - set(entry):
        raise RecordError(f"catalogue, {name}: missing key {sorted(missing)[0]!r}")
    if entry["kind"] not in KINDS:
        raise RecordError(f"catalogue, {name}: kind {entry['kind']!r} is none of {', '.join(KINDS)}")
    columns = {field: _several(value) for field, value in entry["columns"].items()}
    if unmapped := set(KINDS[entry["kind"]]) - set(columns):
        raise RecordError(f"catalogue, {name}: no column for {sorted(unmapped)[0]!r}")
    lists = {key: tuple(entry[key]) for key in ("mirrors", "files", "rounded") if key in entry}
    levels = {str(key): int(level) for key, level in entry.get("levels", {}).items()}
    return Source(name=name, **{**entry, **lists, "columns": columns, "levels": levels})


def _several(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
